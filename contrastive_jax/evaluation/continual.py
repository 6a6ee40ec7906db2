"""Accuracy and forgetting of a model that learns tasks one after the other."""

import numpy as np
from jaxtyping import Array, Float

from contrastive_jax import numerics
from contrastive_jax.evaluation import checks


def continual_metrics(
    accuracies: Float[Array | np.ndarray, "t t"],
) -> dict[str, float]:
    """Average accuracy, last accuracy and forgetting, in the unit of the input.

        A_t = mean_{j <= t} a_tj
        average = mean_t A_t,  last = A_T
        forgetting = mean_{j < T} ( max_{j <= t < T} a_tj - a_Tj )

    Args:
      accuracies: a, on the classes of task j (columns) after training on task t (rows),
        floating point; entries above the diagonal are ignored, NaN elsewhere is not
        hidden.

    Returns:
      "average_accuracy", "last_accuracy" and "forgetting" (0 with one task).

    Examples:
      >>> continual_metrics(np.array([[0.9, 0.0], [0.5, 0.7]]))["forgetting"]
      0.4

    References:
      Chaudhry et al. 2018, arXiv:1801.10112, section 3 (accuracy, forgetting); Rebuffi
      et al. 2017, arXiv:1611.07725, section 4 (average over tasks).
    """
    numerics.check_shapes(accuracies=(accuracies, "t t"))
    a = checks.floats(accuracies, "accuracies")
    tasks = len(a)
    seen = np.sum(np.tril(a), axis=1) / np.arange(1, tasks + 1)
    past = np.where(np.tri(tasks, dtype=bool), a, -np.inf)[:-1, :-1]
    lost = np.max(past, axis=0) - a[-1, :-1] if tasks > 1 else np.zeros(1)
    return {
        "average_accuracy": float(np.mean(seen)),
        "last_accuracy": float(seen[-1]),
        "forgetting": float(np.mean(lost)),
    }
