"""Agreement of clusters with classes: Hungarian accuracy, NMI and ARI.

Labels and cluster numbers may be any integers, and as many clusters as wanted.
"""

import numpy as np
from jaxtyping import Array, Int
from scipy.optimize import linear_sum_assignment

from contrastive_jax import numerics


def match_clusters(
    labels: Int[Array | np.ndarray, " n"], clusters: Int[Array | np.ndarray, " n"]
) -> np.ndarray:
    """The class that each example's cluster stands for, in the best one-to-one match.

    Clusters and classes are paired so that most examples agree. A cluster without a
    class (there are more clusters than classes) gives a number below every label.

    Args:
      labels: true classes.
      clusters: found clusters.

    Raises:
      TypeError: anything but integers.
      ValueError: not one cluster for each label.

    Examples:
      >>> match_clusters(np.array([0, 0, 1]), np.array([7, 7, 3]))
      array([0, 0, 1])

    References:
      Kuhn 1955, the Hungarian method for the assignment problem.
    """
    counts, classes, _, columns = _contingency(labels, clusters)
    chosen, taken = linear_sum_assignment(counts, maximize=True)
    match = np.full(counts.shape[1], classes[0] - 1)
    match[taken] = classes[chosen]
    return match[columns]


def hungarian_accuracy(
    labels: Int[Array | np.ndarray, " n"], clusters: Int[Array | np.ndarray, " n"]
) -> float:
    """Accuracy of clusters under the best one-to-one match with classes, in [0, 1].

    For accuracies of parts of the data (old and new classes) use `match_clusters` once
    on all of it.

    Args:
      labels: true classes.
      clusters: found clusters.

    Raises:
      TypeError: anything but integers.
      ValueError: not one cluster for each label.

    Examples:
      >>> hungarian_accuracy(np.array([0, 0, 1, 1]), np.array([5, 5, 5, 2]))
      0.75

    References:
      Xie et al. 2016, arXiv:1511.06335 (accuracy).
    """
    return float(np.mean(match_clusters(labels, clusters) == np.asarray(labels)))


def normalized_mutual_information(
    labels: Int[Array | np.ndarray, " n"], clusters: Int[Array | np.ndarray, " n"]
) -> float:
    """Mutual information over the mean of both entropies, in [0, 1].

        NMI = 2 I(labels; clusters) / (H(labels) + H(clusters))

    Two partitions of one part each agree fully: 1.

    Args:
      labels: true classes.
      clusters: found clusters.

    Raises:
      TypeError: anything but integers.
      ValueError: not one cluster for each label.

    Examples:
      >>> round(normalized_mutual_information(np.array([0, 1]), np.array([4, 2])), 4)
      1.0
    """
    counts = _contingency(labels, clusters)[0]
    joint = counts / np.sum(counts)
    rows, columns = _entropy(np.sum(joint, axis=1)), _entropy(np.sum(joint, axis=0))
    if rows + columns == 0:
        return 1.0
    return float(np.clip(2 * (1 - _entropy(joint) / (rows + columns)), 0, 1))


def adjusted_rand_index(
    labels: Int[Array | np.ndarray, " n"], clusters: Int[Array | np.ndarray, " n"]
) -> float:
    """Share of agreeing pairs, corrected for chance: 1 for equal partitions.

        ARI = (pairs - expected) / ((row pairs + column pairs) / 2 - expected),
        expected = row pairs column pairs / all pairs

    Args:
      labels: true classes.
      clusters: found clusters.

    Raises:
      TypeError: anything but integers.
      ValueError: not one cluster for each label.

    Examples:
      >>> adjusted_rand_index(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]))
      1.0

    References:
      Hubert and Arabie 1985, doi:10.1007/BF01908075.
    """
    counts = _contingency(labels, clusters)[0].astype(float)

    def pairs(x):
        return np.sum(x * (x - 1)) / 2

    together, rows = pairs(counts), pairs(np.sum(counts, axis=1))
    columns, total = pairs(np.sum(counts, axis=0)), pairs(np.sum(counts))
    expected = rows * columns / total if total else 0.0
    best = (rows + columns) / 2
    return 1.0 if best == expected else float((together - expected) / (best - expected))


def _contingency(labels, clusters):
    """Counts [classes, clusters], both sets of names, and each example's column."""
    numerics.check_shapes(labels=(labels, "n"), clusters=(clusters, "n"))
    numerics.check_integer(labels, "labels")
    numerics.check_integer(clusters, "clusters")
    classes, rows = np.unique(np.asarray(labels), return_inverse=True)
    found, columns = np.unique(np.asarray(clusters), return_inverse=True)
    counts = np.zeros((len(classes), len(found)), np.int64)
    np.add.at(counts, (rows, columns), 1)
    return counts, classes, found, columns


def _entropy(p):
    """Entropy of probabilities, in nats."""
    p = p[p > 0]
    return -np.sum(p * np.log(p))
