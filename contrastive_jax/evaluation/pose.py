"""Errors of keypoints: [n, k, d], k keypoints of each of n examples in d dimensions.

`where` marks the keypoints that count (visible, annotated); with none the value is 0.
One that does not count may be NaN; a NaN that counts makes the value NaN. All can be
jitted. A wrong dtype raises TypeError and shapes that do not fit together ValueError,
naming the argument.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from contrastive_jax import numerics
from contrastive_jax.transforms import procrustes_align

Keypoints = Float[Array | np.ndarray, "n k d"]
Mask = Bool[Array | np.ndarray, "n k"]


def mpjpe(
    predictions: Keypoints,
    targets: Keypoints,
    *,
    where: Mask | None = None,
    align: Literal["root", "procrustes"] | None = None,
    root: int = 0,
) -> Float[Array, ""]:
    """Mean per-joint position error, in the unit of the keypoints.

        mean_{i, j} ||predictions[i, j] - targets[i, j]||

    Args:
      predictions: predicted keypoints.
      targets: true ones.
      where: keypoints that count. Alignment takes all of them, but for those that do
        not count and are NaN (if the root is, its example drops out).
      align: "root" moves the root keypoint of both to the origin first; "procrustes"
        also turns and scales each prediction to fit best (PA-MPJPE).
      root: number of the root keypoint.

    Raises:
      ValueError: an unknown align, a root out of range.

    Examples:
      >>> x = jnp.array([[[0.0, 0.0], [3.0, 4.0]]])
      >>> mpjpe(x, 0 * x), mpjpe(x, x + 1, align="root")
      (Array(2.5, dtype=float32), Array(0., dtype=float32))

    References:
      Ionescu et al. 2014, doi:10.1109/TPAMI.2013.248 (Human3.6M), section 4.
    """
    predictions, targets, where = checked(predictions, targets, where)
    missing = ~where & jnp.any(jnp.isnan(predictions + targets), axis=-1)
    if align == "root":
        if not 0 <= root < targets.shape[1]:
            raise ValueError(
                f"root: expected 0 to {targets.shape[1] - 1} (the keypoints), got "
                f"{root}"
            )
        predictions, targets = (
            x - x[:, root : root + 1] for x in (predictions, targets)
        )
        where = where & ~missing[:, root, None]
    elif align == "procrustes":
        predictions, targets = (_filled(x, missing) for x in (predictions, targets))
        predictions = jax.vmap(procrustes_align)(predictions, targets)
    elif align is not None:
        raise ValueError(f'align: expected "root", "procrustes" or None, got {align!r}')
    return numerics.masked_mean(distances(predictions, targets), where)


def pck(
    predictions: Keypoints,
    targets: Keypoints,
    *,
    threshold: float,
    scales: Float[Array | np.ndarray, " n"] | None = None,
    where: Mask | None = None,
    average: Literal["keypoints", "joints"] | None = "keypoints",
) -> Float[Array, "..."]:
    """Fraction of keypoints within a distance of the truth (PCK), in [0, 1].

        ||predictions[i, j] - targets[i, j]|| / scales[i] < threshold

    Args:
      predictions: predicted keypoints.
      targets: true ones.
      threshold: distance from which a keypoint is wrong, > 0.
      scales: size of each example (head, torso, image, root of the mask's area), > 0; 1
        when None.
      where: keypoints that count.
      average: "keypoints" weighs all that count alike; "joints" takes the mean over
        joints that have one; None gives the fraction of each joint, [k].

    Raises:
      ValueError: a threshold that is not positive, an unknown average.

    Examples:
      >>> x = jnp.array([[[0.0, 0.0], [3.0, 4.0]]])
      >>> pck(x, 0 * x, threshold=0.6, scales=jnp.array([10.0]))
      Array(1., dtype=float32)
      >>> pck(x, 0 * x, threshold=0.5, scales=jnp.array([10.0]))
      Array(0.5, dtype=float32)

    References:
      Yang and Ramanan 2013, doi:10.1109/TPAMI.2012.261, section 6.
    """
    predictions, targets, where = checked(predictions, targets, where)
    numerics.check_positive(threshold=threshold)
    numerics.check_shapes(targets=(targets, "n k d"), scales=(scales, "n"))
    gaps = distances(predictions, targets)
    if scales is not None:
        numerics.check_positive(scales=scales)
        gaps = gaps / numerics.at_least_f32(scales, "scales")[:, None]
    correct = _below(gaps, threshold)
    if average == "keypoints":
        return numerics.masked_mean(correct, where)
    per_joint = numerics.masked_mean(correct, where, axis=0)
    if average == "joints":
        return numerics.masked_mean(per_joint, jnp.any(where, axis=0))
    if average is None:
        return per_joint
    raise ValueError(
        f'average: expected "keypoints", "joints" or None, got {average!r}'
    )


def pck_auc(
    predictions: Keypoints,
    targets: Keypoints,
    *,
    thresholds: Sequence[float] | np.ndarray | Array,
    where: Mask | None = None,
) -> Float[Array, ""]:
    """Area under the curve of PCK over thresholds, in [0, 1].

        trapezoids over the thresholds, divided by their range

    Args:
      predictions: predicted keypoints.
      targets: true ones.
      thresholds: at least two, finite and rising; papers on hands take 100 from 0 to 50
        mm.
      where: keypoints that count.

    Raises:
      ValueError: thresholds that do not rise.

    Examples:
      >>> x = jnp.array([[[0.0, 0.0], [3.0, 4.0]]])
      >>> pck_auc(x, 0 * x, thresholds=[1.0, 4.0, 6.0, 11.0])
      Array(0.8, dtype=float32)

    References:
      Zimmermann and Brox 2017, arXiv:1705.01389, section 6.
    """
    predictions, targets, where = checked(predictions, targets, where)
    if not isinstance(thresholds, jax.core.Tracer):
        thresholds = np.asarray(thresholds, np.float64)
        rise = np.diff(thresholds) > 0 if thresholds.ndim == 1 else np.array([])
        if not (rise.size and np.all(rise) and np.all(np.isfinite(thresholds))):
            raise ValueError(
                f"thresholds: expected at least two finite numbers that rise, got "
                f"{thresholds.tolist()}"
            )
    gaps = distances(predictions, targets)
    marks = jnp.asarray(thresholds, gaps.dtype)
    correct = _below(gaps[None], marks[:, None, None])
    fractions = numerics.masked_mean(
        correct, jnp.broadcast_to(where[None], correct.shape), axis=(1, 2)
    )
    return jnp.trapezoid(fractions, marks) / (marks[-1] - marks[0])


def argmax_keypoints(
    heatmaps: Float[Array | np.ndarray, "n k h w"],
) -> tuple[Float[Array, "n k 2"], Float[Array, "n k"]]:
    """Location (x, y) of the maximum of each heat map, and its value.

    A map without a value above 0 has no keypoint: its location is (0, 0). Among equal
    cells the first in row-major order. Location and value of a map with a NaN are NaN.

    Args:
      heatmaps: one map for each keypoint.

    Examples:
      >>> maps = jnp.zeros((1, 1, 4, 5)).at[0, 0, 2, 3].set(7.0)
      >>> location, value = argmax_keypoints(maps)
      >>> location[0, 0], value[0, 0]
      (Array([3., 2.], dtype=float32), Array(7., dtype=float32))

    References:
      Xiao et al. 2018, arXiv:1804.06208, section 2.
    """
    sizes = numerics.check_shapes(heatmaps=(heatmaps, "n k h w"))
    maps = numerics.at_least_f32(heatmaps, "heatmaps")
    flat = maps.reshape(*maps.shape[:2], -1)
    cell, value = jnp.argmax(flat, axis=-1), jnp.max(flat, axis=-1)
    location = jnp.stack([cell % sizes["w"], cell // sizes["w"]], axis=-1)
    location = jnp.where((value > 0)[..., None], location, 0).astype(maps.dtype)
    return jnp.where(jnp.isnan(value)[..., None], jnp.nan, location), value


def checked(
    predictions: Keypoints, targets: Keypoints, where: Mask | None
) -> tuple[Float[Array, "n k d"], Float[Array, "n k d"], Bool[Array, "n k"]]:
    """Keypoints in at least float32, and which of them count."""
    numerics.check_shapes(
        predictions=(predictions, "n k d"),
        targets=(targets, "n k d"),
        where=(where, "n k"),
    )
    predictions = numerics.at_least_f32(predictions, "predictions")
    targets = numerics.at_least_f32(targets, "targets")
    return predictions, targets, numerics.mask_or_all(where, targets.shape[:2])


def distances(
    a: Float[Array, "n k d"], b: Float[Array, "n k d"]
) -> Float[Array, "n k"]:
    """Euclidean distances of keypoints."""
    return numerics.safe_norm(a - b)


def _below(gaps, threshold):
    """1 below the threshold, 0 from there on, NaN at NaN."""
    return jnp.where(jnp.isnan(gaps), gaps, (gaps < threshold).astype(gaps.dtype))


def _filled(x, missing):
    """Keypoints with the mean of the others at those missing, which moves no fit."""
    others = ~missing[..., None]
    mean = numerics.masked_mean(x, jnp.broadcast_to(others, x.shape), axis=1)
    return jnp.where(others, x, mean[:, None])
