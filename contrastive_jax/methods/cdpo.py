"""cDPO (Lin et al. 2024): the tokens that spoil a wrong answer, and DPO on these.

Two copies of a language model, tuned on right and on wrong answers, are contrasted: a
token to which the first gives much less than the second is critical
(`contrastive_estimation_score`, low). `cdpo` is DPO in which the tokens of a rejected
answer count by how critical they are (`cdpo_weights`). `find_critical_token` finds the
critical token by sampling instead, the paper's definition.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import losses, numerics

__all__ = [
    "cdpo",
    "cdpo_weights",
    "contrastive_estimation_score",
    "find_critical_token",
    "linear_contrastive_estimation_score",
]


def contrastive_estimation_score(
    positive: Float[Array, "n t v"],
    negative: Float[Array, "n t v"],
    labels: Integer[Array, "n t"],
    *,
    where: Bool[Array, "n t"] | None = None,
    beta: numerics.Number = 1.0,
    ignore_index: int = -100,
) -> Float[Array, "n t"]:
    """Probability of each token under two contrasted models; low: critical.

        s[i, t] = softmax_w( (1 + beta) positive[i, t, w] - beta negative[i, t, w] )
                  at w = labels[i, t]

    Raw logits and log-probabilities give the same. No gradient passes. Nothing is
    shifted: hand in `logits[:, :-1]` and `tokens[:, 1:]`.

    Args:
      positive: scores of the vocabulary by the model tuned on right answers.
      negative: scores by the model tuned on wrong answers.
      labels: the token at each position, or `ignore_index`.
      where: positions that count; others have the score 0.
      beta: strength of the contrast, >= 0; 0 is the probability under `positive`.
      ignore_index: the label of positions that do not count.

    Raises:
      ValueError: a label outside of the vocabulary.

    References:
      Lin et al. 2024, arXiv:2411.19943, section 3 (contrastive estimation).

    Examples:
      >>> positive = jnp.log(jnp.array([[[0.5, 0.5]]]))
      >>> negative = jnp.log(jnp.array([[[0.25, 0.75]]]))
      >>> labels = jnp.array([[1]])
      >>> contrastive_estimation_score(positive, negative, labels).round(3).tolist()
      [[0.25]]
    """
    numerics.check_shapes(
        positive=(positive, "n t v"),
        negative=(negative, "n t v"),
        labels=(labels, "n t"),
        where=(where, "n t"),
    )
    numerics.check_nonnegative(beta=beta)
    positive = numerics.at_least_f32(positive, "positive")
    negative = numerics.at_least_f32(negative, "negative")
    log_s = losses.token_log_probs(
        (1 + beta) * positive - beta * negative,
        labels,
        where=where,
        ignore_index=ignore_index,
    )
    return probabilities(log_s, positive.shape[2], labels, where, ignore_index)


def linear_contrastive_estimation_score(
    positive: Float[Array, "n t d"],
    negative: Float[Array, "n t e"],
    positive_head: Float[Array, "v d"],
    negative_head: Float[Array, "v e"],
    labels: Integer[Array, "n t"],
    *,
    where: Bool[Array, "n t"] | None = None,
    beta: numerics.Number = 1.0,
    ignore_index: int = -100,
    chunk: int = 512,
) -> Float[Array, "n t"]:
    """`contrastive_estimation_score` from hidden states, without holding all logits.

    The contrast of two products is one product, of the states side by side with the
    heads side by side, so `losses.linear_log_probs` does it.

    Args:
      positive: states of the last layer of the model tuned on right answers.
      negative: states of the model tuned on wrong answers.
      positive_head: head of the first, one row per token of the vocabulary.
      negative_head: head of the second, over the same vocabulary.
      labels: the token at each position, or `ignore_index`.
      where: positions that count; others have the score 0.
      beta: strength of the contrast, >= 0.
      ignore_index: the label of positions that do not count.
      chunk: tokens whose logits are held at a time, >= 1.

    Raises:
      ValueError: a label outside of the vocabulary.

    Examples:
      >>> positive, negative = jnp.array([[[1.0]]]), jnp.array([[[2.0]]])
      >>> head, labels = jnp.array([[0.0], [1.0]]), jnp.array([[1]])
      >>> linear_contrastive_estimation_score(
      ...     positive, negative, head, head, labels
      ... ).tolist()
      [[0.5]]
    """
    numerics.check_shapes(
        positive=(positive, "n t d"),
        negative=(negative, "n t e"),
        positive_head=(positive_head, "v d"),
        negative_head=(negative_head, "v e"),
    )
    numerics.check_nonnegative(beta=beta)
    # Not by half precision: 1 + beta and its products are rounded there.
    raised = [
        numerics.at_least_f32(x, name)
        for name, x in [("positive", positive), ("negative", negative)]
    ]
    hidden = jnp.concatenate([(1 + beta) * raised[0], -beta * raised[1]], axis=-1)
    head = jnp.concatenate([positive_head, negative_head], axis=-1)
    log_s = losses.linear_log_probs(
        hidden, head, labels, where=where, ignore_index=ignore_index, chunk=chunk
    )
    return probabilities(log_s, len(head), labels, where, ignore_index)


def cdpo_weights(
    scores: Float[Array, "n t"],
    response: Bool[Array, "n t"],
    *,
    ends: Bool[Array, "n t"] | None = None,
) -> Float[Array, "n t"]:
    """Weights of the tokens of rejected answers: 1 - s, 1 at the end, 0 elsewhere.

    Args:
      scores: `contrastive_estimation_score` of each token.
      response: tokens of the answer, its end included; not the prompt, not padding.
      ends: the token that ends the answer, whose weight is 1.

    References:
      Lin et al. 2024, arXiv:2411.19943, section 4, and the released code (end).

    Examples:
      >>> scores = jnp.array([[0.5, 0.25, 0.75]])
      >>> response = jnp.array([[False, True, True]])
      >>> ends = jnp.array([[False, False, True]])
      >>> cdpo_weights(scores, response, ends=ends).tolist()
      [[0.0, 0.75, 1.0]]
    """
    numerics.check_shapes(
        scores=(scores, "n t"), response=(response, "n t"), ends=(ends, "n t")
    )
    response = numerics.check_mask(response, "response")
    weights = 1 - numerics.at_least_f32(scores, "scores")
    if ends is not None:
        weights = jnp.where(numerics.check_mask(ends, "ends"), 1, weights)
    return jax.lax.stop_gradient(jnp.where(response, weights, 0))


def cdpo(
    chosen: Float[Array, "n s"],
    rejected: Float[Array, "n t"],
    *,
    reference_chosen: Float[Array, "n s"],
    reference_rejected: Float[Array, "n t"],
    rejected_weights: Float[Array, "n t"],
    chosen_weights: Float[Array, "n s"] | None = None,
    chosen_tokens: Bool[Array, "n s"] | None = None,
    rejected_tokens: Bool[Array, "n t"] | None = None,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    beta: numerics.Number = 0.1,
    label_smoothing: numerics.Number = 0.0,
    form: Literal["sequence", "token"] = "sequence",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Direct preference optimisation with a weight for each token.

        c_it = chosen_weights[i, t] (chosen[i, t] - reference_chosen[i, t])
        r_it = rejected_weights[i, t] (rejected[i, t] - reference_rejected[i, t])
        sequence: h_i  = sum_t c_it - sum_t r_it
        token:    h_it = c_it - r_it
        loss = (1 - label_smoothing) softplus(-beta h)
               + label_smoothing softplus(beta h)
                                                                              (nats)

    With all weights 1 the sequence form is `losses.dpo`. Reference and weights carry no
    gradient. In the token form the mean is over all n * t places, prompt and padding
    too, which add the constant log 2 and make gradients smaller by their share.

    Args:
      chosen: log-probability of each token of the preferred responses.
      rejected: log-probability of each token of those that are not preferred.
      reference_chosen: log-probabilities of `chosen` under the reference model.
      reference_rejected: log-probabilities of `rejected` under the reference model.
      rejected_weights: weight of each token, see `cdpo_weights`.
      chosen_weights: the same for the preferred responses; 1 when None.
      chosen_tokens: tokens of the preferred responses; others have the log-ratio 0.
      rejected_tokens: the same for those that are not preferred.
      where: pairs that count.
      weights: one non-negative weight per pair.
      beta: how closely the model keeps to the reference, > 0.
      label_smoothing: how often a preference is the wrong way round, in [0, 1].
      form: "sequence" as in the paper, or "token" as in its released code, which sets
        places of both responses against each other by their number.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs (token: places) that count; None
        gives [n], in the token form sums over places.

    Raises:
      ValueError: responses of different lengths in the token form.

    References:
      Lin et al. 2024, arXiv:2411.19943, section 4; chenzhiling9954/
      Critical-Tokens-Matter (token form).

    Examples:
      >>> zero, x = jnp.zeros((1, 2)), jnp.array([[-5.0, -20.0]])
      >>> reference = dict(reference_chosen=zero, reference_rejected=zero)
      >>> loss = cdpo(zero, x, **reference, rejected_weights=jnp.array([[0.0, 1.0]]))
      >>> f"{loss:.4f}"
      '0.1269'
    """
    sizes = numerics.check_shapes(
        chosen=(chosen, "n s"),
        reference_chosen=(reference_chosen, "n s"),
        chosen_weights=(chosen_weights, "n s"),
        chosen_tokens=(chosen_tokens, "n s"),
        rejected=(rejected, "n t"),
        reference_rejected=(reference_rejected, "n t"),
        rejected_weights=(rejected_weights, "n t"),
        rejected_tokens=(rejected_tokens, "n t"),
        where=(where, "n"),
        weights=(weights, "n"),
    )
    if form not in ("sequence", "token"):
        raise ValueError(f'form: expected "sequence" or "token", got {form!r}')

    counts = numerics.mask_or_all(where, (sizes["n"],))

    def ratios(side, log_probs, reference, weights, tokens):
        named = {side: log_probs, f"reference_{side}": reference}
        if weights is not None:
            named[f"{side}_weights"] = weights
        tokens = numerics.mask_or_all(tokens, log_probs.shape, f"{side}_tokens")
        # What does not count leaves no trace in a gradient.
        tokens &= counts[:, None]
        mine, *fixed = (
            jnp.where(tokens, numerics.at_least_f32(x, k), 0) for k, x in named.items()
        )
        theirs, *factor = map(jax.lax.stop_gradient, fixed)
        return factor[0] * (mine - theirs) if factor else mine - theirs

    sides = [
        ratios("chosen", chosen, reference_chosen, chosen_weights, chosen_tokens),
        ratios(
            "rejected", rejected, reference_rejected, rejected_weights, rejected_tokens
        ),
    ]
    if form == "sequence":
        sides = [jnp.sum(x, axis=1) for x in sides]
    elif sizes["s"] != sizes["t"]:
        raise ValueError(
            f"rejected: expected {sizes['s']} tokens, as many as chosen, with "
            f'form="token", got {sizes["t"]}'
        )
    else:
        sides = [x.reshape(-1) for x in sides]
        counts = jnp.repeat(counts, sizes["t"])
        weights = None if weights is None else jnp.repeat(weights, sizes["t"])
    none = jnp.zeros_like(sides[0])
    loss = losses.dpo(
        *sides,
        reference_chosen=none,
        reference_rejected=none,
        where=counts,
        weights=weights,
        beta=beta,
        label_smoothing=label_smoothing,
        reduce_fn=reduce_fn,
    )
    if form == "token" and reduce_fn is None:
        return jnp.sum(loss.reshape(sizes["n"], -1), axis=1)
    return loss


def find_critical_token(
    num_correct: Integer[Array | np.ndarray, " t"], *, later_limit: int = 3
) -> int:
    """The token of a wrong answer from which on sampling finds no right answer.

    The first token whose continuations are all wrong. If more than `later_limit` are
    right after a later token, the search begins again behind that one; if it then finds
    none, the last one found stands.

    Args:
      num_correct: how many of the answers sampled after each token (the token itself
        included in the prefix) were right.
      later_limit: right answers that later tokens may have.

    Returns:
      its place, or -1 if every token leaves a way to the right answer.

    References:
      Lin et al. 2024, arXiv:2411.19943, section 2; the limit is the released code's.

    Examples:
      >>> find_critical_token(np.array([9, 0, 5, 2, 0, 1, 0]))
      4
    """
    numerics.check_shapes(num_correct=(num_correct, "t"))
    counts = np.asarray(numerics.check_integer(num_correct, "num_correct"))
    numerics.check_nonnegative(num_correct=counts, later_limit=later_limit)
    hopeless = np.flatnonzero(counts == 0)
    if not hopeless.size:
        return -1
    # The last stretch without a hopeful token that has a hopeless one.
    hopeful = np.flatnonzero(counts[: hopeless[-1]] > later_limit)
    start = hopeful[-1] if hopeful.size else 0
    return int(hopeless[hopeless >= start][0])


def probabilities(
    log_probs: Array, size: int, labels: Array, where: Array | None, ignore_index: int
) -> Float[Array, "n t"]:
    """exp of log-probabilities, 0 where no label counts; a constant."""
    labels = numerics.check_columns(labels, size, "labels", ignore=ignore_index)
    counts = numerics.mask_or_all(where, labels.shape) & (labels < size)
    return jax.lax.stop_gradient(jnp.where(counts, jnp.exp(log_probs), 0))
