"""Post-processing of embeddings: calibration, Procrustes alignment, ICA.

Each is fitted in closed form or by one solver, without training. Whitening is
`states.batch_moments` and `states.whitening_matrix`. A wrong dtype raises TypeError and
shapes that do not fit together ValueError, naming the argument.
"""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from contrastive_jax import numerics, similarity


def calibrate(
    x: Float[Array | np.ndarray, "n d"],
    groups: Integer[Array | np.ndarray, " n"],
    *,
    scale: bool = True,
    eps: float = 0.0,
    ddof: int = 0,
) -> np.ndarray:
    """Embeddings standardized within each group (language, domain).

        y_i = (x_i - mean of its group) / sqrt(variance of its group + eps)

    Removes the mean and scale that distinguish the groups. A channel without variance
    in a group is 0 there. A row that is not finite does not enter the statistics and
    comes back as NaN. Computed in float64, on the host.

    Args:
      x: embeddings.
      groups: group of each row, any integers.
      scale: False subtracts the mean only.
      eps: added to the variance, at least 0.
      ddof: variances divide by the rows of the group minus ddof (and at least 1).

    Returns:
      The calibrated rows, in the precision of `x` and at least float32.

    Raises:
      ValueError: a negative eps.

    Examples:
      >>> x = np.array([[1.0], [3.0], [10.0], [30.0]])
      >>> calibrate(x, np.array([0, 0, 1, 1]))[:, 0]
      array([-1.,  1., -1.,  1.])

    References:
      Wu et al. 2022, IJCAI, Unsupervised Context Aware Sentence Representation
      Pretraining for Multi-lingual Dense Retrieval (CCP), calibration.
    """
    numerics.check_shapes(x=(x, "n d"), groups=(groups, "n"))
    groups = np.asarray(groups)  # keeps 64 bits
    if groups.dtype.kind not in "iu":
        raise TypeError(f"groups: expected integers, got {groups.dtype}")
    if eps < 0:
        raise ValueError(f"eps: expected a number >= 0, got {eps}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"x: expected floating point, got {x.dtype}")
    out = np.array(x, np.float64)
    finite = np.all(np.isfinite(out), axis=1)
    out[~finite] = np.nan
    for group in np.unique(groups[finite]):
        rows = (groups == group) & finite
        # The mean of a constant channel may be off by rounding.
        varies = np.max(out[rows], axis=0) > np.min(out[rows], axis=0)
        centered = np.where(varies, out[rows] - np.mean(out[rows], axis=0), 0)
        if scale:
            count = max(np.sum(rows) - ddof, 1)
            std = np.sqrt(np.sum(centered**2, axis=0) / count + eps)
            centered = centered / np.where(std > 0, std, 1)
        out[rows] = centered
    return out.astype(np.promote_types(x.dtype, np.float32))


def procrustes_rotation(
    source: Float[Array, "n d"],
    target: Float[Array, "n d"],
    *,
    reflection: bool = True,
) -> Float[Array, "d d"]:
    """Orthogonal Procrustes: the rotation that maps source rows closest to target rows.

        min over R of ||source R - target||_F:  R = U V^T,  source^T target = U S V^T

    Args:
      source: rows to be rotated.
      target: the row that each belongs to.
      reflection: False allows rotations only (determinant 1): the direction of the
        smallest singular value is flipped where needed.

    Examples:
      >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
      >>> procrustes_rotation(x, x[:, ::-1]).round(4)
      Array([[0., 1.],
             [1., 0.]], dtype=float32)

    References:
      Schönemann 1966, doi:10.1007/BF02289451; Kabsch 1976,
      doi:10.1107/S0567739476001873 (determinant 1).
    """
    numerics.check_shapes(source=(source, "n d"), target=(target, "n d"))
    source = numerics.at_least_f32(source, "source")
    target = numerics.at_least_f32(target, "target")
    return nearest_rotation(similarity.matmul(source.T, target.T), reflection)[0]


def procrustes_align(
    source: Float[Array, "n d"],
    target: Float[Array, "n d"],
    *,
    scale: bool = True,
    reflection: bool = False,
) -> Float[Array, "n d"]:
    """Source after the similarity transform that brings it closest to target.

        min over s, R, t of sum_i ||s x_i R + t - y_i||^2

    The residual is the error up to translation, rotation and scale. Map it over a batch
    with `jax.vmap`. Points that all coincide stay together, at the target's mean.

    Args:
      source: points, such as predicted joints.
      target: the point that each belongs to.
      scale: False keeps the size of source.
      reflection: True allows reflections.

    Examples:
      >>> y = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
      >>> turned = 3 * y @ jnp.array([[0.0, 1.0], [-1.0, 0.0]]) + 5
      >>> bool(jnp.allclose(procrustes_align(turned, y), y, atol=1e-5))
      True

    References:
      Umeyama 1991, doi:10.1109/34.88573.
    """
    numerics.check_shapes(source=(source, "n d"), target=(target, "n d"))
    source = numerics.at_least_f32(source, "source")
    target = numerics.at_least_f32(target, "target")
    mean = jnp.mean(target, axis=0)
    source, target = (x - jnp.mean(x, axis=0)[None, :] for x in (source, target))
    covariance = similarity.matmul(source.T, target.T)
    rotation, strength = nearest_rotation(covariance, reflection)
    size = jnp.sum(source**2)
    factor = strength / jnp.where(size > 0, size, 1) if scale else 1.0
    return factor * similarity.matmul(source, rotation.T) + mean[None, :]


def fast_ica(
    x: Float[Array | np.ndarray, "n d"],
    *,
    seed: int,
    num_components: int | None = None,
    contrast: Literal["logcosh", "exp", "cube"] = "logcosh",
    num_iterations: int = 1000,
    tol: float = 1e-4,
) -> np.ndarray:
    """Independent component analysis: components of mean 0 and covariance 1.

        y = (x - mean) W,  y^T y / n = I,  W found by FastICA

    scikit-learn's `FastICA` (parallel, on the host) with what a comparison of
    embeddings needs fixed: unit variance, a seed, at least float32. Order and signs of
    the components depend on the seed. It warns
    (`sklearn.exceptions.ConvergenceWarning`) when it has not converged; the result is
    whitened in any case.

    Args:
      x: embeddings; many more rows than columns, no constant column. `calibrate` with
        one group for all brings columns to one scale first.
      seed: seed of the initial W.
      num_components: at most d; d when None.
      contrast: measure of non-Gaussianity.
      num_iterations: at most.
      tol: change of W at which the iteration ends.

    Returns:
      The components, [n, num_components].

    Raises:
      ValueError: fewer rows than components, num_components outside of 1 to d.

    Examples:
      >>> x = np.random.default_rng(0).laplace(size=(500, 2)) @ [[1.0, 2.0], [0.0, 1.0]]
      >>> y = fast_ica(x, seed=0)
      >>> np.abs(y.T @ y / 500).round(3)
      array([[1., 0.],
             [0., 1.]])

    References:
      Hyvärinen 1999, doi:10.1109/72.761722.
    """
    sizes = numerics.check_shapes(x=(x, "n d"))
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"x: expected floating point, got {x.dtype}")
    k = sizes["d"] if num_components is None else num_components
    if not 1 <= k <= sizes["d"]:
        raise ValueError(f"num_components: expected 1 to {sizes['d']}, got {k}")
    if sizes["n"] < k:
        raise ValueError(
            f"x: expected at least {k} rows (components), got {sizes['n']}"
        )
    from sklearn.decomposition import FastICA

    model = FastICA(
        n_components=k,
        fun=contrast,
        whiten="unit-variance",
        max_iter=num_iterations,
        tol=tol,
        random_state=seed,
    )
    x = np.asarray(x, np.promote_types(x.dtype, np.float32))
    return np.asarray(model.fit_transform(x))


def nearest_rotation(
    covariance: Float[Array, "d d"], reflection: bool
) -> tuple[Float[Array, "d d"], Float[Array, ""]]:
    """The orthogonal R of largest trace(R^T covariance), and that trace."""
    u, s, vt = jnp.linalg.svd(covariance)
    sign = jnp.ones_like(s)
    if not reflection:
        sign = sign.at[-1].set(jnp.sign(jnp.linalg.det(u @ vt)))
    rotation = jnp.matmul(u * sign[None, :], vt, precision="highest")
    return rotation, jnp.sum(s * sign)
