"""Processors: what a decoding rule makes of a model's scores of the next token.

All take logits [..., v] and return scores [..., v] in float32, row by row, and know no
model. A token that is ruled out has -inf; at least one token of every row stays.
Contrasts take two rows of logits (expert and amateur, with and without context), whose
vocabularies must be the same; they are combined in finite numbers and masked last.

All raise TypeError for logits that are not floating point, and ValueError, naming the
argument, for shapes that do not fit together and numbers out of their range.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from contrastive_jax import numerics

Number = float | Float[Array, ""]


def temperature(
    logits: Float[Array, "*n v"], value: float | Float[Array, "..."]
) -> Float[Array, "*n v"]:
    """Logits over a temperature.

    Args:
      logits: scores of the next token.
      value: > 0; below 1 the likeliest tokens gain.

    Examples:
      >>> temperature(jnp.array([2.0, 1.0]), 0.5)
      Array([4., 2.], dtype=float32)
    """
    numerics.check_positive(value=value)
    return numerics.at_least_f32(logits, "logits") / value


def top_k(logits: Float[Array, "*n v"], k: int) -> Float[Array, "*n v"]:
    """The k likeliest tokens of each row, ties of the k-th included.

    Args:
      logits: scores of the next token.
      k: 1 to v.

    References:
      Fan et al. 2018, arXiv:1805.04833, section 5.

    Examples:
      >>> top_k(jnp.array([2.0, 0.0, 1.0]), 2)
      Array([  2., -inf,   1.], dtype=float32)
    """
    logits = numerics.at_least_f32(logits, "logits")
    check_k(k, logits.shape[-1])
    return only(logits, logits >= kth_largest(logits, k))


def top_p(logits: Float[Array, "*n v"], p: Number) -> Float[Array, "*n v"]:
    """The nucleus: the likeliest tokens whose probabilities first add up to p.

    The token that reaches p belongs to it, and so do tokens as likely as that one.

    Args:
      logits: scores of the next token.
      p: in (0, 1]; 1 rules nothing out.

    References:
      Holtzman et al. 2020, arXiv:1904.09751, section 3.1.

    Examples:
      >>> top_p(jnp.array([2.0, 1.0, 0.0]), 0.8)  # probabilities 0.67, 0.24, 0.09
      Array([  2.,   1., -inf], dtype=float32)
    """
    check_share(p=p)
    logits = numerics.at_least_f32(logits, "logits")
    return only(logits, nucleus(logits, p) | (jnp.asarray(p) >= 1))


def nucleus(logits: Float[Array, "*n v"], p: Number) -> Bool[Array, "*n v"]:
    """Tokens at least as likely as some t, the likeliest t with P(those) >= p.

    Without a sort, which takes far longer on a CPU: t is found bit by bit, its highest
    first, as integers whose order is that of the logits.
    """
    size = 8 * logits.dtype.itemsize
    number = jnp.dtype(f"uint{size}")
    bits = jax.lax.bitcast_convert_type(jnp.where(logits == 0, 0.0, logits), number)
    sign = number.type(1 << (size - 1))
    rank = jnp.where(bits & sign, ~bits, bits | sign)
    probs = jax.nn.softmax(logits, axis=-1)

    def next_bit(i, least):
        higher = least | (sign >> i.astype(number))
        mass = jnp.sum(jnp.where(rank >= higher, probs, 0), axis=-1, keepdims=True)
        return jnp.where(mass >= p, higher, least)

    least = jnp.zeros((*logits.shape[:-1], 1), number)
    return rank >= jax.lax.fori_loop(0, size, next_bit, least)


def kth_largest(x: Float[Array, "*n v"], k: int) -> Float[Array, "*n 1"]:
    """The k-th largest of each row."""
    # Of a slice of them XLA makes a sort of the whole row; their least is the same.
    return jnp.min(jax.lax.top_k(x, k)[0], axis=-1, keepdims=True)


def min_p(logits: Float[Array, "*n v"], p: Number) -> Float[Array, "*n v"]:
    """Tokens at least p times as likely as the likeliest.

    Args:
      logits: scores of the next token.
      p: in (0, 1]; 1 leaves the likeliest.

    References:
      Nguyen et al. 2024, arXiv:2407.01082, section 3.

    Examples:
      >>> min_p(jnp.array([2.0, 1.0, 0.0]), 0.3)
      Array([  2.,   1., -inf], dtype=float32)
    """
    check_share(p=p)
    logits = numerics.at_least_f32(logits, "logits")
    return only(logits, plausible(logits, p))


def repetition_penalty(
    logits: Float[Array, "*n v"], seen: Bool[Array, "*n v"], penalty: Number
) -> Float[Array, "*n v"]:
    """Scores of tokens that were there before, divided (above 0) or multiplied.

    Args:
      logits: scores of the next token.
      seen: tokens of the text so far (`seen_tokens`).
      penalty: > 0; 1 changes nothing, more makes repetition less likely.

    References:
      Keskar et al. 2019, arXiv:1909.05858, section 4.1.

    Examples:
      >>> repetition_penalty(jnp.array([2.0, 1.0]), jnp.array([True, False]), 2.0)
      Array([1., 1.], dtype=float32)
    """
    numerics.check_positive(penalty=penalty)
    logits = numerics.at_least_f32(logits, "logits")
    seen = numerics.check_mask(seen, "seen")
    if seen.shape != logits.shape:
        raise ValueError(
            f"seen: expected shape {list(logits.shape)}, got {list(seen.shape)}"
        )
    less = jnp.where(logits > 0, logits / penalty, logits * penalty)
    return jnp.where(seen, less, logits)


def seen_tokens(
    tokens: Int[Array, "n t"], where: Bool[Array, "n t"], vocab_size: int
) -> Bool[Array, "n v"]:
    """Which tokens of the vocabulary stand in each text.

    Args:
      tokens: the texts.
      where: positions that count.
      vocab_size: number of tokens, v.

    Examples:
      >>> seen_tokens(jnp.array([[2, 0]]), jnp.array([[True, False]]), 3)
      Array([[False, False,  True]], dtype=bool)
    """
    numerics.check_shapes(tokens=(tokens, "n t"), where=(where, "n t"))
    tokens = jnp.where(where, tokens, vocab_size)  # beyond: dropped
    empty = jnp.zeros((len(tokens), vocab_size), bool)
    return jax.vmap(lambda row, ids: row.at[ids].set(True, mode="drop"))(empty, tokens)


def plausible(
    logits: Float[Array, "*n v"], alpha: Number, *, min_tokens: int = 1
) -> Bool[Array, "*n v"]:
    """Tokens that the model itself finds plausible, the set that contrasts choose from.

        log p(v) >= log alpha + max_w log p(w)

    Args:
      logits: scores by the model that is trusted (expert, last layer).
      alpha: in [0, 1]; 0 keeps all, 1 the likeliest.
      min_tokens: so many of the likeliest are kept in any case, 1 to v.

    References:
      Li et al. 2023, arXiv:2210.15097, section 3.3.

    Examples:
      >>> plausible(jnp.log(jnp.array([0.6, 0.3, 0.1])), 0.4)
      Array([ True,  True, False], dtype=bool)
    """
    numerics.check_fraction(alpha=alpha)
    logits = numerics.at_least_f32(logits, "logits")
    check_k(min_tokens, logits.shape[-1], "min_tokens")
    alpha = jnp.asarray(alpha, logits.dtype)
    gap = logits - jnp.max(logits, axis=-1, keepdims=True)
    least = kth_largest(gap, min_tokens)
    return (gap >= jnp.minimum(numerics.safe_log(alpha), least)) | (alpha <= 0)


def contrast(
    logits: Float[Array, "*n v"],
    amateur: Float[Array, "*n v"],
    *,
    alpha: Number = 0.1,
    weight: Number = 1.0,
    amateur_temperature: Number = 1.0,
    min_tokens: int = 1,
) -> Float[Array, "*n v"]:
    """Contrastive decoding: what the expert prefers more than an amateur does.

        log p(v) - weight log q(v) / amateur_temperature     for plausible v

    Also known as CD; with the same model after tuning on (or under a prompt for) false
    answers as the amateur, induced hallucination (ICD).

    Args:
      logits: the expert's scores.
      amateur: those of a weaker model on the same text.
      alpha: of `plausible`, by the expert.
      weight: of the amateur.
      amateur_temperature: divides the amateur's log-probabilities, which are not
        normalized again.
      min_tokens: of `plausible`.

    References:
      Li et al. 2023, arXiv:2210.15097, section 3; Zhang et al. 2023, arXiv:2312.15710.

    Examples:
      >>> p, q = jnp.array([0.6, 0.3, 0.1]), jnp.array([0.8, 0.1, 0.1])
      >>> print(contrast(jnp.log(p), jnp.log(q), alpha=0.4).round(2))
      [-0.29  1.1   -inf]
    """
    numerics.check_positive(amateur_temperature=amateur_temperature)
    log_p, log_q = log_probs(logits=logits, amateur=amateur)
    keep = plausible(log_p, alpha, min_tokens=min_tokens) & possible(log_p)
    return only(log_p - weight * log_q / amateur_temperature, keep)


def context_aware(
    logits: Float[Array, "*n v"],
    without: Float[Array, "*n v"],
    *,
    alpha: float | Float[Array, "..."] = 1.0,
) -> Float[Array, "*n v"]:
    """Context-aware decoding: what the context changes, exaggerated.

        (1 + alpha) logits(v) - alpha without(v)

    Also known as CAD.

    Args:
      logits: scores with the context.
      without: scores without it.
      alpha: strength, >= 0; one number, or one of each row, [..., 1].

    References:
      Shi et al. 2024, arXiv:2305.14739, eq. 2.

    Examples:
      >>> context_aware(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]), alpha=1.0)
      Array([ 2., -1.], dtype=float32)
    """
    a, b = both(logits=logits, without=without)
    return only(a + alpha * (a - b), possible(a))


def entropy_constrained(
    logits: Float[Array, "*n v"],
    without: Float[Array, "*n v"],
    *,
    alpha: Number = 1.0,
    ratio: Number = 4.0,
) -> Float[Array, "*n v"]:
    """COIECD: context-aware where the context agrees with itself, else from memory.

        log p(v) + alpha (log p(v) - log q(v))    for v inside of the bounds
        log q(v) + alpha (log p(v) - log q(v))    for the others

    with p given the context and q without. Inside are tokens with p > max p / ratio
    (unless the likeliest stands alone) and those with p < ratio min p.

    Args:
      logits: scores with the context.
      without: scores without it.
      alpha: strength of the contrast.
      ratio: of both bounds, > 1.

    References:
      Yuan et al. 2024, arXiv:2402.11893, section 3.

    Deviations:
      In the paper the bounds shift with the entropy of q. In the released code that
      entropy cancels in a normalization; this is the released form.

    Examples:
      >>> logits, without = jnp.array([2.0, 2.0, 0.0]), jnp.array([0.0, 0.0, 2.0])
      >>> entropy_constrained(logits, without).argmax()
      Array(0, dtype=int32)
    """
    log_p, log_q = log_probs(logits=logits, without=without)
    inside = within_bounds(logits, ratio=ratio)
    scores = jnp.where(inside, log_p, log_q) + alpha * (log_p - log_q)
    return only(scores, possible(log_p))


def within_bounds(
    logits: Float[Array, "*n v"], *, ratio: Number = 4.0
) -> Bool[Array, "*n v"]:
    """Tokens whose surprisal lies within the bounds of `entropy_constrained`.

    Args:
      logits: scores with the context.
      ratio: of both bounds, > 1.

    Examples:
      >>> print(within_bounds(jnp.log(jnp.array([0.5, 0.4, 0.06, 0.04]))))
      [ True  True  True  True]
      >>> print(within_bounds(jnp.log(jnp.array([0.8, 0.15, 0.04, 0.01]))))
      [False False False  True]
    """
    numerics.check_numbers("a number > 1", lambda x: x > 1, ratio=ratio)
    log_p, _ = log_probs(logits=logits, same=logits)
    # By surprisal, as published: s = log softmax(-log p).
    surprise = jax.nn.log_softmax(-log_p, axis=-1)
    width = jnp.log(jnp.asarray(ratio, log_p.dtype))
    low = jnp.min(surprise, axis=-1, keepdims=True) + width
    high = jnp.max(surprise, axis=-1, keepdims=True) - width
    usual = surprise < low
    alone = jnp.sum(usual, axis=-1, keepdims=True) == 1
    return (usual & ~alone) | (surprise > high)


def js_divergence(
    logits: Float[Array, "*n v"],
    other: Float[Array, "*n v"],
    *,
    base: Number = math.e,
) -> Float[Array, "*n"]:
    """Jensen-Shannon divergence of two softmax distributions, at most log 2.

        (KL(p || m) + KL(q || m)) / 2,  m = (p + q) / 2

    Args:
      logits: scores of the one.
      other: scores of the other.
      base: of the logarithms, > 1: e for nats, 2 for bits, at most 1 of these.

    Examples:
      >>> logits = jnp.array([[0.0, 0.0], [90.0, 0.0]])
      >>> print(js_divergence(logits, logits[::-1]).round(3))
      [0.216 0.216]
    """
    numerics.check_numbers("a number > 1", lambda x: x > 1, base=base)
    log_p, log_q = log_probs(logits=logits, other=other)
    log_m = jnp.logaddexp(log_p, log_q) - jnp.log(2.0).astype(log_p.dtype)
    nats = (divergence(log_p, log_m) + divergence(log_q, log_m)) / 2
    return nats / jnp.log(jnp.asarray(base, log_p.dtype))


def premature_layer(
    logits: Float[Array, "*n v"],
    early: Float[Array, "j *n v"],
    *,
    reverse: bool = True,
) -> Int[Array, "*n"]:
    """The lower layer that differs most from the last one, for each row (DoLa).

    Args:
      logits: scores by the last layer.
      early: scores by j lower layers, read out early.
      reverse: of `layer_divergences`.

    Returns:
      which of the j.

    References:
      Chuang et al. 2024, arXiv:2309.03883, section 2.2.

    Examples:
      >>> early = jnp.array([[0.0, 0.0], [3.0, 0.0]])
      >>> premature_layer(jnp.array([3.0, 0.0]), early)
      Array(0, dtype=int32)
    """
    return jnp.argmax(layer_divergences(logits, early, reverse=reverse), axis=0)


def layer_divergences(
    logits: Float[Array, "*n v"],
    early: Float[Array, "j *n v"],
    *,
    reverse: bool = True,
) -> Float[Array, "j *n"]:
    """How much each lower layer differs from the last one, in nats.

    Args:
      logits: scores by the last layer.
      early: scores by j lower layers, read out early.
      reverse: measure (KL(m || p) + KL(m || q)) / 2, as the released code of DoLa does,
        in place of the Jensen-Shannon divergence of the paper.

    Examples:
      >>> early = jnp.array([[0.0, 0.0], [3.0, 0.0]])
      >>> found = layer_divergences(jnp.array([3.0, 0.0]), early)
      >>> [f"{x:.3f}" for x in found]
      ['0.195', '0.000']
    """
    numerics.check_shapes(early=(early.reshape(early.shape[0], -1), "j nv"))
    logits = jnp.broadcast_to(logits[None], early.shape)
    if not reverse:
        return js_divergence(logits, early)
    log_p, log_q = log_probs(logits=logits, early=early)
    log_m = jnp.logaddexp(log_p, log_q) - jnp.log(2.0).astype(log_p.dtype)
    return (divergence(log_m, log_p) + divergence(log_m, log_q)) / 2


def layer_contrast(
    logits: Float[Array, "*n v"],
    early: Float[Array, "j *n v"],
    *,
    alpha: Number = 0.1,
    min_tokens: int = 1,
    reverse: bool = True,
) -> Float[Array, "*n v"]:
    """DoLa: the last layer against the lower one that differs most from it.

        log p(v) - log p_j(v)     for plausible v,  j by `premature_layer`

    With one lower layer (j = 1) it is the static form.

    Args:
      logits: scores by the last layer.
      early: scores by j lower layers, read out early.
      alpha: of `plausible`, by the last layer.
      min_tokens: of `plausible`.
      reverse: of `premature_layer`.

    References:
      Chuang et al. 2024, arXiv:2309.03883, section 2.

    Examples:
      >>> early = jnp.array([[0.0, 0.0], [3.0, 0.0]])
      >>> print(layer_contrast(jnp.array([3.0, 0.0]), early, alpha=0.0).round(2))
      [ 0.64 -2.36]
    """
    chosen = premature_layer(logits, early, reverse=reverse)
    low = jnp.take_along_axis(early, chosen[None, ..., None], axis=0)[0]
    return contrast(logits, low, alpha=alpha, min_tokens=min_tokens)


def divergence(
    log_p: Float[Array, "*n v"], log_q: Float[Array, "*n v"]
) -> Float[Array, "*n"]:
    """KL divergence of q from p, of `log_probs`."""
    return jnp.maximum(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1), 0)


def possible(scores: Float[Array, "*n v"]) -> Bool[Array, "*n v"]:
    """Tokens that were not ruled out before, of `both` or `log_probs`."""
    return scores > numerics.MASKED


def only(scores: Float[Array, "*n v"], keep: Bool[Array, "*n v"]) -> Array:
    """The scores of the tokens that are kept, -inf for the others."""
    return jnp.where(keep, scores, -jnp.inf)


def both(**logits: Array) -> list[Array]:
    """Two arrays of logits of one shape, in at least float32; MASKED in place of -inf.

    Raises:
      ValueError: two shapes, naming the second array.
    """
    arrays = [numerics.at_least_f32(x, name) for name, x in logits.items()]
    (_, second), shape = logits, arrays[0].shape
    if arrays[1].shape != shape:
        raise ValueError(
            f"{second}: expected shape {list(shape)} (one vocabulary, one batch), got "
            f"{list(arrays[1].shape)}"
        )
    return [jnp.maximum(x, numerics.MASKED) for x in arrays]


def log_probs(**logits: Array) -> list[Array]:
    """Log-probabilities of two arrays of logits of one shape, MASKED for none."""
    return [
        jnp.maximum(jax.nn.log_softmax(x, axis=-1), numerics.MASKED)
        for x in both(**logits)
    ]


def check_k(k: int, vocabulary: int, name: str = "k") -> None:
    """Checks a number of tokens.

    Raises:
      ValueError: naming the argument.
    """
    if not 1 <= k <= vocabulary:
        raise ValueError(f"{name}: expected 1 to {vocabulary} (vocabulary), got {k}")


def check_share(**values: Number) -> None:
    """Checks that plain numbers lie in (0, 1].

    Raises:
      ValueError: naming the argument and its value.
    """
    numerics.check_positive(**values)
    numerics.check_fraction(**values)
