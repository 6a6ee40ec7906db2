"""Losses on heat maps of keypoints: one map [h, w] for each of k keypoints.

The mean is over all keypoints that count, of all examples; `reduce_fn=None` gives the
sum of each example, [n]. Targets carry no gradient.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from contrastive_jax import numerics


def heatmap_mse(
    heatmaps: Float[Array, "n k h w"],
    targets: Float[Array, "n k h w"],
    *,
    where: Bool[Array, "n k"] | None = None,
    weights: Float[Array, " n"] | None = None,
    scale: numerics.Number = 0.5,
    average: Literal["counted", "all"] = "counted",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Squared difference of predicted and drawn heat maps.

        loss_ij = scale mean over cells of (heatmaps[i, j] - targets[i, j])^2

    Args:
      heatmaps: predicted map of each keypoint.
      targets: its true map, usually a Gaussian.
      where: keypoints that count (visible, annotated).
      weights: one non-negative weight per example, shared by its keypoints.
      scale: factor of the loss, > 0.
      average: what `jnp.mean` divides by: keypoints that count, or all of them.
      reduce_fn: `jnp.mean` or `jnp.sum` over keypoints; None gives the sums of the
        examples, [n].

    References:
      Xiao et al. 2018, arXiv:1804.06208, section 2.

    Deviations:
      The released code divides by all keypoints: average="all".

    Examples:
      >>> maps = jnp.array([[[[1.0, 3.0]], [[9.0, 9.0]]]])
      >>> where = jnp.array([[True, False]])
      >>> heatmap_mse(maps, 0 * maps, where=where)
      Array(2.5, dtype=float32)
    """
    numerics.check_positive(scale=scale)
    heatmaps, where = checked("heatmaps", heatmaps, where, weights, targets)
    targets = jax.lax.stop_gradient(numerics.at_least_f32(targets, "targets"))
    gaps = jnp.where(where[:, :, None, None], heatmaps - targets, 0)
    loss = scale * jnp.mean(gaps**2, axis=(2, 3))
    return reduce_keypoints(loss, where, weights, average, reduce_fn)


def heatmap_kl(
    logits: Float[Array, "n k h w"],
    targets: Float[Array, "n k h w"],
    *,
    where: Bool[Array, "n k"] | None = None,
    weights: Float[Array, " n"] | None = None,
    eps: numerics.Number = 0.0,
    average: Literal["counted", "all"] = "counted",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Divergence of a map's softmax over its cells from the drawn heat map.

        q = (targets[i, j] + eps) / sum over cells,  p = softmax(logits[i, j])
        loss_ij = sum over cells of q log(q / p)                              (nats)

    A map whose target is 0 everywhere drops out, unless eps makes it uniform.

    Args:
      logits: predicted map of each keypoint, before the softmax.
      targets: its true map, >= 0, of any sum.
      where: keypoints that count.
      weights: one non-negative weight per example, shared by its keypoints.
      eps: added to each cell of the targets, >= 0.
      average: what `jnp.mean` divides by: keypoints that count, or all of them.
      reduce_fn: `jnp.mean` or `jnp.sum` over keypoints; None gives the sums of the
        examples, [n].

    References:
      Jiang et al. 2021, arXiv:2103.06175, section 3 (RegDA).

    Deviations:
      The released code divides by all keypoints: average="all".

    Examples:
      >>> target = jnp.array([[[[3.0, 0.0]]]])
      >>> f"{heatmap_kl(jnp.zeros((1, 1, 1, 2)), target):.4f}"
      '0.6931'
    """
    numerics.check_nonnegative(eps=eps)
    logits, where = checked("logits", logits, where, weights, targets)
    targets = jax.lax.stop_gradient(numerics.at_least_f32(targets, "targets"))
    q = targets.reshape(*where.shape, -1) + eps
    total = jnp.sum(q, axis=2)
    where = where & (total != 0)
    q = q / jnp.where(where, total, 1)[:, :, None]
    log_p, valid = log_softmax_of_cells(logits, where)
    terms = jnp.where(valid, q * (numerics.safe_log(q) - log_p), 0)
    loss = jnp.sum(terms, axis=2)
    return reduce_keypoints(loss, where, weights, average, reduce_fn)


def heatmap_entropy(
    logits: Float[Array, "n k h w"],
    *,
    where: Bool[Array, "n k"] | None = None,
    weights: Float[Array, " n"] | None = None,
    unit: Literal["uniform", "cells", "nats"] = "uniform",
    average: Literal["counted", "all"] = "counted",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Entropy of a map's softmax over its cells: how unsure the place is.

        loss_ij = -sum over cells of p log p / u,  p = softmax(logits[i, j])
        u = log(h w) (uniform), h w (cells), or 1 (nats)

    Args:
      logits: predicted map of each keypoint, before the softmax.
      where: keypoints that count.
      weights: one non-negative weight per example, shared by its keypoints.
      unit: u; with "uniform" the entropy lies in [0, 1].
      average: what `jnp.mean` divides by: keypoints that count, or all of them.
      reduce_fn: `jnp.mean` or `jnp.sum` over keypoints; None gives the sums of the
        examples, [n].

    References:
      Grandvalet and Bengio 2004, Semi-supervised learning by entropy minimization,
      NeurIPS, eq. 5.

    Examples:
      >>> f"{heatmap_entropy(jnp.zeros((1, 1, 4, 4))):.4f}"
      '1.0000'
    """
    logits, where = checked("logits", logits, where, weights)
    cells = logits.shape[2] * logits.shape[3]
    units = {"uniform": math.log(max(cells, 2)), "cells": cells, "nats": 1}
    if unit not in units:
        raise ValueError(f'unit: expected "uniform", "cells" or "nats", got {unit!r}')
    log_p, valid = log_softmax_of_cells(logits, where)
    loss = -jnp.sum(jnp.where(valid, jnp.exp(log_p) * log_p, 0), axis=2) / units[unit]
    return reduce_keypoints(loss, where, weights, average, reduce_fn)


def checked(
    name: str,
    maps: Array,
    where: Array | None,
    weights: Array | None,
    targets: Array | None = None,
) -> tuple[Float[Array, "n k h w"], Bool[Array, "n k"]]:
    """Maps in at least float32, and which keypoints count."""
    numerics.check_shapes(
        **{name: (maps, "n k h w")},
        targets=(targets, "n k h w"),
        where=(where, "n k"),
        weights=(weights, "n"),
    )
    maps = numerics.at_least_f32(maps, name)
    return maps, numerics.mask_or_all(where, maps.shape[:2])


def log_softmax_of_cells(
    logits: Float[Array, "n k h w"], where: Bool[Array, "n k"]
) -> tuple[Float[Array, "n k c"], Bool[Array, "n k c"]]:
    """Log-probabilities of the cells of maps that count, and which cells those are.

    A cell of logit -inf is as if absent.
    """
    flat = logits.reshape(*where.shape, -1)
    flat, valid = numerics.masked_logits(
        flat, jnp.broadcast_to(where[:, :, None], flat.shape)
    )
    return numerics.masked_log_softmax(flat, valid), valid


def reduce_keypoints(
    loss: Float[Array, "n k"],
    where: Bool[Array, "n k"],
    weights: Float[Array, " n"] | None,
    average: str,
    reduce_fn: numerics.ReduceFn | None,
) -> Float[Array, "..."]:
    """`numerics.reduce_terms` over the keypoints that count, or over all of them."""
    if average not in ("counted", "all"):
        raise ValueError(f'average: expected "counted" or "all", got {average!r}')
    if average == "all":
        loss, where = jnp.where(where, loss, 0), jnp.ones_like(where)
    return numerics.reduce_terms(
        loss, where=where, weights=weights, reduce_fn=reduce_fn
    )
