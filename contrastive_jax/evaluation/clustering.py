"""Clusters and their agreement with classes: k-means, Hungarian accuracy, NMI and ARI.

Computed on the host. Cluster numbers and labels are [n], any integers below 2^63, and
there may be more or fewer clusters than classes. A wrong dtype raises TypeError and a
wrong shape ValueError, naming the argument.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Key
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from contrastive_jax import numerics
from contrastive_jax.evaluation import checks


class Clusters(NamedTuple):
    """A k-means clustering.

    Attributes:
      centers: the mean of each cluster, [k, d].
      assignments: cluster of each row, [n], 0 to k - 1.
      inertia: sum of squared distances of all rows to their centers.
    """

    centers: np.ndarray
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
    """k-means: the clustering of least inertia over several starts.

        min over assignments and centers of sum_i ||x_i - center[assignment_i]||^2

    scikit-learn's `KMeans` (Lloyd iteration from k-means++ starts, on the host), seeded
    by a random key, in at least float32 and refusing rows that are not finite. A
    cluster without rows is moved to the row farthest from its own center, so that no
    cluster is empty while there are k different rows.

    Args:
      rng: random key of the starts.
      x: rows to cluster; normalize them for clusters by angle.
      k: number of clusters, 1 to n.
      restarts: starts of which the one of least inertia is kept.
      num_iterations: of each start, at most.

    Raises:
      ValueError: k outside of 1 to n, rows that are not finite, restarts or
        num_iterations below 1.

    Examples:
      >>> x = np.array([[0.0], [0.2], [5.0], [5.2]])
      >>> clusters = kmeans(jax.random.key(0), x, 2)
      >>> clusters.assignments[0] == clusters.assignments[1] != clusters.assignments[2]
      np.True_
      >>> round(clusters.inertia, 4)
      0.04

    References:
      Arthur and Vassilvitskii 2007, k-means++: The advantages of careful seeding.
    """
    n = numerics.check_shapes(x=(x, "n d"))["n"]
    wide = x.dtype == np.float64
    x = checks.features(x, "x").astype(np.float64 if wide else np.float32)
    if not 1 <= k <= n:
        raise ValueError(f"k: expected 1 to {n} (the rows), got {k}")
    numerics.check_positive(restarts=restarts, num_iterations=num_iterations)
    seed = int(jax.random.randint(rng, (), 0, np.iinfo(np.int32).max))
    options: dict[str, Any] = dict(n_init=restarts, max_iter=num_iterations)
    with checks.few_threads(x):
        model: Any = KMeans(k, random_state=seed, **options).fit(x)
    return Clusters(model.cluster_centers_, model.labels_, float(model.inertia_))


def match_clusters(
    clusters: Integer[Array | np.ndarray, " n"],
    labels: Integer[Array | np.ndarray, " n"],
) -> np.ndarray:
    """Class predicted by each example's cluster, in the best one-to-one match.

    Clusters and classes are paired so that most examples agree. A cluster without a
    class (where there are more clusters than classes) gives a number below every label.

    Args:
      clusters: cluster of each example.
      labels: true class of each example.

    Examples:
      >>> match_clusters(np.array([7, 7, 3]), np.array([0, 0, 1]))
      array([0, 0, 1])

    References:
      Kuhn 1955, the Hungarian method for the assignment problem.
    """
    clusters, labels = _checked(clusters, labels)
    counts: Any = contingency_matrix(labels, clusters)
    classes = np.unique(labels)
    _, columns = np.unique(clusters, return_inverse=True)
    matched_classes, matched_clusters = linear_sum_assignment(counts, maximize=True)
    match = np.full(counts.shape[1], classes[0] - 1)
    match[matched_clusters] = classes[matched_classes]
    return match[columns]


def hungarian_accuracy(
    clusters: Integer[Array | np.ndarray, " n"],
    labels: Integer[Array | np.ndarray, " n"],
) -> float:
    """Accuracy of clusters under the best one-to-one match with classes, in [0, 1].

    For accuracies of parts of the data (old and new classes) use `match_clusters` once
    on all of it.

    Args:
      clusters: cluster of each example.
      labels: true class of each example.

    Examples:
      >>> hungarian_accuracy(np.array([5, 5, 5, 2]), np.array([0, 0, 1, 1]))
      0.75

    References:
      Xie et al. 2016, arXiv:1511.06335 (accuracy).
    """
    clusters, labels = _checked(clusters, labels)
    return float(np.mean(match_clusters(clusters, labels) == labels))


def split_cluster_accuracy(
    clusters: Integer[Array | np.ndarray, " n"],
    labels: Integer[Array | np.ndarray, " n"],
    old: Bool[Array | np.ndarray, " n"],
) -> dict[str, float]:
    """Accuracy of clusters on all, old and new classes under one match for all.

    Args:
      clusters: cluster of each example.
      labels: true class of each example.
      old: True for examples of classes that were known before.

    Returns:
      "all", "old" and "new", each in [0, 1]; 0 for a part without examples.

    Examples:
      >>> clusters, labels = np.array([5, 5, 5, 2]), np.array([0, 0, 1, 1])
      >>> split_cluster_accuracy(clusters, labels, labels == 0)
      {'all': 0.75, 'old': 1.0, 'new': 0.5}

    References:
      Vaze et al. 2022, arXiv:2201.02609, section 4 (evaluation protocol).
    """
    numerics.check_shapes(
        clusters=(clusters, "n"), labels=(labels, "n"), old=(old, "n")
    )
    old = checks.booleans(old, "old")
    clusters, labels = _checked(clusters, labels)
    correct = match_clusters(clusters, labels) == labels
    parts = {"all": np.ones_like(old), "old": old, "new": ~old}
    return {
        name: float(np.mean(correct[part])) if np.any(part) else 0.0
        for name, part in parts.items()
    }


def normalized_mutual_information(
    clusters: Integer[Array | np.ndarray, " n"],
    labels: Integer[Array | np.ndarray, " n"],
) -> float:
    """Mutual information over the mean of both entropies, in [0, 1].

        NMI = 2 I(clusters; labels) / (H(clusters) + H(labels))

    scikit-learn's. Two partitions of one part each agree fully: 1.

    Args:
      clusters: cluster of each example.
      labels: true class of each example.

    Examples:
      >>> round(normalized_mutual_information(np.array([4, 2]), np.array([0, 1])), 4)
      1.0
    """
    clusters, labels = _checked(clusters, labels)
    return float(np.clip(normalized_mutual_info_score(labels, clusters), 0, 1))


def adjusted_rand_index(
    clusters: Integer[Array | np.ndarray, " n"],
    labels: Integer[Array | np.ndarray, " n"],
) -> float:
    """Fraction of pairs that agree, corrected for chance: 1 for equal partitions.

        ARI = (pairs - expected) / ((row pairs + column pairs) / 2 - expected),
        expected = row pairs column pairs / all pairs

    scikit-learn's, in [-0.5, 1].

    Args:
      clusters: cluster of each example.
      labels: true class of each example.

    Examples:
      >>> adjusted_rand_index(np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]))
      1.0

    References:
      Hubert and Arabie 1985, doi:10.1007/BF01908075.
    """
    clusters, labels = _checked(clusters, labels)
    return float(adjusted_rand_score(labels, clusters))


def _checked(clusters, labels):
    """Both in int64, so that there is a number below every unsigned label."""
    numerics.check_shapes(clusters=(clusters, "n"), labels=(labels, "n"))
    return checks.integers(clusters, "clusters"), checks.integers(labels, "labels")
