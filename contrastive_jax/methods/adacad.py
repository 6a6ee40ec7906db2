"""AdaCAD (Wang et al. 2025): context-aware decoding as strong as the conflict.

A language model reads a question with a context and without it. CAD exaggerates what
the context changes (`decoding.context_aware`), by the same strength for every token;
here the strength is the divergence of the two distributions of the next token: none
where the context says what the model believes anyway.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from contrastive_jax import decoding, numerics
from contrastive_jax.decoding.processors import Number, both

__all__ = ["adacad_alpha", "adacad_logits"]


def adacad_alpha(
    logits: Float[Array, "*n v"],
    without: Float[Array, "*n v"],
    *,
    min_alpha: Number = 0.0,
    base: Number = math.e,
) -> Float[Array, "*n"]:
    """Strength of the contrast of each row: alpha = max(JSD(p || q), min_alpha).

    Args:
      logits: scores with the context; p is their softmax.
      without: scores without it; q.
      min_alpha: least strength, >= 0; above the largest divergence, log 2, it is the
        strength of all rows, as in CAD. The released code has 0 for questions and 0.3
        for summaries.
      base: of the divergence's logarithm, > 1: e (nats) or 2 (bits, up to 1).

    References:
      Wang et al. 2025, arXiv:2409.07394, section 3.

    Deviations:
      One strength for each row; the released code knows batches of one row. The paper
      says [0, 1] (bits), the released code computes in nats.

    Examples:
      >>> logits = jnp.array([[0.0, 0.0], [90.0, 0.0]])
      >>> without = jnp.array([[0.0, 0.0], [0.0, 90.0]])
      >>> print(adacad_alpha(logits, without, base=2.0))
      [0. 1.]
    """
    numerics.check_nonnegative(min_alpha=min_alpha)
    pair = both(logits=logits, without=without)
    divergence = decoding.js_divergence(*pair, base=base)
    return jnp.maximum(divergence, jnp.asarray(min_alpha, divergence.dtype))


def adacad_logits(
    logits: Float[Array, "*n v"],
    without: Float[Array, "*n v"],
    *,
    min_alpha: Number = 0.0,
    base: Number = math.e,
) -> Float[Array, "*n v"]:
    """Scores of the next token: (1 + alpha) logits - alpha without.

    Args:
      logits: scores with the context.
      without: scores without it.
      min_alpha: of `adacad_alpha`.
      base: of `adacad_alpha`.

    References:
      Wang et al. 2025, arXiv:2409.07394, section 3; Shi et al. 2024, arXiv:2305.14739,
      eq. 2 (the combination).

    Examples:
      >>> logits, without = jnp.array([1.0, 0.9]), jnp.array([9.0, 0.0])
      >>> adacad_logits(logits, without).argmax()
      Array(1, dtype=int32)
    """
    alpha = adacad_alpha(logits, without, min_alpha=min_alpha, base=base)
    return decoding.context_aware(logits, without, alpha=alpha[..., None])
