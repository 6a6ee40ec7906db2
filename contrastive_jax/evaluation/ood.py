"""Out-of-distribution detection: AUROC, AUPR, FPR95, scores of features and of logits.

A higher score means more in-distribution throughout. Computed on the host; areas by
scikit-learn, from ranks, so that all measures are exact under ties and infinite scores
are scores. An empty array of scores, a NaN or a wrong shape raises ValueError and
a wrong dtype TypeError, naming the argument.
"""

import numpy as np
from jaxtyping import Array, Float, Shaped
from scipy.special import logsumexp
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors

from contrastive_jax import numerics
from contrastive_jax.evaluation import checks


def auroc(
    in_scores: Shaped[Array | np.ndarray, " n"],
    out_scores: Shaped[Array | np.ndarray, " m"],
) -> float:
    """Area under the ROC curve, in [0, 1].

        P(in > out) + P(in = out) / 2   over all pairs

    Args:
      in_scores: scores of in-distribution examples.
      out_scores: scores of out-of-distribution examples.

    Examples:
      >>> auroc(np.array([2.0, 1.0]), np.array([1.0, 0.0]))
      0.875
    """
    ranks, inside = _ranks(in_scores, out_scores)
    return float(roc_auc_score(inside, ranks))


def aupr_in(
    in_scores: Shaped[Array | np.ndarray, " n"],
    out_scores: Shaped[Array | np.ndarray, " m"],
) -> float:
    """Average precision with in-distribution as the positive class, in [0, 1].

        sum over thresholds t, falling, of (recall_t - recall_before) precision_t

    Tied scores pass a threshold together. Chance level is n / (n + m).

    Args:
      in_scores: scores of in-distribution examples.
      out_scores: scores of out-of-distribution examples.

    Examples:
      >>> round(aupr_in(np.array([2.0, 1.0]), np.array([1.0, 0.0])), 4)
      0.8333
    """
    ranks, inside = _ranks(in_scores, out_scores)
    return _average_precision(inside, ranks)


def aupr_out(
    in_scores: Shaped[Array | np.ndarray, " n"],
    out_scores: Shaped[Array | np.ndarray, " m"],
) -> float:
    """Average precision with out-of-distribution as the positive class, in [0, 1].

    `aupr_in` with both sides swapped and scores negated. Chance level is m / (n + m).

    Args:
      in_scores: scores of in-distribution examples.
      out_scores: scores of out-of-distribution examples.

    Examples:
      >>> round(aupr_out(np.array([2.0, 1.0]), np.array([1.0, 0.0])), 4)
      0.8333
    """
    ranks, inside = _ranks(in_scores, out_scores)
    return _average_precision(~inside, -ranks)


def fpr_at_tpr(
    in_scores: Shaped[Array | np.ndarray, " n"],
    out_scores: Shaped[Array | np.ndarray, " m"],
    *,
    tpr: float = 0.95,
) -> float:
    """False-positive rate on out-of-distribution examples at a true-positive rate.

        P(out_scores >= t),  t: largest threshold with P(in_scores >= t) >= tpr

    With tpr = 0.95 it is FPR95.

    Args:
      in_scores: scores of in-distribution examples.
      out_scores: scores of out-of-distribution examples.
      tpr: fraction of in-distribution examples that pass the threshold, in (0, 1].

    Raises:
      ValueError: a tpr outside of (0, 1].

    Examples:
      >>> fpr_at_tpr(np.array([4.0, 3.0, 2.0, 1.0]), np.array([2.0, 0.0]), tpr=0.75)
      0.5
    """
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr: expected a fraction in (0, 1], got {tpr}")
    ranks, inside = _ranks(in_scores, out_scores)
    ordered = np.sort(ranks[inside])[::-1]
    # The least count c with c / n >= tpr, robust to 0.95 * 20 being above 19.
    count = int(np.ceil(tpr * len(ordered) - 1e-9))
    return float(np.mean(ranks[~inside] >= ordered[max(count, 1) - 1]))


def ood_metrics(
    in_scores: Shaped[Array | np.ndarray, " n"],
    out_scores: Shaped[Array | np.ndarray, " m"],
) -> dict[str, float]:
    """AUROC, both AUPR and FPR95, each in [0, 1].

    Args:
      in_scores: scores of in-distribution examples.
      out_scores: scores of the others.

    Returns:
      "auroc", "aupr_in", "aupr_out" and "fpr95" (`fpr_at_tpr` at 0.95).

    Raises:
      ValueError: an empty side, NaN.

    Examples:
      >>> ood_metrics(np.array([2.0, 1.0]), np.array([0.0]))["fpr95"]
      0.0
    """
    return {
        "auroc": auroc(in_scores, out_scores),
        "aupr_in": aupr_in(in_scores, out_scores),
        "aupr_out": aupr_out(in_scores, out_scores),
        "fpr95": fpr_at_tpr(in_scores, out_scores),
    }


def mahalanobis_scores(
    train: Float[Array | np.ndarray, "n d"],
    queries: Float[Array | np.ndarray, "q d"],
    *,
    normalize: bool = True,
    recenter: bool = False,
) -> np.ndarray:
    """Negative squared Mahalanobis distance to the training features.

        u = (x / ||x|| - m) / s,   m, s: mean and standard deviation of x / ||x||
                                         over the training rows, channel by channel
        score = -(u - c)^T pinv(S) (u - c),   S: covariance of u over the training rows

    with c = 0, the mean of u. Statistics divide by n. Higher is more in-distribution.
    Computed in float64.

    Args:
      train: features of in-distribution training examples.
      queries: features to score.
      normalize: whether rows are scaled to length 1 first.
      recenter: c = m instead, which subtracts the mean twice.

    Returns:
      A score for each query, float64.

    Raises:
      ValueError: features that are not finite.

    References:
      Lee et al. 2018, arXiv:1807.03888, eq. 2; Sehwag et al. 2021, arXiv:2103.12051,
      section 3 (one cluster).

    Deviations:
      The released code of PALM (Lu et al. 2024, arXiv:2402.02653) subtracts the mean
      twice: `recenter`.

    Examples:
      >>> train = np.array([[2.0], [4.0], [6.0]])
      >>> scores = mahalanobis_scores(train, np.array([[4.0], [8.0]]), normalize=False)
      >>> abs(scores).round(4)
      array([0., 6.])
    """
    numerics.check_shapes(train=(train, "n d"), queries=(queries, "q d"))
    parts = []
    for name, x in (("train", train), ("queries", queries)):
        x = checks.features(x, name)
        parts.append(_unit(x) if normalize else x)
    mean, std = np.mean(parts[0], axis=0), np.std(parts[0], axis=0)
    # A channel without variance, of which rounding leaves a little, says nothing.
    varies = (np.max(parts[0], axis=0) > np.min(parts[0], axis=0)) & (std > 0)
    train, queries = ((x - mean) / np.where(varies, std, np.inf) for x in parts)
    inverse = np.linalg.pinv(train.T @ train / len(train), hermitian=True)
    gaps = queries - mean if recenter else queries
    return -np.einsum("qd,de,qe->q", gaps, inverse, gaps)


def knn_scores(
    train: Float[Array | np.ndarray, "n d"],
    queries: Float[Array | np.ndarray, "q d"],
    *,
    k: int,
) -> np.ndarray:
    """Negative distance to the k-th nearest training feature, on the unit sphere.

        score = -|| x / ||x|| - t_k / ||t_k|| ||,  t_k: k-th nearest training row

    Args:
      train: features of in-distribution training examples.
      queries: features to score.
      k: which neighbor, from 1 to the training rows.

    Returns:
      A score for each query.

    Raises:
      ValueError: k beyond the training rows, features that are not finite.

    References:
      Sun et al. 2022, arXiv:2204.06507, section 3.

    Examples:
      >>> train = np.array([[1.0, 0.0], [0.0, 2.0]])
      >>> knn_scores(train, np.array([[3.0, 0.0]]), k=2).round(4)
      array([-1.4142])
    """
    n = numerics.check_shapes(train=(train, "n d"), queries=(queries, "q d"))["n"]
    if not 1 <= k <= n:
        raise ValueError(f"k: expected 1 to {n} (the training rows), got {k}")
    search = NearestNeighbors(n_neighbors=k, algorithm="brute")
    search.fit(_unit(checks.features(train, "train")))
    distances, _ = search.kneighbors(_unit(checks.features(queries, "queries")))
    return -distances[:, -1]


def softmax_confidence(logits: Float[Array | np.ndarray, "n c"]) -> np.ndarray:
    """Largest softmax probability of a classifier, in (0, 1].

    Args:
      logits: class scores, finite.

    References:
      Hendrycks and Gimpel 2017, arXiv:1610.02136, section 2.

    Examples:
      >>> softmax_confidence(np.array([[0.0, 0.0], [100.0, 0.0]]))
      array([0.5, 1. ])
    """
    numerics.check_shapes(logits=(logits, "n c"))
    logits = checks.features(logits, "logits")
    return np.exp(np.max(logits, axis=1) - logsumexp(logits, axis=1))


def energy_scores(
    logits: Float[Array | np.ndarray, "n c"], *, temperature: float = 1.0
) -> np.ndarray:
    """Negative free energy of a classifier.

        score = temperature log sum_c exp(logits_c / temperature)

    Args:
      logits: class scores, finite.
      temperature: > 0.

    References:
      Liu et al. 2020, arXiv:2010.03759, eq. 4.

    Examples:
      >>> energy_scores(np.array([[0.0, 0.0]])).round(4)
      array([0.6931])
    """
    numerics.check_shapes(logits=(logits, "n c"))
    numerics.check_positive(temperature=temperature)
    scaled = checks.features(logits, "logits") / temperature
    return temperature * np.asarray(logsumexp(scaled, axis=1))


def _ranks(in_scores, out_scores):
    """Ranks of all scores, equal for equal scores, and which are in-distribution."""
    numerics.check_shapes(in_scores=(in_scores, "n"), out_scores=(out_scores, "m"))
    parts = checks.reals(in_scores, "in_scores"), checks.reals(out_scores, "out_scores")
    inside = np.arange(sum(map(len, parts))) < len(parts[0])
    return rankdata(np.concatenate(parts), "dense"), inside


def _unit(x):
    """Rows of any length scaled to length 1; zero rows stay."""
    x = checks.scaled(x, axis=1)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)


def _average_precision(positive, ranks):
    """scikit-learn's, without what rounding leaves above 1."""
    return min(float(average_precision_score(positive, ranks)), 1.0)
