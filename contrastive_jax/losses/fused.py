"""Losses of tokens from hidden states, with the head applied to a chunk at a time.

A language model ends in logits = hidden @ head.T, n * t * v numbers. These functions
equal those of `losses.tokens` and `losses.distillation_kl` on such logits, but hold
them for `chunk` tokens only, in the gradient too, which computes them a second time
(four products of matrices where the plain form has three). Beside the chunk they need
one array as large as the head, its gradient. Half-precision states are multiplied as
they are and summed in float32.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import numerics, similarity

# (logits [c, v], what belongs to each token, what all share) to a value per token [c]
# and its derivative by the logits [c, v].
Rule = Callable[[Array, Any, Any], tuple[Array, Array]]


def linear_cross_entropy(
    hidden: Float[Array, "n t d"],
    head: Float[Array, "v d"],
    labels: Integer[Array, "n t"],
    *,
    where: Bool[Array, "n t"] | None = None,
    weights: Float[Array, " n"] | None = None,
    ignore_index: int = -100,
    chunk: int = 512,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Cross entropy of the labelled tokens, from hidden states and the head.

        logits[i, t, w] = <hidden[i, t], head[w]>
        loss_it = logsumexp_w logits[i, t, w] - logits[i, t, labels[i, t]]      (nats)

    Equals `token_cross_entropy` of the logits without ever holding them.

    Also known as fused linear cross entropy.

    Args:
      hidden: states of the last layer, normalised as the head wants them.
      head: one row per token of the vocabulary; the table of embeddings if tied.
      labels: token to predict at each position, or `ignore_index`.
      where: positions that count, among those with a label.
      weights: one non-negative weight per sequence, shared by its tokens.
      ignore_index: the label of positions that do not count.
      chunk: tokens whose logits are held at a time, >= 1; does not change the value.
      reduce_fn: `jnp.mean` or `jnp.sum` over tokens that count; None gives the sums of
        the sequences, [n].

    Raises:
      ValueError: a label outside of the vocabulary.

    References:
      Hsu et al. 2024, arXiv:2410.10989, section 3.2; Wijmans et al. 2024,
      arXiv:2411.09009.

    Examples:
      >>> hidden, head = jnp.zeros((1, 3, 2)), jnp.ones((4, 2))
      >>> loss = linear_cross_entropy(hidden, head, jnp.array([[2, -100, 0]]))
      >>> f"{loss:.4f}"
      '1.3863'
    """
    numerics.check_shapes(labels=(labels, "n t"), weights=(weights, "n"))
    log_probs, where = labeled(hidden, head, labels, where, ignore_index, chunk)
    return numerics.reduce_terms(
        -log_probs, where=where, weights=weights, reduce_fn=reduce_fn
    )


def linear_log_probs(
    hidden: Float[Array, "n t d"],
    head: Float[Array, "v d"],
    labels: Integer[Array, "n t"],
    *,
    where: Bool[Array, "n t"] | None = None,
    ignore_index: int = -100,
    chunk: int = 512,
) -> Float[Array, "n t"]:
    """Log-probability of each labelled token, from hidden states and the head.

    Equals `token_log_probs` of hidden @ head.T, 0 where none counts. With
    `[(1 + beta) p, -beta q]` side by side as hidden states and both heads side by side
    it is the log-probability under two contrasted models.

    Args:
      hidden: states of the last layer, normalised as the head wants them.
      head: one row per token of the vocabulary; the table of embeddings if tied.
      labels: the token at each position, or `ignore_index`.
      where: positions that count, among those with a label.
      ignore_index: the label of positions that do not count.
      chunk: tokens whose logits are held at a time, >= 1; does not change the value.

    Raises:
      ValueError: a label outside of the vocabulary.

    References:
      Hsu et al. 2024, arXiv:2410.10989, section 3.2; Wijmans et al. 2024,
      arXiv:2411.09009.

    Examples:
      >>> hidden, head = jnp.zeros((1, 2, 3)), jnp.ones((2, 3))
      >>> linear_log_probs(hidden, head, jnp.array([[1, -100]])).round(4)
      Array([[-0.6931,  0.    ]], dtype=float32)
    """
    return labeled(hidden, head, labels, where, ignore_index, chunk)[0]


def linear_kl(
    hidden: Float[Array, "n t d"],
    head: Float[Array, "v d"],
    reference_hidden: Float[Array, "n t e"],
    reference_head: Float[Array, "v e"],
    *,
    where: Bool[Array, "n t"] | None = None,
    chunk: int = 512,
) -> Float[Array, "n t"]:
    """KL divergence of a model from a reference at each position, from hidden states.

        p = softmax(hidden @ head.T), q = softmax(reference_hidden @ reference_head.T)
        kl[i, t] = sum_w q_w log(q_w / p_w)                                     (nats)

    Equals `distillation_kl(logits, reference)` of each position, 0 where none counts.
    The reference carries no gradient. `token_dpo` takes its sums over t.

    Args:
      hidden: states of the last layer of the model.
      head: its head, one row per token of the vocabulary.
      reference_hidden: states of the reference, of any width.
      reference_head: its head, over the same vocabulary.
      where: positions that count.
      chunk: tokens whose logits are held at a time, >= 1; does not change the value.

    References:
      Zeng et al. 2024, arXiv:2404.11999, eq. 12 (sequential KL divergence).

    Examples:
      >>> hidden, head = jnp.ones((1, 2, 3)), jnp.eye(3)
      >>> linear_kl(hidden, head, 2 * hidden, head).tolist()
      [[0.0, 0.0]]
    """
    numerics.check_shapes(
        hidden=(hidden, "n t d"),
        head=(head, "v d"),
        reference_hidden=(reference_hidden, "n t e"),
        reference_head=(reference_head, "v e"),
        where=(where, "n t"),
    )
    where = numerics.mask_or_all(where, hidden.shape[:2])
    fixed = map(jax.lax.stop_gradient, (reference_hidden, reference_head))
    tokens, shared = (floating(x, "reference") for x in fixed)
    tokens = jnp.where(where[..., None], tokens, 0).reshape(-1, tokens.shape[2])
    return at_tokens(kl_rule, hidden, head, tokens, shared, where, chunk)


def labeled(
    hidden: Array,
    head: Array,
    labels: Array,
    where: Array | None,
    ignore_index: int,
    chunk: int,
) -> tuple[Float[Array, "n t"], Bool[Array, "n t"]]:
    """The log-probability of each label, and which positions count."""
    sizes = numerics.check_shapes(
        hidden=(hidden, "n t d"),
        head=(head, "v d"),
        labels=(labels, "n t"),
        where=(where, "n t"),
    )
    where = numerics.mask_or_all(where, labels.shape)
    labels = numerics.check_columns(labels, sizes["v"], "labels", ignore=ignore_index)
    where &= labels < sizes["v"]
    flat = labels.reshape(-1)
    return at_tokens(label_rule, hidden, head, flat, None, where, chunk), where


def label_rule(logits: Array, labels: Array, shared: None) -> tuple[Array, Array]:
    """Log-probability of the labels, from differences: exact where it is near 0."""
    gaps = logits - numerics.at_columns(logits, labels)[:, None]
    own = labels[:, None] == jnp.arange(logits.shape[1])[None, :]
    others = jax.nn.logsumexp(jnp.where(own, -jnp.inf, gaps), axis=1)
    total = jax.nn.softplus(others)
    rest = -jnp.exp(gaps - total[:, None])
    return -total, jnp.where(own, jax.nn.sigmoid(others)[:, None], rest)


def kl_rule(logits: Array, states: Array, reference: Array) -> tuple[Array, Array]:
    """KL divergence of softmax(logits) from that of states @ reference.T."""
    log_p = jax.nn.log_softmax(logits)
    log_q = jax.nn.log_softmax(similarity.matmul(states, reference))
    q = jnp.exp(log_q)
    return jnp.sum(q * (log_q - log_p), axis=1), jnp.exp(log_p) - q


def at_tokens(
    rule: Rule,
    hidden: Array,
    head: Array,
    tokens: Array,
    shared: Any,
    where: Array,
    chunk: int,
) -> Float[Array, "n t"]:
    """The value of a rule at every token that counts, 0 at others."""
    size = check_chunk(chunk)
    hidden, head = floating(hidden, "hidden"), floating(head, "head")
    # What stands where nothing counts leaves no trace in a gradient.
    flat = jnp.where(where[..., None], hidden, 0).reshape(-1, hidden.shape[2])
    # One head for all devices, in a program that tells devices apart, joins its data.
    head = head + (0 * jnp.sum(where)).astype(head.dtype)
    size = min(size, len(flat))
    # partial(custom_vjp) has lost the types.
    values = jnp.asarray(by_chunks(rule, size, flat, head, tokens, shared))
    return jnp.where(where, values.reshape(where.shape), 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def by_chunks(
    rule: Rule, size: int, hidden: Array, head: Array, tokens: Any, shared: Any
) -> Float[Array, " n"]:
    """The value of a rule at every token, `size` of them at a time."""

    def value(chunk):
        return rule(similarity.matmul(chunk[0], head), chunk[1], shared)[0]

    values = jax.lax.map(value, cut((hidden, tokens), size))
    return values.reshape(-1)[: len(hidden)]


def forward(rule, size, hidden, head, tokens, shared):
    """The values, and what their gradient needs."""
    values = by_chunks(rule, size, hidden, head, tokens, shared)
    return values, (hidden, head, tokens, shared)


def backward(rule, size, kept, slopes):
    """Gradients by hidden states and head; the logits are computed again."""
    hidden, head, tokens, shared = kept

    def add(total: Array, chunk: Any) -> tuple[Array, Array]:
        states, own, outer = chunk
        _, inner = rule(similarity.matmul(states, head), own, shared)
        inner *= outer[:, None]
        total += similarity.matmul(inner.T, states.T)
        return total, similarity.matmul(inner, head.T)

    chunks = cut((hidden, tokens, slopes), size)
    start = jnp.zeros(head.shape, slopes.dtype) + 0 * slopes[0]
    of_head, parts = jax.lax.scan(add, start, chunks)
    of_hidden = jnp.asarray(parts).reshape(-1, hidden.shape[1])[: len(hidden)]
    return of_hidden.astype(hidden.dtype), of_head.astype(head.dtype), None, None


by_chunks.defvjp(forward, backward)


def cut(tree: Any, size: int) -> Any:
    """[n, ...] to [chunks, size, ...] in every leaf, filled up with zeros."""

    def one(x):
        filled = jnp.pad(x, [(0, -len(x) % size), *[(0, 0)] * (x.ndim - 1)])
        return filled.reshape(-1, size, *x.shape[1:])

    return jax.tree.map(one, tree)


def check_chunk(chunk: int) -> int:
    """The number of tokens of a chunk.

    Raises:
      TypeError: no integer.
      ValueError: less than 1.
    """
    try:
        size = operator.index(chunk)
    except TypeError:
        raise TypeError(f"chunk: expected an integer, got {chunk!r}") from None
    if size < 1:
        raise ValueError(f"chunk: expected at least 1, got {chunk}")
    return size


def floating(x: Array, name: str) -> Array:
    """The array as it is, which must be floating point."""
    x = jnp.asarray(x)
    numerics.at_least_f32(x[:0], name)
    return x
