"""Anomaly detection among categorical events: test events, simple scores, measures.

`anomalous_twins` makes the test, `baseline_scores` are methods that need no training of
ours, `detection` measures any method. Every score is high for unusual events. Events
are integers [n, m], one entity of each of m types, numbered from 0; `train` are the
events that counts are taken from.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from contrastive_jax import numerics
from contrastive_jax.evaluation import clustering, ood
from experiments.ape.data import ByChange


def detection(scores: ByChange) -> dict[str, float]:
    """ROC area and average precision (%) of anomaly scores, by changed entities.

    Args:
      scores: by number of changed entities; 0 has those of the usual events.

    Returns:
      "auc_C" and "ap_C" for every number of changes C.

    Examples:
      >>> detection({0: np.array([0.0, 1.0]), 2: np.array([1.0, 2.0])})["auc_2"]
      87.5
    """
    found = {}
    for c in sorted(set(scores) - {0}):
        found[f"auc_{c}"] = 100 * ood.auroc(-scores[0], -scores[c])
        found[f"ap_{c}"] = 100 * ood.aupr_out(-scores[0], -scores[c])
    return found


def precision_recall(scores: ByChange, changed: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall at every threshold of anomaly scores.

    Args:
      scores: by number of changed entities; 0 has those of the usual events.
      changed: which anomalies to tell from the usual events.
    """
    from sklearn.metrics import precision_recall_curve

    both = scores[0], scores[changed]
    truth = np.repeat([False, True], [len(x) for x in both])
    return precision_recall_curve(truth, np.concatenate(both))[:2]


def baseline_scores(
    train: Int[np.ndarray, "k m"],
    events: ByChange,
    sizes: Sequence[int] | Int[np.ndarray, " m"],
    *,
    seed: int,
    num_trees: int,
) -> dict[str, dict[int, np.ndarray]]:
    """Anomaly scores of "unigram", "pair_ratio" and "isolation_forest".

    Args:
      train: events that they learn from.
      events: events to score, by number of changed entities.
      sizes: entities of each type, n_i.
      seed: seed of the forest.
      num_trees: trees in it.
    """
    every = np.concatenate(list(events.values()))
    ends = np.cumsum([len(x) for x in events.values()])[:-1]
    each = {
        "unigram": unigram_surprise(train, every, sizes),
        "pair_ratio": pair_surprise(train, every, sizes),
        "isolation_forest": forest_surprise(
            train, every, sizes, seed=seed, num_trees=num_trees
        ),
    }
    return {
        name: dict(zip(events, np.split(x, ends), strict=True))
        for name, x in each.items()
    }


def unigram_surprise(
    train: Int[np.ndarray, "k m"],
    events: Int[np.ndarray, "n m"],
    sizes: Sequence[int] | Int[np.ndarray, " m"],
) -> Float[np.ndarray, " n"]:
    """Minus the log-probability under independent types, with one added to each count.

        s(e) = -sum_i log p_i(e_i),  p_i(a) = (count_i(a) + 1) / (k + n_i)

    Args:
      train: events to count in.
      events: events to score.
      sizes: entities of each type, n_i.

    Raises:
      ValueError: shapes that do not fit together.

    Examples:
      >>> train = np.array([[0, 0], [0, 1]])
      >>> np.exp(-unigram_surprise(train, np.array([[1, 1]]), [2, 2])).round(3)
      array([0.125])
    """
    numerics.check_shapes(train=(train, "k m"), events=(events, "n m"))
    total = np.zeros(len(events))
    for i, size in enumerate(sizes):
        counts = np.bincount(train[:, i], minlength=size) + 1.0
        total -= np.log(counts / counts.sum())[events[:, i]]
    return total


def pair_surprise(
    train: Int[np.ndarray, "k m"],
    events: Int[np.ndarray, "n m"],
    sizes: Sequence[int] | Int[np.ndarray, " m"],
) -> Float[np.ndarray, " n"]:
    """How seldom the least expected pair of entities occurs, compared to chance.

        s(e) = max over i < j of -log p_ij(e_i, e_j) / (p_i(e_i) p_j(e_j))

    One is added to every count, of pairs and of entities.

    Args:
      train: events to count in.
      events: events to score.
      sizes: entities of each type, n_i.

    Raises:
      ValueError: shapes that do not fit together, one type only.

    References:
      Das and Schneider 2007, Detecting anomalous records in categorical datasets (which
      conditions on more than one entity and smooths otherwise).

    Examples:
      >>> train = np.array([[0, 0], [0, 0], [1, 1], [1, 1]])
      >>> pair_surprise(train, np.array([[0, 0], [0, 1]]), [2, 2]).round(3)
      array([-0.405,  0.693])
    """
    size = numerics.check_shapes(train=(train, "k m"), events=(events, "n m"))
    if size["m"] < 2:
        raise ValueError("train: expected two types or more, got 1")
    worst = np.full(len(events), -np.inf)
    for i, j in itertools.combinations(range(size["m"]), 2):
        (a, one), (b, other) = (
            (events[:, t], np.bincount(train[:, t], minlength=sizes[t]) + 1.0)
            for t in (i, j)
        )
        cells = sizes[i] * sizes[j]
        seen, counts = np.unique(
            train[:, i].astype(np.int64) * sizes[j] + train[:, j], return_counts=True
        )
        cell = a.astype(np.int64) * sizes[j] + b
        place = np.minimum(np.searchsorted(seen, cell), len(seen) - 1)
        both = 1.0 + np.where(seen[place] == cell, counts[place], 0)
        ratio = np.log(both / (len(train) + cells))
        ratio -= np.log(one / one.sum())[a] + np.log(other / other.sum())[b]
        worst = np.maximum(worst, -ratio)
    return worst


def forest_surprise(
    train: Int[np.ndarray, "k m"],
    events: Int[np.ndarray, "n m"],
    sizes: Sequence[int] | Int[np.ndarray, " m"],
    *,
    seed: int,
    num_trees: int = 100,
) -> Float[np.ndarray, " n"]:
    """Anomaly score of scikit-learn's isolation forest on one-hot entities.

    Args:
      train: events that the forest is grown on.
      events: events to score.
      sizes: entities of each type, n_i.
      seed: seed of the forest.
      num_trees: trees in it.

    References:
      Liu et al. 2008, Isolation forest.
    """
    from scipy import sparse
    from sklearn.ensemble import IsolationForest

    first = np.cumsum(sizes) - sizes

    def one_hot(x):
        columns = (x + first[None]).ravel()
        rows = np.repeat(np.arange(len(x)), x.shape[1])
        shape = (len(x), int(np.sum(sizes)))
        ones = np.ones(len(rows), np.float32)
        return sparse.csr_matrix((ones, (rows, columns)), shape=shape)

    forest = IsolationForest(n_estimators=num_trees, random_state=seed)
    return -forest.fit(one_hot(train)).score_samples(one_hot(events))


def usual_partners(
    train: Int[np.ndarray, "k m"],
    sizes: Sequence[int] | Int[np.ndarray, " m"],
    index: int,
    *,
    most: int = 50,
) -> tuple[int, Int[np.ndarray, " n"]]:
    """What the entities of a type go with: the closest type, and a partner in it.

    The closest type is the one, of at most `most` entities, whose entities tell most
    about those of the given type: the highest normalised mutual information in `train`
    (of at most 20,000 events). An entity's partner is the one seen with it most often.

    Args:
      train: events to count in.
      sizes: entities of each type, n_i.
      index: the type in question.
      most: entities that the other type may have.

    Returns:
      the other type and, for every entity of the given type, its partner there.

    Raises:
      ValueError: no other type has between 2 and `most` entities.

    Examples:
      >>> train = np.array([[0, 0, 1], [1, 0, 0], [1, 0, 0]])
      >>> usual_partners(train, [2, 1, 2], 0)
      (2, array([1, 0]))
    """
    some = train[:: max(1, len(train) // 20_000)]
    others = [j for j, size in enumerate(sizes) if j != index and 1 < size <= most]
    if not others:
        raise ValueError(f"sizes: no other type has 2 to {most} entities")
    close = [
        clustering.normalized_mutual_information(some[:, index], some[:, j])
        for j in others
    ]
    other = others[int(np.argmax(close))]
    table = np.zeros((sizes[index], sizes[other]), int)
    np.add.at(table, (train[:, index], train[:, other]), 1)
    return other, np.argmax(table, axis=1)
