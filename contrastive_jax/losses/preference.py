"""Losses on pairs of responses of which one is preferred, and rewards from them.

The losses take log-probabilities of whole responses, log pi(y | x): sums of
`losses.token_log_probs` over the tokens of the response, or of
`losses.linear_log_probs` where the logits of all tokens are too many to hold.
"""

from typing import Literal, NamedTuple

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
    numerics.check_fraction(label_smoothing=label_smoothing)
    gap, where = reward_gaps(given, where, weights, beta)
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


def token_dpo(
    chosen: Float[Array, " n"],
    rejected: Float[Array, " n"],
    *,
    reference_chosen: Float[Array, " n"],
    reference_rejected: Float[Array, " n"],
    chosen_kl: Float[Array, " n"],
    rejected_kl: Float[Array, " n"],
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    beta: numerics.Number = 0.1,
    alpha: numerics.Number = 0.5,
    form: Literal["tdpo1", "tdpo2"] = "tdpo2",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Token-level direct preference optimisation: DPO with a bound on the drift.

        h_i = (chosen[i] - reference_chosen[i]) - (rejected[i] - reference_rejected[i])
        tdpo1: g_i = h_i - (rejected_kl[i] - chosen_kl[i])
        tdpo2: g_i = h_i - alpha (rejected_kl[i] - constant(chosen_kl[i]))
        loss_i = softplus(-beta g_i)                                          (nats)

    A response's kl is the sum over its positions of KL(reference || model), over the
    vocabulary: `losses.linear_kl`, or `losses.distillation_kl` of logits. The
    reference carries no gradient, and in tdpo2 neither does `chosen_kl`.

    Also known as TDPO.

    Args:
      chosen: log-probability of each preferred response under the model.
      rejected: log-probability of each response that is not preferred.
      reference_chosen: log-probabilities of `chosen` under the reference model.
      reference_rejected: log-probabilities of `rejected` under the reference model.
      chosen_kl: divergence from the reference along each preferred response, >= 0.
      rejected_kl: the same along each response that is not preferred.
      where: pairs that count.
      weights: one non-negative weight per pair.
      beta: how closely the model keeps to the reference, > 0.
      alpha: weight of the divergences in tdpo2, >= 0; 0 is `dpo`.
      form: which of the two; tdpo1 has no alpha.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs that count; None gives [n].

    References:
      Zeng et al. 2024, arXiv:2404.11999, eq. 15 (tdpo1) and 18 (tdpo2).

    Examples:
      >>> x, y = jnp.array([-5.0]), jnp.array([-25.0])
      >>> same = dict(reference_chosen=x, reference_rejected=x)
      >>> kl = dict(chosen_kl=jnp.array([1.0]), rejected_kl=jnp.array([41.0]))
      >>> f"{token_dpo(x, y, **same, **kl):.4f}"
      '0.6931'
    """
    given = dict(
        chosen=chosen,
        rejected=rejected,
        reference_chosen=reference_chosen,
        reference_rejected=reference_rejected,
        chosen_kl=chosen_kl,
        rejected_kl=rejected_kl,
    )
    numerics.check_nonnegative(alpha=alpha)
    if form not in ("tdpo1", "tdpo2"):
        raise ValueError(f'form: expected "tdpo1" or "tdpo2", got {form!r}')
    gap, where = reward_gaps(given, where, weights, beta)
    drift = [
        numerics.at_least_f32(given[name]) for name in ("chosen_kl", "rejected_kl")
    ]
    if form == "tdpo1":
        gap = gap - (drift[1] - drift[0])
    else:
        gap = gap - alpha * (drift[1] - jax.lax.stop_gradient(drift[0]))
    loss = jax.nn.softplus(-beta * jnp.where(where, gap, 0))
    return numerics.safe_reduce(loss, where=where, weights=weights, reduce_fn=reduce_fn)


def reward_gaps(
    given: dict[str, Array],
    where: Array | None,
    weights: Array | None,
    beta: numerics.Number,
) -> tuple[Float[Array, " n"], Bool[Array, " n"]]:
    """h_i of the formulas, 0 where a pair does not count, and which pairs do."""
    numerics.check_shapes(
        **{name: (x, "n") for name, x in given.items()},
        where=(where, "n"),
        weights=(weights, "n"),
    )
    numerics.check_positive(beta=beta)
    raised = {name: numerics.at_least_f32(x, name) for name, x in given.items()}
    where = numerics.mask_or_all(where, raised["chosen"].shape)
    reference = raised["reference_chosen"] - raised["reference_rejected"]
    gap = raised["chosen"] - raised["rejected"] - jax.lax.stop_gradient(reference)
    return jnp.where(where, gap, 0), where


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


class DenseRewards(NamedTuple):
    """Rewards of the tokens of responses, 0 outside of them.

    Attributes:
      preferred: what the preference model says a token is worth.
      drift: log-ratio of the policy and the reference, an estimate of their KL.
      total: the two, and the reward of the response at its last token.
    """

    preferred: Float[Array, "n t"]
    drift: Float[Array, "n t"]
    total: Float[Array, "n t"]


def dense_rewards(
    log_probs: Float[Array, "n t"],
    reference: Float[Array, "n t"],
    preferred: Float[Array, "n t"],
    *,
    where: Bool[Array, "n t"] | None = None,
    response_rewards: Float[Array, " n"] | None = None,
    scale: numerics.Number = 0.05,
    clip: numerics.Number | None = 0.05,
    kl_weight: numerics.Number = 0.01,
    largest: numerics.Number = 10.0,
) -> DenseRewards:
    """A reward for every token, from a model trained by `dpo`, for policy gradients.

        preferred[i, t] = clip(scale (preferred[i, t] - reference[i, t]), -clip, clip)
        drift[i, t]     = log_probs[i, t] - reference[i, t]
        total[i, t]     = preferred[i, t] - kl_weight drift[i, t]
                          + clip(response_rewards[i], -largest, largest) at the last t

    No gradient passes.

    Also known as reinforced token optimization (RTO).

    Args:
      log_probs: of the tokens of each response, under the policy.
      reference: the same under the reference model.
      preferred: the same under the model that `dpo` trained.
      where: tokens of the response; the last one that counts ends it.
      response_rewards: of whole responses, from a reward model; 0 when None.
      scale: of the log-ratio of the preference model.
      clip: bound of a token's preference reward, > 0; none when None.
      kl_weight: of the drift, >= 0.
      largest: bound of a response's reward, > 0.

    References:
      Zhong et al. 2024, arXiv:2404.18922, section 4.

    Examples:
      >>> x = jnp.array([[-1.0, -1.0]])
      >>> got = dense_rewards(x, x, x + 0.5, response_rewards=jnp.array([2.0]))
      >>> got.total.round(3).tolist()
      [[0.02500000037252903, 2.0250000953674316]]
    """
    given = dict(log_probs=log_probs, reference=reference, preferred=preferred)
    numerics.check_shapes(
        **{name: (x, "n t") for name, x in given.items()},
        where=(where, "n t"),
        response_rewards=(response_rewards, "n"),
    )
    numerics.check_finite(scale=scale)
    numerics.check_nonnegative(kl_weight=kl_weight)
    numerics.check_positive(largest=largest)
    where = numerics.mask_or_all(where, jnp.shape(log_probs))
    policy, base, tuned = (
        jax.lax.stop_gradient(jnp.where(where, numerics.at_least_f32(x, name), 0))
        for name, x in given.items()
    )
    worth = scale * (tuned - base)
    if clip is not None:
        numerics.check_positive(clip=clip)
        worth = jnp.clip(worth, -clip, clip)
    total = worth - kl_weight * (policy - base)
    if response_rewards is not None:
        rewards = numerics.at_least_f32(response_rewards, "response_rewards")
        rewards = jnp.clip(jax.lax.stop_gradient(rewards), -largest, largest)
        left = jnp.cumsum(where[:, ::-1], axis=1)[:, ::-1]  # this token and later ones
        total += jnp.where(where & (left == 1), rewards[:, None], 0)
    return DenseRewards(worth, policy - base, total)
