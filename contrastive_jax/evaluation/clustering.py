"""Clusters and their agreement with classes: k-means, Hungarian accuracy, NMI and ARI.

Labels and cluster numbers may be any integers, and as many clusters as wanted.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Key
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans

from contrastive_jax import numerics


class Clusters(NamedTuple):
    """What k-means found.

    Attributes:
      centres: the mean of each cluster, [k, d].
      assignments: cluster of each row, [n], 0 to k - 1.
      inertia: sum of squared distances of all rows to their centres.
    """

    centres: np.ndarray
    assignments: np.ndarray
    inertia: float


def kmeans(
    rng: Key[Array, ""],
    x: Float[Array | np.ndarray, "n d"],
    k: int,
    *,
    restarts: int = 10,
    num_iterations: int = 300,
) -> Clusters:
    """Clusters of least squared distance to their mean, the best of several starts.

        min over assignments and centres of sum_i ||x_i - centre[assignment_i]||^2

    scikit-learn's Lloyd iteration from k-means++ starts, on the host. A cluster without
    rows is moved to the row farthest from its own centre, so that no cluster is empty
    while there are k different rows.

    Args:
      rng: random key of the starts.
      x: rows to cluster; normalise them for clusters by angle.
      k: number of clusters, 1 to n.
      restarts: starts of which the one of least inertia is kept.
      num_iterations: of each start, at most.

    Raises:
      TypeError: rows that are not floating point.
      ValueError: a wrong rank, k outside of 1 to n, rows that are not finite.

    Examples:
      >>> x = np.array([[0.0], [0.2], [5.0], [5.2]])
      >>> found = kmeans(jax.random.key(0), x, 2)
      >>> found.assignments[0] == found.assignments[1] != found.assignments[2]
      np.True_
      >>> round(found.inertia, 4)
      0.04

    References:
      Arthur and Vassilvitskii 2007, k-means++: The advantages of careful seeding.
    """
    n = numerics.check_shapes(x=(x, "n d"))["n"]
    x = np.asarray(x)
    if not np.issubdtype(x.dtype, np.float64):
        x = np.asarray(numerics.at_least_f32(x, "x"))
    if not 1 <= k <= n:
        raise ValueError(f"k: expected 1 to {n} (the rows), got {k}")
    if not np.all(np.isfinite(x)):
        raise ValueError("x: expected finite numbers, got NaN or infinities")
    seed = int(jax.random.randint(rng, (), 0, np.iinfo(np.int32).max))
    found = KMeans(k, n_init=restarts, max_iter=num_iterations, random_state=seed)
    found.fit(x)
    return Clusters(found.cluster_centers_, found.labels_, float(found.inertia_))


def match_clusters(
    labels: Integer[Array | np.ndarray, " n"],
    clusters: Integer[Array | np.ndarray, " n"],
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
    labels: Integer[Array | np.ndarray, " n"],
    clusters: Integer[Array | np.ndarray, " n"],
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


def split_cluster_accuracy(
    labels: Integer[Array | np.ndarray, " n"],
    clusters: Integer[Array | np.ndarray, " n"],
    old: Bool[Array | np.ndarray, " n"],
) -> dict[str, float]:
    """Accuracy of clusters on all, old and new classes under one match for all.

    Args:
      labels: true classes.
      clusters: found clusters.
      old: True for examples of classes that were known before.

    Returns:
      "all", "old" and "new", each in [0, 1]; 0 for a part without examples.

    Raises:
      TypeError: labels or clusters that are not integers, a mask that is not boolean.
      ValueError: not one cluster and one mark for each label.

    Examples:
      >>> labels, clusters = np.array([0, 0, 1, 1]), np.array([5, 5, 5, 2])
      >>> split_cluster_accuracy(labels, clusters, labels == 0)
      {'all': 0.75, 'old': 1.0, 'new': 0.5}

    References:
      Vaze et al. 2022, arXiv:2201.02609, section 4 (evaluation protocol).
    """
    numerics.check_shapes(
        labels=(labels, "n"), clusters=(clusters, "n"), old=(old, "n")
    )
    old = np.asarray(numerics.check_mask(old, "old"))
    right = match_clusters(labels, clusters) == np.asarray(labels)
    parts = {"all": np.ones_like(old), "old": old, "new": ~old}
    return {
        k: float(np.mean(right[part])) if np.any(part) else 0.0
        for k, part in parts.items()
    }


def normalized_mutual_information(
    labels: Integer[Array | np.ndarray, " n"],
    clusters: Integer[Array | np.ndarray, " n"],
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
    labels: Integer[Array | np.ndarray, " n"],
    clusters: Integer[Array | np.ndarray, " n"],
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
    # Signed, so that there is a number below every label.
    classes, rows = np.unique(np.asarray(labels, np.int64), return_inverse=True)
    found, columns = np.unique(np.asarray(clusters), return_inverse=True)
    counts = np.zeros((len(classes), len(found)), np.int64)
    np.add.at(counts, (rows, columns), 1)
    return counts, classes, found, columns


def _entropy(p):
    """Entropy of probabilities, in nats."""
    p = p[p > 0]
    return -np.sum(p * np.log(p))
