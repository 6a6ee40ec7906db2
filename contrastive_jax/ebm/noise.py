"""Noise distributions over entities: from counts to probabilities and alias tables."""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Shaped

from contrastive_jax import numerics

Numbers = Array | np.ndarray


def unigram_noise(
    counts: Shaped[Numbers, " n"], *, power: float | Array = 0.75
) -> Float[Array, " n"]:
    """Probabilities proportional to a power of the counts.

        p_a = counts_a^power / sum_b counts_b^power,  0 where the count is 0

    Args:
      counts: occurrences of each entity, 0 or more.
      power: 1 for the frequencies themselves, 0 for equal chances of all that occur.

    Raises:
      ValueError: a negative count, or none above 0 (as far as values are known).

    References:
      Mikolov et al. 2013, arXiv:1310.4546, section 2.2.

    Examples:
      >>> unigram_noise(jnp.array([16.0, 0.0, 81.0]), power=0.5)
      Array([0.30769232, 0.        , 0.6923077 ], dtype=float32)
    """
    numerics.check_shapes(counts=(counts, "n"))
    if not isinstance(counts, jax.core.Tracer):
        check_counts(counts, "counts")
    if not jnp.issubdtype(counts.dtype, jnp.floating):
        counts = counts.astype(jnp.result_type(float))
    mass = powers(jnp, numerics.at_least_f32(counts, "counts"), power)
    return mass / jnp.sum(mass)


def powers(xp: Any, counts: Numbers, power: float | Array) -> Any:
    """A power of the counts, 0 where the count is 0; in numpy or jax.numpy (`xp`)."""
    occurs = counts > 0
    return xp.where(occurs, xp.where(occurs, counts, 1) ** power, 0)


def check_counts(counts: Numbers, name: str) -> None:
    """Checks that no count is negative and one is above 0.

    Raises:
      ValueError: naming the argument and what came.
    """
    known = np.asarray(counts)
    if not (np.all(known >= 0) and np.any(known > 0)):
        raise ValueError(f"{name}: expected numbers >= 0, one of them > 0, got {known}")


def alias_table(
    probs: Float[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, " n"], Integer[np.ndarray, " n"]]:
    """Tables that draw from n probabilities in constant time.

    Choose a row evenly; take it with chance `keep[row]`, else take `alias[row]`. Made
    on the host in time proportional to n. What has probability 0 is never drawn.

    Args:
      probs: probabilities, or any numbers >= 0 proportional to them.

    Returns:
      keep, float32, and alias, int32.

    Raises:
      ValueError: a negative or infinite number, or none above 0.

    References:
      Walker 1977, An efficient method for generating discrete random variables with
      general distributions. Vose 1991, A linear algorithm for generating random numbers
      with a given distribution.

    Examples:
      >>> alias_table(np.array([0.75, 0.25]))
      (array([1. , 0.5], dtype=float32), array([0, 0], dtype=int32))
    """
    probs = np.asarray(probs, np.float64)
    if probs.ndim != 1 or not len(probs):
        raise ValueError(f"probs: expected shape [n], got shape {list(probs.shape)}")
    total = probs.sum()
    if not (np.all(probs >= 0) and 0 < total < np.inf):
        raise ValueError(f"probs: expected numbers >= 0, one > 0, got {probs}")
    left = probs * (len(probs) / total)
    keep, alias = np.ones(len(probs)), np.arange(len(probs))
    # Those with mass 0 come first, so that rounding cannot leave one without an alias.
    small = list(np.flatnonzero((left < 1) & (left > 0)))
    small += list(np.flatnonzero(left == 0))
    large = list(np.flatnonzero(left >= 1))
    while small and large:
        low, high = small.pop(), large[-1]
        keep[low], alias[low] = left[low], high
        left[high] -= 1 - left[low]
        if left[high] < 1:
            small.append(large.pop())
    return keep.astype(np.float32), alias.astype(np.int32)
