"""Random numbers keyed per example, so that they do not depend on devices."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float, Int, Key


def uniforms(keys: Key[Array, " n"], shape: tuple[int, ...]) -> Float[Array, "n ..."]:
    """Uniform numbers in [0, 1) of a shape per key.

    Examples:
      >>> uniforms(jax.random.split(jax.random.key(0), 2), (3,)).shape
      (2, 3)
    """
    return jax.vmap(lambda key: jax.random.uniform(key, shape))(keys)


def fold_keys(
    rng: Key[Array, "*keys"], number: int | Int[Array, ""]
) -> Key[Array, "*keys"]:
    """A number folded into the key, or into each of the keys.

    Args:
      rng: one key, or one per row.
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
    draw: Callable[[Array, tuple[int, ...]], Array], rng: Array, shape: tuple[int, ...]
) -> Array:
    """Random numbers of a shape from one key, or from one key per row."""
    if rng.ndim == 0:
        return draw(rng, shape)
    if rng.shape != shape[:1]:
        raise ValueError(
            f"rng: expected one key or {shape[0] if shape else 'one'}, got shape "
            f"{list(rng.shape)}"
        )
    return jax.vmap(lambda key: draw(key, shape[1:]))(rng)


def normal(keys: Array, x: Array) -> Array:
    """Standard normal numbers of the shape of x."""
    return per_key(
        lambda key, shape: jax.random.normal(key, shape, x.dtype), keys, x.shape
    )


def uniform(keys: Array, n: int, dtype: Any) -> Array:
    """n uniform numbers."""
    return per_key(lambda key, shape: jax.random.uniform(key, shape, dtype), keys, (n,))
