"""Changes to rows of tokens, one random key per row: masking."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from contrastive_jax import numerics, randomness


class MaskedTokens(NamedTuple):
    """Rows with some tokens hidden, and what is to be predicted.

    Attributes:
      tokens: the rows after masking, [n, t].
      places: positions of the hidden tokens, [n, m].
      labels: the tokens that stood there, [n, m].
      where: which of the m count in a row, [n, m].
    """

    tokens: Int[Array, "n t"]
    places: Int[Array, "n m"]
    labels: Int[Array, "n m"]
    where: Bool[Array, "n m"]


def mask_tokens(
    keys: Key[Array, " n"],
    tokens: Int[Array, "n t"],
    where: Bool[Array, "n t"],
    *,
    mask: int,
    vocab_size: int,
    rate: float = 0.15,
) -> MaskedTokens:
    """Hides tokens of each row as BERT does, so many that shapes are fixed.

    Of a row's k tokens, max(1, round(rate k)) are chosen, at most m = ceil(rate t). One
    in ten of them stays, one in ten becomes any token, the others become `mask`.

    Args:
      keys: one per row.
      tokens: token ids.
      where: tokens that may be hidden: neither padding nor special ones.
      mask: id that hides a token.
      vocab_size: number of ids.
      rate: share of the tokens that is hidden, in (0, 1].

    Raises:
      ValueError: a rate out of range.

    References:
      Devlin et al. 2019, arXiv:1810.04805, section 3.1, task 1.

    Examples:
      >>> tokens = jnp.arange(10, 18)[None, :]
      >>> keys, every = jax.random.split(jax.random.key(0), 1), tokens > 0
      >>> out = mask_tokens(keys, tokens, every, mask=1, vocab_size=99, rate=0.25)
      >>> out.tokens.tolist(), out.places.tolist(), out.labels.tolist()
      ([[10, 1, 12, 1, 14, 15, 16, 17]], [[3, 1]], [[13, 11]])
    """
    numerics.check_shapes(tokens=(tokens, "n t"), where=(where, "n t"))
    if not 0 < rate <= 1:
        raise ValueError(f"rate: expected a number in (0, 1], got {rate}")
    n, t = tokens.shape
    most = math.ceil(rate * t)
    order = randomness.uniform(randomness.fold_keys(keys, 0), (n, t))
    places = jax.lax.top_k(jnp.where(where, order, -1.0), most)[1]
    count = jnp.sum(where, axis=1, keepdims=True)
    chosen = jnp.minimum(jnp.maximum(jnp.round(rate * count), 1), count)
    chosen = jnp.arange(most)[None, :] < chosen
    labels = jnp.take_along_axis(tokens, places, axis=1)
    draw = randomness.uniform(randomness.fold_keys(keys, 1), (n, most))
    any_token = randomness.uniform(randomness.fold_keys(keys, 2), (n, most))
    any_token = (any_token * vocab_size).astype(tokens.dtype)
    new = jnp.where(draw < 0.8, mask, jnp.where(draw < 0.9, any_token, labels))
    new = jnp.where(chosen, new, labels)
    rows = jnp.arange(n)[:, None]
    return MaskedTokens(tokens.at[rows, places].set(new), places, labels, chosen)
