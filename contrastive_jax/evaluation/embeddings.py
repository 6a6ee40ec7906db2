"""Geometry of embeddings: alignment, uniformity, rank, isotropy, signs of collapse.

All take floating-point [n, d] and all but `plane` can be jitted. `uniformity` is
computed in tiles, for sets of any size. A wrong dtype raises TypeError and a wrong
shape ValueError, naming the argument.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from contrastive_jax import numerics, similarity
from contrastive_jax.evaluation import checks

Embeddings = Float[Array | np.ndarray, "n d"]


def alignment(
    x: Embeddings, y: Embeddings, *, alpha: numerics.Number = 2.0
) -> Float[Array, ""]:
    """Mean distance of positive pairs on the unit sphere, to a power; lower is better.

        mean_i || x_i / ||x_i|| - y_i / ||y_i|| ||^alpha

    Args:
      x: embeddings of one view.
      y: embeddings of the other.
      alpha: the power, above 0.

    Raises:
      ValueError: an alpha not above 0.

    Examples:
      >>> alignment(jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 1.0]])).round(4)
      Array(2., dtype=float32)

    References:
      Wang and Isola 2020, arXiv:2005.10242, section 4.1.
    """
    numerics.check_shapes(x=(x, "n d"), y=(y, "n d"))
    numerics.check_positive(alpha=alpha)
    x, y = _unit(x, "x"), _unit(y, "y")
    return jnp.mean(jnp.sum((x - y) ** 2, axis=-1) ** (alpha / 2))


def uniformity(
    x: Embeddings, *, t: numerics.Number = 2.0, chunk: int = 1024
) -> Float[Array, ""]:
    """Log mean Gaussian potential of pairs on the unit sphere; lower is more uniform.

        log mean_{i < j} exp(-t || x_i / ||x_i|| - x_j / ||x_j|| ||^2)          (nats)

    At most 0, which it is when all rows have one direction. A row of zeros stays at the
    origin.

    Args:
      x: embeddings, at least 2.
      t: width of the potential, above 0.
      chunk: rows of a tile; [chunk, n] distances exist at a time.

    Raises:
      ValueError: fewer than two rows, a t not above 0.

    Examples:
      >>> uniformity(jnp.array([[1.0, 0.0], [0.0, 3.0]])).round(4)
      Array(-4., dtype=float32)

    References:
      Wang and Isola 2020, arXiv:2005.10242, section 4.1.
    """
    numerics.check_shapes(x=(x, "n d"))
    numerics.check_positive(t=t)
    if len(x) < 2:
        raise ValueError(f"x: expected at least two rows, got {len(x)}")
    return _uniformity(_unit(x, "x"), t, chunk)


@functools.partial(jax.jit, static_argnames="chunk")
def _uniformity(x, t, chunk):
    n = len(x)
    norms = jnp.sum(x * x, axis=1)

    def row(args):
        i, anchor = args
        square = norms[i] + norms - 2 * similarity.matmul(anchor[None, :], x)[0]
        potentials = -t * jnp.maximum(square, 0)
        return numerics.masked_logsumexp(potentials, jnp.arange(n) != i)

    rows = jax.lax.map(row, (jnp.arange(n), x), batch_size=chunk)
    return jnp.minimum(jax.nn.logsumexp(rows) - jnp.log(n * (n - 1.0)), 0)


def average_cosine(x: Embeddings) -> Float[Array, ""]:
    """Mean cosine between different rows, in [-1, 1]; 0 for isotropic embeddings.

        ( || sum_i x_i / ||x_i|| ||^2 - number of non-zero rows ) / (n (n - 1))

    Args:
      x: embeddings, at least 2.

    Raises:
      ValueError: fewer than two rows.

    Examples:
      >>> average_cosine(jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])).round(4)
      Array(0.3333, dtype=float32)

    References:
      Ethayarajh 2019, arXiv:1909.00512 (anisotropy).
    """
    numerics.check_shapes(x=(x, "n d"))
    if len(x) < 2:
        raise ValueError(f"x: expected at least two rows, got {len(x)}")
    return _average_cosine(x)


@jax.jit
def _average_cosine(x):
    """`average_cosine` as one program."""
    x, n = _unit(x, "x"), len(x)
    return (jnp.sum(jnp.sum(x, axis=0) ** 2) - jnp.sum(x * x)) / (n * (n - 1.0))


def isotropy(x: Embeddings) -> Float[Array, ""]:
    """Ratio of the least to the largest partition function, in (0, 1]; 1 is isotropic.

        min_c Z(c) / max_c Z(c),  Z(c) = sum_i exp(c . x_i),
        c over the eigenvectors of x^T x and their negatives

    Args:
      x: embeddings, as they are: neither centered nor normalized here.

    Examples:
      >>> x = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
      >>> isotropy(x).round(4)
      Array(1., dtype=float32)

    References:
      Mu and Viswanath 2018, arXiv:1702.01417.

    Deviations:
      The paper takes eigenvectors, whose sign is free; both signs make the value
      unique.
    """
    numerics.check_shapes(x=(x, "n d"))
    x = numerics.at_least_f32(x, "x")
    _, vectors = jnp.linalg.eigh(similarity.matmul(x.T, x.T))
    projections = similarity.matmul(x, vectors.T)
    both = jnp.concatenate([projections, -projections], axis=1)
    log_partition = jax.nn.logsumexp(both, axis=0)
    return jnp.exp(jnp.min(log_partition) - jnp.max(log_partition))


def effective_rank(x: Embeddings, *, eps: numerics.Number = 0.0) -> Float[Array, ""]:
    """Exponential of the entropy of the singular values (RankMe), in [1, min(n, d)].

        exp( -sum_k p_k log p_k ),  p_k = s_k / sum_j s_j

    1 for rows of zeros.

    Args:
      x: embeddings, as they are: not centered here.
      eps: added to each share before they are scaled to sum 1, >= 0.

    Examples:
      >>> round(float(effective_rank(jnp.eye(3))), 3)
      3.0

    References:
      Garrido et al. 2023, arXiv:2210.02885 (RankMe); Roy and Vetterli 2007 without eps.

    Deviations:
      RankMe adds 1e-7 to the shares to keep the logarithm finite, and so exceeds d a
      little (512.14 of 512). Here a share of 0 adds 0, and eps is 0.
    """
    numerics.check_shapes(x=(x, "n d"))
    numerics.check_nonnegative(eps=eps)
    return _effective_rank(x, eps)


@jax.jit
def _effective_rank(x, eps):
    """`effective_rank` as one program."""
    x = numerics.at_least_f32(x, "x")
    x = x / similarity.unit_of_length(x)
    values = jnp.linalg.svd(x, compute_uv=False)
    total = jnp.sum(values)
    p = jnp.where(total == 0, 0, values / total + eps)
    p = p / jnp.maximum(jnp.sum(p), 1)
    rank = jnp.exp(jnp.sum(jax.scipy.special.entr(p)))
    return similarity.within(rank, 1.0, float(min(x.shape)))


def numerical_rank(x: Embeddings, *, tol: float | None = None) -> Int[Array, ""]:
    """Number of singular values above a tolerance.

    Args:
      x: embeddings, as they are: not centered here.
      tol: relative to the largest singular value; max(n, d) times the rounding unit
        when None.

    Examples:
      >>> numerical_rank(jnp.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))
      Array(1, dtype=int32)
    """
    numerics.check_shapes(x=(x, "n d"))
    x = numerics.at_least_f32(x, "x")
    values = jnp.linalg.svd(x, compute_uv=False)
    if tol is None:
        tol = float(max(x.shape) * jnp.finfo(x.dtype).eps)
    return jnp.sum(values > tol * jnp.max(values))


def collapse_std(x: Embeddings) -> Float[Array, ""]:
    """Mean standard deviation per channel of the normalized embeddings.

        mean_k std_i ( x_ik / ||x_i|| )

    1 / sqrt(d) for isotropic embeddings, 0 when all rows have one direction.

    Args:
      x: embeddings.

    Examples:
      >>> collapse_std(jnp.array([[1.0, 0.0], [3.0, 0.0]]))
      Array(0., dtype=float32)

    References:
      Chen and He 2021, arXiv:2011.10566, section 4.1.
    """
    numerics.check_shapes(x=(x, "n d"))
    return jnp.mean(jnp.std(_unit(x, "x"), axis=0))


def _unit(x, name):
    """Rows of length 1, in at least float32."""
    return similarity.l2_normalize(numerics.at_least_f32(x, name))


def plane(features: Embeddings, *, seed: int = 0) -> Float[np.ndarray, "n 2"]:
    """Two-dimensional map of embeddings, for `report.maps.embedding_map`.

    t-SNE of the normalized rows, started from PCA; below 500 rows PCA alone.

    Args:
      features: a few hundred to a few thousand rows.
      seed: seed of the map.

    Examples:
      >>> plane(np.eye(4)).shape
      (4, 2)
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    numerics.check_shapes(features=(features, "n d"))
    rows = checks.reals(features, "features")
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    with checks.few_threads(rows):
        if len(rows) < 500:
            return PCA(2, random_state=seed).fit_transform(rows)
        return TSNE(init="pca", random_state=seed).fit_transform(rows)
