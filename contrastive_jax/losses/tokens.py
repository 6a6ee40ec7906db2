"""Losses on the tokens of sequences: prediction, and detection of replaced tokens.

n sequences of t tokens over a vocabulary of v. The mean is over all tokens that count,
whichever sequence they stand in; `reduce_fn=None` gives the sum of each sequence, [n].
Nothing is shifted here: for a causal model hand in `logits[:, :-1]` and
`labels[:, 1:]`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import numerics


def token_cross_entropy(
    logits: Float[Array, "n t v"],
    labels: Integer[Array, "n t"],
    *,
    where: Bool[Array, "n t"] | None = None,
    weights: Float[Array, " n"] | None = None,
    ignore_index: int = -100,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Cross entropy of the labelled tokens: language models, causal or masked.

        loss_it = logsumexp_w logits[i, t, w] - logits[i, t, labels[i, t]]      (nats)

    Also known as language modelling and masked language modelling.

    Args:
      logits: scores of the vocabulary at each position.
      labels: token to predict at each position, or `ignore_index`.
      where: positions that count, among those with a label.
      weights: one non-negative weight per sequence, shared by its tokens.
      ignore_index: the label of positions that do not count.
      reduce_fn: `jnp.mean` or `jnp.sum` over tokens that count; None gives the sums of
        the sequences, [n].

    Raises:
      ValueError: a label outside of the vocabulary.

    References:
      Devlin et al. 2019, arXiv:1810.04805, section 3.1 (masked tokens).

    Examples:
      >>> logits = jnp.zeros((1, 3, 4))
      >>> loss = token_cross_entropy(logits, jnp.array([[2, -100, 0]]))
      >>> f"{loss:.4f}"
      '1.3863'
    """
    numerics.check_shapes(labels=(labels, "n t"), weights=(weights, "n"))
    loss, where = negative_log_probs(logits, labels, where, ignore_index)
    return numerics.reduce_terms(
        loss, where=where, weights=weights, reduce_fn=reduce_fn
    )


def token_log_probs(
    logits: Float[Array, "n t v"],
    labels: Integer[Array, "n t"],
    *,
    where: Bool[Array, "n t"] | None = None,
    ignore_index: int = -100,
) -> Float[Array, "n t"]:
    """Log-probability of each labelled token; 0 where none counts.

        log_probs[i, t] = logits[i, t, labels[i, t]] - logsumexp_w logits[i, t, w]

    Summed over t it is the log-probability of a response given its prompt, when prompt
    and padding carry `ignore_index`.

    Args:
      logits: scores of the vocabulary at each position.
      labels: the token at each position, or `ignore_index`.
      where: positions that count, among those with a label.
      ignore_index: the label of positions that do not count.

    Raises:
      ValueError: a label outside of the vocabulary.

    Examples:
      >>> token_log_probs(jnp.zeros((1, 2, 2)), jnp.array([[1, -100]])).round(4)
      Array([[-0.6931,  0.    ]], dtype=float32)
    """
    loss, where = negative_log_probs(logits, labels, where, ignore_index)
    return jnp.where(where, -loss, 0)


def replaced_token_detection(
    logits: Float[Array, "n t"],
    replaced: Bool[Array, "n t"],
    *,
    where: Bool[Array, "n t"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Each token judged: from the text, or from the generator.

        loss_it = softplus(-logits[i, t]) where replaced, else softplus(logits[i, t])
                                                                              (nats)

    Also known as ELECTRA.

    Args:
      logits: the discriminator's output at each token; high for replaced ones.
      replaced: tokens that differ from the text. A token that the generator filled in
        right is not replaced.
      where: tokens that count; leave padding out.
      weights: one non-negative weight per sequence, shared by its tokens.
      reduce_fn: `jnp.mean` or `jnp.sum` over tokens that count; None gives the sums of
        the sequences, [n].

    References:
      Clark et al. 2020, arXiv:2003.10555, section 2 (discriminator).

    Examples:
      >>> replaced = jnp.array([[True, False]])
      >>> loss = replaced_token_detection(jnp.array([[2.0, -2.0]]), replaced)
      >>> f"{loss:.4f}"
      '0.1269'
    """
    numerics.check_shapes(
        logits=(logits, "n t"),
        replaced=(replaced, "n t"),
        where=(where, "n t"),
        weights=(weights, "n"),
    )
    logits, where = numerics.masked_logits(logits, where)
    replaced = numerics.check_mask(replaced, "replaced")
    return numerics.reduce_terms(
        jax.nn.softplus(jnp.where(replaced, -logits, logits)),
        where=where,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def negative_log_probs(
    logits: Array, labels: Array, where: Array | None, ignore_index: int
) -> tuple[Float[Array, "n t"], Bool[Array, "n t"]]:
    """Minus the log-probability of each label, and which positions count.

    A vocabulary entry of logit -inf is as if absent; where it is the label the position
    drops out.
    """
    numerics.check_shapes(
        logits=(logits, "n t v"), labels=(labels, "n t"), where=(where, "n t")
    )
    v = logits.shape[2]
    where = numerics.mask_or_all(where, labels.shape)
    labels = numerics.check_columns(labels, v, "labels", ignore=ignore_index)
    flat = numerics.at_least_f32(logits, "logits").reshape(-1, v)
    valid = jnp.broadcast_to(where.reshape(-1, 1), flat.shape)
    flat, valid = numerics.masked_logits(flat, valid)
    labels = labels.reshape(-1)
    flat, valid, counts = numerics.labeled_rows(flat, labels, valid)
    loss = numerics.negative_log_softmax(flat, labels, valid)
    return loss.reshape(where.shape), counts.reshape(where.shape)
