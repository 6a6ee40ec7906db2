"""Random numbers keyed per example, so that results do not depend on devices.

`rng` is one key for all examples or one key per example, [n]: with the latter an
example has the same numbers whatever device and batch it is in.

Uniform numbers in float32 are multiples of 2^-23: a chance compared with one is off by
up to 1.2e-7. `bernoulli` and `gumbel` are right down to chances of 1e-13.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Integer, Key

from contrastive_jax import numerics


def fold_keys(
    rng: Key[Array, "*keys"], number: int | Integer[Array, ""]
) -> Key[Array, "*keys"]:
    """`jax.random.fold_in` of a number into one key, or into each of several.

    Args:
      rng: one key, or one per example.
      number: of a step, or of one of several uses of the same key.

    Examples:
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> bool(fold_keys(keys, 7)[1] == jax.random.fold_in(keys[1], 7))
      True
    """
    if rng.ndim == 0:
        return jax.random.fold_in(rng, number)
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(rng, number)


def per_key(
    draw: Callable[[Array, tuple[int, ...]], Array],
    rng: Key[Array, "*keys"],
    shape: tuple[int, ...],
) -> Array:
    """Random numbers of a shape, drawn with one key or with one key per example.

    Args:
      draw: function of a key and a shape.
      rng: one key, or as many as the shape has rows.
      shape: shape of the result, examples first.

    Raises:
      ValueError: another number of keys.
    """
    if rng.ndim == 0:
        return draw(rng, shape)
    if rng.shape != shape[:1]:
        raise ValueError(
            f"rng: expected one key or {shape[0] if shape else 'one'}, got shape "
            f"{list(rng.shape)}"
        )
    return jax.vmap(lambda key: draw(key, shape[1:]))(rng)


def normal(
    rng: Key[Array, "*keys"], shape: tuple[int, ...], dtype: DTypeLike = float
) -> Float[Array, "..."]:
    """Standard normal numbers, drawn with one key or with one key per example.

    Examples:
      >>> normal(jax.random.split(jax.random.key(0), 2), (2, 3)).shape
      (2, 3)
    """
    return per_key(lambda key, s: jax.random.normal(key, s, dtype), rng, shape)


def uniform(
    rng: Key[Array, "*keys"], shape: tuple[int, ...], dtype: DTypeLike = float
) -> Float[Array, "..."]:
    """Uniform numbers in [0, 1), drawn with one key or with one key per example.

    Examples:
      >>> uniform(jax.random.split(jax.random.key(0), 2), (2, 3)).shape
      (2, 3)
    """
    return per_key(lambda key, s: jax.random.uniform(key, s, dtype), rng, shape)


def gumbel(
    rng: Key[Array, "*keys"], shape: tuple[int, ...], dtype: DTypeLike = float
) -> Float[Array, "..."]:
    """Standard Gumbel numbers, drawn with one key or with one key per example.

    The largest of log p_j + g_j is at j with chance p_j, also among millions of rare j
    (`jax.random.gumbel` with mode "high").

    Examples:
      >>> gumbel(jax.random.split(jax.random.key(0), 2), (2, 3)).shape
      (2, 3)
    """
    return per_key(
        lambda key, s: jax.random.gumbel(key, s, dtype, mode="high"), rng, shape
    )


def bernoulli(
    rng: Key[Array, "*keys"], p: Float[Array, "*shape"]
) -> Bool[Array, "*shape"]:
    """True with chance p, drawn with one key or with one key per example.

    Decided by the first 23 binary digits, `uniform(rng, p.shape)`, and 23 more that
    matter to chances near or below 1e-7.

    Args:
      rng: one key, or as many as p has rows.
      p: chances in [0, 1].

    Examples:
      >>> bernoulli(jax.random.key(0), jnp.array([0.0, 1.0])).tolist()
      [False, True]
    """
    p = numerics.at_least_f32(p, "p")
    first = uniform(rng, p.shape, p.dtype)
    rest = uniform(fold_keys(rng, 1), p.shape, p.dtype)
    return rest * jnp.finfo(p.dtype).eps < p - first
