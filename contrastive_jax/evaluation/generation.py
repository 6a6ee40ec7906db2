"""Measures of generated samples: pass@k, entropy of tokens."""

import numpy as np
from jaxtyping import Array, Integer
from scipy import stats

from contrastive_jax import numerics
from contrastive_jax.evaluation import checks


def pass_at_k(
    num_correct: Integer[Array | np.ndarray, " n"], *, num_samples: int, k: int
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
    correct = checks.integers(num_correct, "num_correct")
    if np.min(correct) < 0 or np.max(correct) > num_samples:
        raise ValueError(
            f"num_correct: expected 0 to {num_samples} (the samples), got "
            f"{np.min(correct)} to {np.max(correct)}"
        )
    if not 1 <= k <= num_samples:
        raise ValueError(f"k: expected 1 to {num_samples} (the samples), got {k}")
    # C(n - c, k) / C(n, k) = prod over j < k of (n - c - j) / (n - j).
    j = np.arange(k)
    left = np.maximum(num_samples - correct[:, None] - j[None, :], 0)
    failed = np.prod(left / (num_samples - j)[None, :], axis=1)
    return float(np.mean(1 - failed))


def unigram_entropy(tokens: Integer[Array | np.ndarray, "n t"]) -> float:
    """Entropy of the token frequencies of each sequence, the mean over sequences.

        mean_i -sum_v p_iv log p_iv      (nats)

    with p_iv the fraction of the tokens of i that are v.

    Low where a generator repeats itself.

    Args:
      tokens: sequences of equal length.

    Examples:
      >>> round(unigram_entropy(np.array([[0, 1], [2, 2]])), 4)
      0.3466
    """
    numerics.check_shapes(tokens=(tokens, "n t"))
    counts = [
        np.unique(row, return_counts=True)[1]
        for row in checks.integers(tokens, "tokens")
    ]
    return float(np.mean([stats.entropy(count) for count in counts]))
