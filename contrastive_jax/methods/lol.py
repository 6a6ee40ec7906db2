"""LOL (Chen et al. 2024): lower layers matter; contrast at two depths, and truth.

A model is contrasted with an amateur (itself, made to hallucinate) at the last layer,
as in ICD (`decoding.contrast`), and at a lower layer read out early; what an
instruction to be truthful changes is added. The lower layer may be chosen as DoLa
does (`decoding.premature_layer`).

No code was published and the paper's text could not be opened: the objective is
reconstructed from its abstract, and how the terms enter is not verified.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from contrastive_jax import decoding, numerics
from contrastive_jax.decoding.processors import Number, log_probs, only, possible

__all__ = ["lol_dynamic_scores", "lol_scores"]


def lol_scores(
    logits: Float[Array, "*n v"],
    amateur: Float[Array, "*n v"],
    low: Float[Array, "*n v"],
    amateur_low: Float[Array, "*n v"],
    truthful: Float[Array, "*n v"],
    *,
    lam: Number,
    gamma: Number,
    alpha: Number = 0.1,
    beta: Number = 1.0,
    min_tokens: int = 1,
) -> Float[Array, "*n v"]:
    """Scores of the next token, of log-probabilities p, a, p_l, a_l and p_I:

        beta p - a + lam (p_l - a_l) + gamma (p_I - p)     for plausible tokens

    with lam = gamma = 0 and beta = 1 it is ICD. With the model as its own amateur and
    lam = 0 only the last term remains (beta = 1), and without it every plausible token
    has the score 0.

    Args:
      logits: scores by the model; p are their log-probabilities. They also say which
        tokens are plausible (`decoding.plausible`).
      amateur: scores by the amateur, a.
      low: scores by a lower layer of the model, p_l.
      amateur_low: scores by the same layer of the amateur, a_l.
      truthful: scores by the model under an instruction to be truthful, p_I.
      lam: weight of the lower layer's contrast.
      gamma: weight of the instruction.
      alpha: of `decoding.plausible`, in [0, 1].
      beta: weight of the model at the last layer.
      min_tokens: of `decoding.plausible`.

    References:
      Chen et al. 2024, arXiv:2408.08769 (reconstructed); Zhang et al. 2023,
      arXiv:2312.15710 (the contrast of the last layer).

    Examples:
      >>> logits, flat = jnp.array([1.0, 0.9, -9.0]), jnp.zeros(3)
      >>> amateur = jnp.array([3.0, 0.0, 0.0])
      >>> lol_scores(logits, amateur, flat, flat, logits, lam=1.0, gamma=1.0).argmax()
      Array(1, dtype=int32)
    """
    numerics.check_finite(lam=lam, gamma=gamma, beta=beta)
    log_p, log_a = log_probs(logits=logits, amateur=amateur)
    _, log_low = log_probs(logits=logits, low=low)
    _, log_amateur_low = log_probs(logits=logits, amateur_low=amateur_low)
    _, log_truth = log_probs(logits=logits, truthful=truthful)
    keep = decoding.plausible(log_p, alpha, min_tokens=min_tokens) & possible(log_p)
    final = beta * log_p - log_a
    lower = log_low - log_amateur_low
    return only(final + lam * lower + gamma * (log_truth - log_p), keep)


def lol_dynamic_scores(
    logits: Float[Array, "*n v"],
    amateur: Float[Array, "*n v"],
    early: Float[Array, "j *n v"],
    amateur_early: Float[Array, "j *n v"],
    truthful: Float[Array, "*n v"],
    *,
    lam: Number,
    gamma: Number,
    alpha: Number = 0.1,
    beta: Number = 1.0,
    min_tokens: int = 1,
    reverse: bool = True,
) -> Float[Array, "*n v"]:
    """`lol_scores` at the lower layer that `decoding.premature_layer` chooses by row.

    Args:
      logits: scores by the model.
      amateur: scores by the amateur.
      early: scores by j lower layers of the model, read out early; they are what the
        layer is chosen by.
      amateur_early: scores by the same layers of the amateur.
      truthful: scores by the model under an instruction to be truthful.
      lam: of `lol_scores`, as are gamma, alpha, beta and `min_tokens`.
      gamma: see there.
      alpha: see there.
      beta: see there.
      min_tokens: see there.
      reverse: of `decoding.premature_layer`.

    References:
      Chen et al. 2024, arXiv:2408.08769 (reconstructed); Chuang et al. 2024,
      arXiv:2309.03883, section 2.2 (the choice of the layer).
    """
    chosen = decoding.premature_layer(logits, early, reverse=reverse)[None, ..., None]
    low, amateur_low = (
        jnp.take_along_axis(x, chosen, axis=0)[0] for x in (early, amateur_early)
    )
    return lol_scores(
        logits,
        amateur,
        low,
        amateur_low,
        truthful,
        lam=lam,
        gamma=gamma,
        alpha=alpha,
        beta=beta,
        min_tokens=min_tokens,
    )
