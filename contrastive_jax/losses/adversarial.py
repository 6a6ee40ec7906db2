"""Losses of a generator and its discriminator.

Scores come as [n, k]: k outputs of the discriminator for each of n examples, each of
them a judgement of its own (of the whole, or of a part).
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from contrastive_jax import numerics


def least_squares_generator(
    fake_scores: Float[Array, "n k"],
    *,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    scale: numerics.Number = 0.5,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Squared distance of the discriminator's outputs on fakes from "real".

        loss_i = scale sum_k (fake_scores[i, k] - 1)^2

    Also known as LSGAN.

    Args:
      fake_scores: outputs of the discriminator, with gradient to the generator.
      where: examples that count.
      weights: one non-negative weight per example.
      scale: factor of the loss, > 0.
      reduce_fn: `jnp.mean` or `jnp.sum` over examples that count; None gives [n].

    References:
      Mao et al. 2017, arXiv:1611.04076, eq. 9 (labels 0 and 1).

    Deviations:
      AniMer (Lyu et al. 2025, arXiv:2412.00837) and others leave the half out:
      scale=1.

    Examples:
      >>> least_squares_generator(jnp.array([[0.0, 1.0], [2.0, 3.0]]), reduce_fn=None)
      Array([0.5, 2.5], dtype=float32)
    """
    scores, where = checked(where, weights, scale, fake_scores=fake_scores)
    return numerics.safe_reduce(
        scale * jnp.sum((scores["fake_scores"] - 1) ** 2, axis=1),
        where=where,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def least_squares_discriminator(
    real_scores: Float[Array, "n k"],
    fake_scores: Float[Array, "n k"],
    *,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    scale: numerics.Number = 0.5,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Squared distance of outputs on real examples from 1 and on fakes from 0.

        loss_i = scale sum_k ( (real_scores[i, k] - 1)^2 + fake_scores[i, k]^2 )

    Also known as LSGAN.

    Args:
      real_scores: outputs of the discriminator on real examples.
      fake_scores: outputs on as many fakes; stop the gradient to the generator.
      where: rows (a real example and a fake) that count.
      weights: one non-negative weight per row.
      scale: factor of the loss, > 0.
      reduce_fn: `jnp.mean` or `jnp.sum` over rows that count; None gives [n].

    References:
      Mao et al. 2017, arXiv:1611.04076, eq. 9 (labels 0 and 1).

    Deviations:
      As in `least_squares_generator`.

    Examples:
      >>> real, fake = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 3.0]])
      >>> least_squares_discriminator(real, fake)
      Array(5., dtype=float32)
    """
    scores, where = checked(
        where, weights, scale, real_scores=real_scores, fake_scores=fake_scores
    )
    gaps = (scores["real_scores"] - 1) ** 2 + scores["fake_scores"] ** 2
    return numerics.safe_reduce(
        scale * jnp.sum(gaps, axis=1),
        where=where,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def checked(
    where: Array | None, weights: Array | None, scale: numerics.Number, **scores: Array
) -> tuple[dict[str, Float[Array, "n k"]], Bool[Array, " n"]]:
    """Scores in at least float32, 0 in rows that do not count, and which rows do."""
    numerics.check_shapes(
        **{name: (x, "n k") for name, x in scores.items()},
        where=(where, "n"),
        weights=(weights, "n"),
    )
    numerics.check_positive(scale=scale)
    raised = {name: numerics.at_least_f32(x, name) for name, x in scores.items()}
    where = numerics.mask_or_all(where, next(iter(raised.values())).shape[:1])
    return {k: jnp.where(where[:, None], x, 0) for k, x in raised.items()}, where
