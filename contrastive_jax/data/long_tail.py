"""Long tails: class sizes that fall geometrically, and rows of a set drawn so."""

import numpy as np
from jaxtyping import Int64, Integer

from contrastive_jax import numerics


def long_tail_sizes(
    num_classes: int, *, largest: int, ratio: numerics.Number
) -> Int64[np.ndarray, " k"]:
    """Class sizes from the largest down to largest / ratio.

        size_c = largest ratio^(-c / (num_classes - 1)), rounded, at least 1

    Args:
      num_classes: number of classes.
      largest: size of the first.
      ratio: of the largest and the smallest size, at least 1.

    References:
      Cui et al. 2019, arXiv:1901.05555, section 5.1 (long-tailed CIFAR).

    Examples:
      >>> long_tail_sizes(3, largest=100, ratio=25).tolist()
      [100, 20, 4]
    """
    numerics.check_positive(num_classes=num_classes, largest=largest)
    if not ratio >= 1:
        raise ValueError(f"ratio: expected a number >= 1, got {ratio}")
    powers = np.arange(num_classes) / max(num_classes - 1, 1)
    return np.maximum(np.round(largest * ratio**-powers), 1).astype(np.int64)


def long_tail_rows(
    labels: Integer[np.ndarray, " n"], sizes: Integer[np.ndarray, " k"], *, seed: int
) -> Int64[np.ndarray, " m"]:
    """Row numbers of as many examples of each class as `sizes` says, class by class.

    Args:
      labels: class of every row; classes beyond the sizes are left out.
      sizes: how many rows of each class.
      seed: of the choice.

    Raises:
      ValueError: more rows than a class has.

    Examples:
      >>> rows = long_tail_rows(np.array([1, 0, 0, 1, 0]), np.array([2, 1]), seed=0)
      >>> np.array([1, 0, 0, 1, 0])[rows].tolist()
      [0, 0, 1]
    """
    labels, rng = np.asarray(labels), np.random.default_rng(seed)
    chosen = []
    for c, size in enumerate(sizes):
        members = np.flatnonzero(labels == c)
        if size > len(members):
            raise ValueError(
                f"sizes: expected at most {len(members)} of class {c}, got {size}"
            )
        chosen.append(rng.permutation(members)[:size])
    return np.concatenate(chosen).astype(np.int64)
