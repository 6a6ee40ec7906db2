"""Measures of generated samples: pass@k, entropy of tokens."""

import numpy as np
from jaxtyping import Array, Int

from contrastive_jax import numerics


def pass_at_k(
    num_correct: Int[Array | np.ndarray, " n"], *, num_samples: int, k: int
) -> float:
    """pass@k: probability that one of k samples solves a problem; mean over problems.

        mean_i ( 1 - C(num_samples - num_correct[i], k) / C(num_samples, k) )

    Unbiased, from `num_samples` samples per problem.

    Args:
      num_correct: how many of the samples of each problem were correct.
      num_samples: samples drawn for each problem.
      k: samples allowed, 1 to num_samples.

    Raises:
      ValueError: counts outside of 0 to num_samples, k out of range.

    Examples:
      >>> round(pass_at_k(np.array([1, 0]), num_samples=4, k=2), 4)
      0.25

    References:
      Chen et al. 2021, arXiv:2107.03374, eq. 1.
    """
    numerics.check_shapes(num_correct=(num_correct, "n"))
    correct = np.asarray(
        numerics.check_columns(num_correct, num_samples + 1, "num_correct")
    )
    if not 1 <= k <= num_samples:
        raise ValueError(f"k: expected 1 to {num_samples} (the samples), got {k}")
    # C(n - c, k) / C(n, k) = prod over j < k of (n - c - j) / (n - j).
    j = np.arange(k)
    left = np.maximum(num_samples - correct[:, None] - j[None, :], 0)
    failed = np.prod(left / (num_samples - j)[None, :], axis=1)
    return float(np.mean(1 - failed))


def unigram_entropy(tokens: Int[Array | np.ndarray, "n t"]) -> float:
    """Entropy of the token frequencies of each sequence, the mean over sequences.

        mean_i -sum_v p_iv log p_iv      (nats),  p_iv: fraction of tokens of i that are
        v

    Low where a generator repeats itself.

    Args:
      tokens: sequences of equal length.

    Examples:
      >>> round(unigram_entropy(np.array([[0, 1], [2, 2]])), 4)
      0.3466
    """

    def entropy(row):
        frequencies = np.unique(row, return_counts=True)[1] / len(row)
        return -np.sum(frequencies * np.log(frequencies))

    return float(np.mean([entropy(row) for row in np.asarray(tokens)]))
