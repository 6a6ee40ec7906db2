"""Whitening: batch and running moments, ZCA and Cholesky, groups of channels.

Rows are whitened as `(x - mean) @ matrix`, with moments over the rows of all devices.
"""

import functools
from typing import Literal

import chex
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray

from contrastive_jax import numerics
from contrastive_jax.states import ema


@chex.dataclass(frozen=True)
class Moments:
    """First and second moments of features.

    Attributes:
      mean: mean of each channel.
      covariance: covariance between channels.
    """

    mean: Float[Array, " d"]
    covariance: Float[Array, "d d"]


def moments_init(dim: int) -> Moments:
    """Mean 0 and covariance 1: whitening with them changes nothing.

    Args:
      dim: number of channels d.

    Examples:
      >>> moments_init(2).covariance
      Array([[1., 0.],
             [0., 1.]], dtype=float32)
    """
    numerics.check_positive(dim=dim)
    return Moments(mean=jnp.zeros(dim), covariance=jnp.eye(dim))


def batch_moments(
    x: Float[Array, "n d"],
    *,
    where: Bool[Array, " n"] | None = None,
    ddof: int = 0,
) -> Moments:
    """Mean and covariance of the rows that count.

        covariance = sum_i (x_i - mean)^T (x_i - mean) / (n - ddof)

    With no more than `ddof` rows the divisor is 1. Gradients flow.

    Args:
      x: features.
      where: rows that count; all when None.
      ddof: 0 for the covariance of the batch, 1 for the unbiased estimate.

    Examples:
      >>> batch_moments(jnp.array([[0.0, 0.0], [2.0, 4.0]])).covariance
      Array([[1., 2.],
             [2., 4.]], dtype=float32)
    """
    numerics.check_shapes(x=(x, "n d"), where=(where, "n"))
    x = numerics.at_least_f32(x, "x")
    where = numerics.mask_or_all(where, x.shape[:1])[:, None]
    mean = numerics.channel_means(x, where)
    centered = jnp.where(where, x - mean[None, :], 0)
    divisor = jnp.maximum(jnp.sum(where) - ddof, 1)
    return Moments(mean=mean, covariance=_matmul(centered.T, centered) / divisor)


def moments_update(moments: Moments, new: Moments, *, decay: float | Array) -> Moments:
    """Moving average of the moments towards those of a batch.

        mean <- decay mean + (1 - decay) new mean,  covariance alike

    Args:
      moments: the running moments before.
      new: moments of the batch, over all devices.
      decay: in [0, 1].

    Examples:
      >>> batch = batch_moments(jnp.array([[0.0], [2.0]]))
      >>> moments_update(moments_init(1), batch, decay=0.75).mean
      Array([0.25], dtype=float32)
    """
    return ema.ema_update(moments, new, decay=decay)


def whitening_matrix(
    covariance: Float[Array, "d d"],
    *,
    method: Literal["eigh", "newton", "cholesky"] = "eigh",
    eps: float | Array = 0.0,
    num_iters: int = 5,
) -> Float[Array, "d d"]:
    """Whitening matrix: W with W^T (covariance + eps I) W = I.

        eigh:     W = U diag(1 / sqrt(s + eps)) U^T,  covariance = U diag(s) U^T  (ZCA)
        newton:   the same by P <- (3 P - P^3 C / tr C) / 2 from P = I, where
                  C = covariance + eps I and W = P / sqrt(tr C)
        cholesky: W = inverse(L)^T,  L L^T = covariance + eps I

    Eigenvalues below the level of rounding, relative to the largest variance, are
    raised to it, so that directions without variance do not give infinities. The
    gradient of "eigh" is that of the matrix function: finite when eigenvalues are
    equal.

    Args:
      covariance: symmetric positive semidefinite.
      method: algorithm. "newton" needs matrix products only; with few iterations it
        whitens the strong directions only.
      eps: added to the diagonal, at least 0.
      num_iters: Newton iterations.

    Raises:
      ValueError: a negative eps, an unknown method.

    Examples:
      >>> whitening_matrix(jnp.diag(jnp.array([4.0, 25.0]))).round(3)
      Array([[0.5, 0. ],
             [0. , 0.2]], dtype=float32)

    References:
      Huang et al. 2019, arXiv:1904.03441, algorithm 1 (newton); Ermolov et
      al. 2021, arXiv:2007.06346 (cholesky).
    """
    numerics.check_shapes(covariance=(covariance, "d d"))
    covariance = numerics.at_least_f32(covariance, "covariance")
    if not isinstance(eps, jax.core.Tracer) and not eps >= 0:
        raise ValueError(f"eps: expected a number >= 0, got {eps}")
    identity = jnp.eye(len(covariance), dtype=covariance.dtype)
    covariance = covariance + eps * identity
    size, _ = numerics.unit_size(jnp.sqrt(jnp.diagonal(covariance)))
    covariance = covariance / size / size  # whatever the unit of the features is
    # The order of rounding errors of a sum of squares; 1e-12 when all is 0.
    trace = jnp.trace(covariance)
    floor = jnp.where(trace == 0, 1e-12, jnp.finfo(covariance.dtype).eps * trace)
    if method == "eigh":
        root = _inverse_sqrt(covariance, jax.lax.stop_gradient(floor))
        return root / size
    covariance = covariance + floor * identity
    if method == "cholesky":
        factor = jnp.linalg.cholesky(covariance) * size
        return jax.scipy.linalg.solve_triangular(factor, identity, lower=True).T
    if method == "newton":
        trace = jnp.trace(covariance)
        # The iteration in P alone loses its symmetry to rounding and diverges; carried
        # along with scaled @ P it is the same numbers and stable.
        image, root = covariance / trace, identity
        for _ in range(num_iters):
            factor = (3 * identity - _matmul(root, image)) / 2
            image, root = _matmul(image, factor), _matmul(factor, root)
        return root / jnp.sqrt(trace) / size
    raise ValueError(f'method: expected "eigh", "newton" or "cholesky", got {method!r}')


def group_whiten(
    x: Float[Array, "n d"],
    permutation: Integer[Array, " d"] | None = None,
    *,
    num_groups: int = 1,
    method: Literal["eigh", "newton", "cholesky"] = "eigh",
    eps: float | Array = 0.0,
    ddof: int = 0,
    num_iters: int = 5,
    stop_gradient: bool = True,
) -> Float[Array, "n d"]:
    """Batch whitening within groups of channels.

        group g holds the channels permutation[g d/G : (g + 1) d/G] and becomes
        (x_g - mean_g) W_g,  W_g = whitening_matrix(covariance_g)

    The channels return in their own order.

    Args:
      x: features of the whole batch.
      permutation: order in which channels fill the groups; their own order when None.
      num_groups: number of groups G, a divisor of d.
      method: see `whitening_matrix`.
      eps: see `whitening_matrix`.
      ddof: see `batch_moments`.
      num_iters: see `whitening_matrix`.
      stop_gradient: whether gradients stop at W_g; they always flow through the mean.

    Raises:
      ValueError: groups that do not divide d, a known order with a channel twice.

    Examples:
      >>> x = jnp.array([[0.0, 1.0], [4.0, 3.0]])
      >>> group_whiten(x, num_groups=2).round(3)
      Array([[-1., -1.],
             [ 1.,  1.]], dtype=float32)

    References:
      Zhuo et al. 2023, arXiv:2305.17746, section 3.2.

    Deviations:
      The paper's text does not say that no gradient flows through W_g; its code cuts
      it, and so does the default here.
    """
    sizes = numerics.check_shapes(x=(x, "n d"), permutation=(permutation, "d"))
    n, d = sizes["n"], sizes["d"]
    x = numerics.at_least_f32(x, "x")
    if num_groups < 1 or d % num_groups:
        raise ValueError(f"num_groups: expected a divisor of d = {d}, got {num_groups}")
    if permutation is None:
        permutation = jnp.arange(d)
    permutation = check_permutations(permutation, "permutation")

    def whiten(group):
        # Squares of what is tiny would be 0.
        size, small = numerics.unit_size(group, eps)
        moments = batch_moments(group / size, ddof=ddof)
        matrix = whitening_matrix(
            moments.covariance,
            method=method,
            eps=small,
            num_iters=num_iters,
        )
        group = group / size
        matrix = jax.lax.stop_gradient(matrix) if stop_gradient else matrix
        return _matmul(group - moments.mean[None, :], matrix)

    groups = x[:, permutation].reshape(n, num_groups, d // num_groups)
    groups = jax.vmap(whiten, in_axes=1, out_axes=1)(groups)
    return groups.reshape(n, d)[:, jnp.argsort(permutation)]


def shuffled_group_whiten(
    views: Float[Array, "v n d"], permutations: Integer[Array, "v d"], **options
) -> Float[Array, "v n d"]:
    """`group_whiten` of each view with its own permutation and statistics.

    Args:
      views: features of v views of a batch.
      permutations: one order of the channels per view, from `channel_permutations`.
      **options: those of `group_whiten`.

    Examples:
      >>> views = jax.random.normal(jax.random.key(0), (3, 8, 4))
      >>> orders = channel_permutations(jax.random.key(1), 3, 4)
      >>> shuffled_group_whiten(views, orders, num_groups=2).shape
      (3, 8, 4)

    References:
      Zhuo et al. 2023, arXiv:2305.17746, section 3.2.
    """
    numerics.check_shapes(views=(views, "v n d"), permutations=(permutations, "v d"))
    permutations = check_permutations(permutations, "permutations")
    return jax.vmap(functools.partial(group_whiten, **options))(views, permutations)


def check_permutations(x: Integer[Array, "*v d"], name: str) -> Integer[Array, "*v d"]:
    """Orders of d channels, as far as they are known.

    Raises:
      TypeError: naming the argument, for anything but integers.
      ValueError: naming the argument, for a row without some of the channels.
    """
    x = numerics.check_integer(x, name)
    if isinstance(x, jax.core.Tracer):
        return x
    order, every = np.sort(np.asarray(x), axis=-1), np.arange(x.shape[-1])
    if not np.all(order == every):
        raise ValueError(
            f"{name}: expected each of 0 to {x.shape[-1] - 1} once in every row, got "
            f"{np.asarray(x).tolist()}"
        )
    return x


def channel_permutations(
    rng: PRNGKeyArray, num_views: int, dim: int
) -> Integer[Array, "v d"]:
    """One random order of the channels for each view.

    Args:
      rng: random key.
      num_views: number of orders v.
      dim: number of channels d.

    Examples:
      >>> channel_permutations(jax.random.key(0), 2, 5).sort(axis=1)
      Array([[0, 1, 2, 3, 4],
             [0, 1, 2, 3, 4]], dtype=int32)
    """
    numerics.check_positive(num_views=num_views, dim=dim)
    keys = jax.random.split(rng, num_views)
    return jax.vmap(lambda key: jax.random.permutation(key, dim))(keys)


@jax.custom_jvp
def _inverse_sqrt(a: Float[Array, "d d"], floor: Float[Array, ""]):
    """a^(-1/2) of a symmetric matrix, eigenvalues raised to at least `floor`."""
    values, vectors = jnp.linalg.eigh(a)
    roots = jnp.sqrt(jnp.maximum(values, floor))
    return _matmul(vectors / roots[None, :], vectors.T)


@_inverse_sqrt.defjvp
def _inverse_sqrt_jvp(primals, tangents):
    """Divided differences of 1 / sqrt(s) in the eigenbasis: no 1 / (s_i - s_j)."""
    a, floor = primals
    values, vectors = jnp.linalg.eigh(a)
    raised = values < floor
    roots = jnp.sqrt(jnp.maximum(values, floor))
    slopes = -1 / (roots[:, None] * roots[None, :] * (roots[:, None] + roots[None, :]))
    # Where both eigenvalues were raised the function is constant.
    slopes = jnp.where(raised[:, None] & raised[None, :], 0, slopes)
    change = _matmul(_matmul(vectors.T, tangents[0]), vectors)
    out = _matmul(vectors / roots[None, :], vectors.T)
    return out, _matmul(_matmul(vectors, slopes * change), vectors.T)


def _matmul(a, b):
    """Matrix product at full float32 precision on every backend."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
