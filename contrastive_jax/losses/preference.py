"""Losses on pairs of responses of which one is preferred.

They take log-probabilities of whole responses, log pi(y | x): sums of
`losses.token_log_probs` over the tokens of the response.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from contrastive_jax import numerics


def dpo(
    chosen: Float[Array, " n"],
    rejected: Float[Array, " n"],
    *,
    reference_chosen: Float[Array, " n"],
    reference_rejected: Float[Array, " n"],
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    beta: numerics.Number = 0.1,
    label_smoothing: numerics.Number = 0.0,
    form: Literal["logistic", "ipo"] = "logistic",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Direct preference optimisation, and its variant with a squared loss (IPO).

        h_i = (chosen[i] - reference_chosen[i]) - (rejected[i] - reference_rejected[i])
        logistic: loss_i = (1 - label_smoothing) softplus(-beta h_i)
                           + label_smoothing softplus(beta h_i)                (nats)
        ipo:      loss_i = (h_i - 1 / (2 beta))^2

    The reference carries no gradient.

    Also known as direct preference optimization and IPO.

    Args:
      chosen: log-probability of each preferred response under the model.
      rejected: log-probability of each response that is not preferred.
      reference_chosen: log-probabilities of `chosen` under the reference model.
      reference_rejected: log-probabilities of `rejected` under the reference model.
      where: pairs that count.
      weights: one non-negative weight per pair.
      beta: how closely the model keeps to the reference, > 0.
      label_smoothing: how often a preference is the wrong way round, in [0, 1]; of the
        logistic form.
      form: which of the two.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs that count; None gives [n].

    Raises:
      ValueError: `label_smoothing` with the form "ipo".

    References:
      Rafailov et al. 2023, arXiv:2305.18290, eq. 7; Mitchell 2023, A note on DPO with
      noisy preferences and relationship to IPO (label smoothing); Azar et al. 2023,
      arXiv:2310.12036, eq. 17 (IPO).

    Examples:
      >>> zero = jnp.zeros(1)
      >>> reference = dict(reference_chosen=zero, reference_rejected=zero)
      >>> loss = dpo(jnp.array([-5.0]), jnp.array([-25.0]), **reference)
      >>> f"{loss:.4f}"
      '0.1269'
    """
    given = dict(
        chosen=chosen,
        rejected=rejected,
        reference_chosen=reference_chosen,
        reference_rejected=reference_rejected,
    )
    numerics.check_shapes(
        **{name: (x, "n") for name, x in given.items()},
        where=(where, "n"),
        weights=(weights, "n"),
    )
    numerics.check_positive(beta=beta)
    numerics.check_fraction(label_smoothing=label_smoothing)
    raised = {name: numerics.at_least_f32(x, name) for name, x in given.items()}
    where = numerics.mask_or_all(where, raised["chosen"].shape)
    reference = raised["reference_chosen"] - raised["reference_rejected"]
    gap = raised["chosen"] - raised["rejected"] - jax.lax.stop_gradient(reference)
    gap = jnp.where(where, gap, 0)
    if form == "logistic":
        right, wrong = jax.nn.softplus(-beta * gap), jax.nn.softplus(beta * gap)
        loss = (1 - label_smoothing) * right + label_smoothing * wrong
    elif form == "ipo":
        if not numerics.is_zero(label_smoothing):
            raise ValueError(
                f'label_smoothing: only with form="logistic", got {label_smoothing}'
            )
        loss = (gap - 1 / (2 * beta)) ** 2
    else:
        raise ValueError(f'form: expected "logistic" or "ipo", got {form!r}')
    return numerics.safe_reduce(loss, where=where, weights=weights, reduce_fn=reduce_fn)


def implicit_rewards(
    log_probs: Float[Array, "*shape"],
    reference: Float[Array, "*shape"],
    *,
    beta: numerics.Number = 0.1,
) -> Float[Array, "*shape"]:
    """What a model trained by preferences says a response (or a token) is worth.

        reward = beta (log_probs - reference)

    up to a constant of the prompt. No gradient passes.

    Args:
      log_probs: log-probabilities under the model.
      reference: those under the reference model.
      beta: as in `dpo`, > 0.

    References:
      Rafailov et al. 2023, arXiv:2305.18290, eq. 5.

    Examples:
      >>> implicit_rewards(jnp.array([-2.0]), jnp.array([-6.0]), beta=0.5)
      Array([2.], dtype=float32)
    """
    if jnp.shape(log_probs) != jnp.shape(reference):
        raise ValueError(
            f"reference: expected the shape of log_probs, {list(jnp.shape(log_probs))},"
            f" got shape {list(jnp.shape(reference))}"
        )
    numerics.check_positive(beta=beta)
    log_probs = numerics.at_least_f32(log_probs, "log_probs")
    reference = numerics.at_least_f32(reference, "reference")
    return jax.lax.stop_gradient(beta * (log_probs - reference))
