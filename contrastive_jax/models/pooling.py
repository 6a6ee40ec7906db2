"""Poolers: states of the tokens of a text to one vector.

`where` marks the tokens that count; a text without any becomes a vector of zeros, with
gradient zero. Sums are taken in float32 at least.
"""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from contrastive_jax import numerics


def pool_cls(
    states: Float[Array, "b t d"], where: Bool[Array, "b t"] | None = None
) -> Float[Array, "b d"]:
    """The state of the first token.

    Args:
      states: of the tokens.
      where: not looked at; texts begin at the left.

    Examples:
      >>> pool_cls(jnp.arange(6.0).reshape(1, 3, 2)).tolist()
      [[0.0, 1.0]]
    """
    numerics.check_shapes(states=(states, "b t d"), where=(where, "b t"))
    return numerics.at_least_f32(states)[:, 0]


def pool_mean(
    states: Float[Array, "b t d"], where: Bool[Array, "b t"] | None = None
) -> Float[Array, "b d"]:
    """The mean state of the tokens that count.

    Examples:
      >>> where = jnp.array([[True, True, False]])
      >>> pool_mean(jnp.arange(6.0).reshape(1, 3, 2), where).tolist()
      [[1.0, 2.0]]
    """
    total, count = sums(states, where)
    return total / jnp.maximum(count, 1)


def pool_sqrt(
    states: Float[Array, "b t d"], where: Bool[Array, "b t"] | None = None
) -> Float[Array, "b d"]:
    """The sum of the states over the square root of the number of tokens.

    Examples:
      >>> pool_sqrt(jnp.ones((1, 4, 1))).tolist()
      [[2.0]]
    """
    total, count = sums(states, where)
    return total / jnp.sqrt(jnp.maximum(count, 1))


def pool_max(
    states: Float[Array, "b t d"], where: Bool[Array, "b t"] | None = None
) -> Float[Array, "b d"]:
    """The largest value of every coordinate among the tokens that count.

    Examples:
      >>> pool_max(jnp.array([[[1.0, 5.0], [2.0, 3.0]]])).tolist()
      [[2.0, 5.0]]
    """
    states, where = checked(states, where)
    largest = jnp.max(jnp.where(where[..., None], states, numerics.MASKED), axis=1)
    return jnp.where(jnp.any(where, axis=1)[:, None], largest, 0)


def pool_last(
    states: Float[Array, "b t d"], where: Bool[Array, "b t"] | None = None
) -> Float[Array, "b d"]:
    """The state of the last token that counts, which is [SEP] in a BERT.

    Examples:
      >>> where = jnp.array([[True, True, False]])
      >>> pool_last(jnp.arange(6.0).reshape(1, 3, 2), where).tolist()
      [[2.0, 3.0]]
    """
    states, where = checked(states, where)
    last = where.shape[1] - 1 - jnp.argmax(where[:, ::-1], axis=1)
    rows = jnp.take_along_axis(states, last[:, None, None], axis=1)[:, 0]
    return jnp.where(jnp.any(where, axis=1)[:, None], rows, 0)


def pool_sum(
    states: Float[Array, "b t d"], where: Bool[Array, "b t"] | None = None
) -> Float[Array, "b d"]:
    """The sum of the states of the tokens that count.

    Examples:
      >>> pool_sum(jnp.ones((1, 4, 1))).tolist()
      [[4.0]]
    """
    return sums(states, where)[0]


def pool_mask(
    states: Float[Array, "b t d"], tokens: Int[Array, "b t"], mask_token: int
) -> Float[Array, "b d"]:
    """The mean state of the mask tokens, as of a prompt: "X" means [MASK].

    Args:
      states: of the tokens.
      tokens: their ids.
      mask_token: id of the mask.

    References:
      Jiang et al. 2022, arXiv:2201.04337, section 3.2 (prompts for sentences).

    Examples:
      >>> pool_mask(jnp.arange(6.0).reshape(1, 3, 2), jnp.array([[5, 4, 5]]), 4)
      Array([[2., 3.]], dtype=float32)
    """
    numerics.check_shapes(states=(states, "b t d"), tokens=(tokens, "b t"))
    return pool_mean(states, tokens == mask_token)


def last_layers(
    hidden: Sequence[Float[Array, "b t d"]],
    k: int,
    *,
    combine: Literal["mean", "concat"] = "concat",
) -> Float[Array, "b t f"]:
    """States of the last k layers as one, to be pooled: side by side, or their mean.

    Args:
      hidden: states of every layer, `TransformerOutput.hidden`.
      k: layers, 1 to all of them.
      combine: "concat" (f = k d, the last layer at the end) or "mean" (f = d).

    Raises:
      ValueError: k or `combine` out of range.

    References:
      Barkan et al. 2020, arXiv:1908.05161, section 3 (the last four, side by side; the
      order is that of its code).

    Examples:
      >>> hidden = [jnp.full((1, 1, 1), x) for x in (1.0, 2.0, 4.0)]
      >>> last_layers(hidden, 2).tolist()
      [[[2.0, 4.0]]]
      >>> last_layers(hidden, 2, combine="mean").tolist()
      [[[3.0]]]
    """
    if not 1 <= k <= len(hidden):
        raise ValueError(f"k: expected 1 to {len(hidden)} (the layers), got {k}")
    chosen = [numerics.at_least_f32(h) for h in hidden[-k:]]
    if combine == "concat":
        return jnp.concatenate(chosen, axis=-1)
    if combine != "mean":
        raise ValueError(f'combine: expected "concat" or "mean", got {combine!r}')
    return jnp.mean(jnp.stack(chosen), axis=0)


POOLERS = {
    "cls": pool_cls,
    "mean": pool_mean,
    "max": pool_max,
    "sqrt": pool_sqrt,
    "lasttoken": pool_last,
}


def pool_layers(
    hidden: Sequence[Float[Array, "b t d"]],
    where: Bool[Array, "b t"] | None = None,
    *,
    k: int = 4,
    combine: Literal["mean", "concat"] = "concat",
    pooler: str = "mean",
    skip_first: bool = True,
) -> Float[Array, "b f"]:
    """The last k layers as one (`last_layers`), pooled over the tokens that count.

    Args:
      hidden: states of every layer, `TransformerOutput.hidden`.
      where: tokens that count; all when None.
      k: layers, 1 to all of them.
      combine: "concat" (f = k d, the last layer at the end) or "mean" (f = d).
      pooler: a key of `POOLERS`.
      skip_first: whether the first token, [CLS], is left out; not with "cls".

    Raises:
      ValueError: k, `combine` or `pooler` out of range.

    References:
      Barkan et al. 2020, arXiv:1908.05161, section 3.

    Examples:
      >>> hidden = [jnp.full((1, 2, 1), x) for x in (1.0, 2.0)]
      >>> pool_layers(hidden, k=2).tolist()
      [[1.0, 2.0]]
    """
    if pooler not in POOLERS or (pooler == "cls" and skip_first):
        known = ", ".join(name for name in POOLERS if not skip_first or name != "cls")
        raise ValueError(f"pooler: expected one of {known}, got {pooler!r}")
    states = last_layers(hidden, k, combine=combine)
    where = numerics.mask_or_all(where, states.shape[:2])
    if skip_first:
        where = where & (jnp.arange(states.shape[1]) > 0)[None, :]
    return POOLERS[pooler](states, where)


def checked(states, where):
    """States in float32 at least, and the mask, after a look at their shapes."""
    numerics.check_shapes(states=(states, "b t d"), where=(where, "b t"))
    states = numerics.at_least_f32(states)
    return states, numerics.mask_or_all(where, states.shape[:2])


def sums(states, where):
    """Sum of the states that count, [b, d], and their number, [b, 1]."""
    states, where = checked(states, where)
    total = jnp.sum(jnp.where(where[..., None], states, 0), axis=1)
    return total, jnp.sum(where, axis=1, keepdims=True).astype(states.dtype)
