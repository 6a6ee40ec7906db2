"""Detection measures against scikit-learn, with and without ties."""

import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from contrastive_jax import evaluation

RNG = np.random.default_rng(7)


def scores(seed, ties):
    rng = np.random.default_rng(seed)
    inside, outside = rng.normal(1, 1, 57), rng.normal(0, 1, 83)
    return (np.round(inside), np.round(outside)) if ties else (inside, outside)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ties", [False, True])
def test_equal_scikit_learn(seed, ties):
    inside, outside = scores(seed, ties)
    both = np.concatenate([inside, outside])
    positive = np.arange(len(both)) < len(inside)
    got = evaluation.ood_metrics(inside, outside)
    fpr, tpr, _ = roc_curve(positive, both, drop_intermediate=False)
    want = {
        "auroc": roc_auc_score(positive, both),
        "aupr_in": average_precision_score(positive, both),
        "aupr_out": average_precision_score(~positive, -both),
        "fpr95": np.min(fpr[tpr >= 0.95]),
    }
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-12, err_msg=name)


def test_scores_of_three_values_against_counting():
    rng = np.random.default_rng(0)
    for _ in range(60):
        inside, outside = (rng.integers(0, 3, rng.integers(1, 9)) for _ in range(2))
        wins = inside[:, None] > outside[None, :]
        ties = inside[:, None] == outside[None, :]
        got = evaluation.ood_metrics(inside, outside)
        np.testing.assert_allclose(got["auroc"], np.mean(wins + ties / 2))
        both = np.concatenate([inside, outside])
        positive = np.arange(len(both)) < len(inside)
        want = average_precision_score(positive, both)
        np.testing.assert_allclose(got["aupr_in"], want)
        want = average_precision_score(~positive, -both)
        np.testing.assert_allclose(got["aupr_out"], want)
        tpr = rng.integers(1, len(inside) + 1) / len(inside)
        want = min(
            np.mean(outside >= t) for t in inside if np.mean(inside >= t) >= tpr - 1e-9
        )
        assert evaluation.fpr_at_tpr(inside, outside, tpr=tpr) == want


def test_pairs_by_hand():
    # Pairs (in, out): 3 > 1, 3 > 2, 2 > 1, 2 = 2: (3 + 1 / 2) / 4.
    inside, outside = np.array([3.0, 2.0]), np.array([1.0, 2.0])
    assert evaluation.auroc(inside, outside) == 3.5 / 4


def test_extremes():
    low, high = np.zeros(4), np.ones(6)
    perfect = evaluation.ood_metrics(high, low)
    assert perfect == {"auroc": 1.0, "aupr_in": 1.0, "aupr_out": 1.0, "fpr95": 0.0}
    assert evaluation.auroc(low, high) == 0.0
    constant = evaluation.ood_metrics(np.zeros(6), low)
    assert constant == {"auroc": 0.5, "aupr_in": 0.6, "aupr_out": 0.4, "fpr95": 1.0}
    # Infinite scores are scores.
    assert evaluation.auroc(np.array([np.inf]), np.array([-np.inf])) == 1.0


def test_exactly_95_of_100_pass():
    inside = np.arange(100.0)
    assert evaluation.fpr_at_tpr(inside, np.array([5.0])) == 1.0
    assert evaluation.fpr_at_tpr(inside, np.array([4.9])) == 0.0
    assert evaluation.fpr_at_tpr(inside, np.array([0.0]), tpr=1.0) == 1.0


@pytest.mark.parametrize("normalize", [False, True])
def test_mahalanobis_equals_scikit_learn(normalize):
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(4, 4))
    train, queries = rng.normal(1, 1, (30, 4)) @ mix, rng.normal(size=(9, 4)) @ mix
    got = evaluation.mahalanobis_scores(train, queries, normalize=normalize)
    if normalize:
        train, queries = (
            x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, queries)
        )
    # Invariant to scaling channels, so standardizing makes no difference.
    want = -EmpiricalCovariance().fit(train).mahalanobis(queries)
    np.testing.assert_allclose(got, want, rtol=1e-8)


def test_mahalanobis_with_the_mean_taken_off_twice_by_hand():
    # Mean 4, standard deviation 2: u = -1, 1 in training, 3 and -2 / 2 for the queries.
    train, queries = np.array([[2.0], [6.0]]), np.array([[10.0], [2.0]])
    options = dict(normalize=False)
    got = evaluation.mahalanobis_scores(train, queries, **options)
    np.testing.assert_allclose(got, [-9, -1])
    got = evaluation.mahalanobis_scores(train, queries, **options, recenter=True)
    np.testing.assert_allclose(got, [-((3 - 4) ** 2), -((-1 - 4) ** 2)])


def test_mahalanobis_of_a_dead_channel_and_a_zero_row_is_finite():
    train = np.concatenate([RNG.normal(size=(9, 2)), np.zeros((9, 1))], axis=1)
    train[0] = 0
    assert np.all(np.isfinite(evaluation.mahalanobis_scores(train, train)))


def test_mahalanobis_does_not_see_a_constant_channel():
    train, queries = RNG.normal(size=(2, 29, 2))
    want = evaluation.mahalanobis_scores(train, queries, normalize=False)
    train, queries = (np.c_[x, np.full(29, 0.1)] for x in (train, queries))
    assert np.std(train, axis=0)[2] > 0  # by rounding
    queries[:, 2] += 1e-8
    got = evaluation.mahalanobis_scores(train, queries, normalize=False)
    np.testing.assert_allclose(got, want, rtol=1e-8)


def test_neighbors_by_brute_force():
    train, queries = RNG.normal(size=(12, 3)), RNG.normal(size=(5, 3))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, queries)]
    distances = np.linalg.norm(unit[1][:, None] - unit[0][None], axis=2)
    for k in (1, 4, 12):
        got = evaluation.knn_scores(3 * train, queries, k=k)
        np.testing.assert_allclose(got, -np.sort(distances)[:, k - 1], rtol=1e-6)
    with pytest.raises(ValueError, match="k: expected 1 to 12"):
        evaluation.knn_scores(train, queries, k=13)


def test_scores_of_a_classifier_by_hand():
    logits = np.log([[1.0, 3.0], [2.0, 2.0]]) + np.array([[0.0], [800.0]])
    got = evaluation.softmax_confidence(logits)
    np.testing.assert_allclose(got, [0.75, 0.5])
    got = evaluation.energy_scores(logits)
    np.testing.assert_allclose(got, [np.log(4), np.log(4) + 800])
    got = evaluation.energy_scores(logits, temperature=0.5)
    np.testing.assert_allclose(got[0], 0.5 * np.log(1 + 9))


def test_wrong_input_is_named():
    with pytest.raises(TypeError, match="queries"):
        evaluation.mahalanobis_scores(np.ones((3, 2)), np.ones((3, 2), int))
    with pytest.raises(ValueError, match="train: expected finite numbers"):
        evaluation.mahalanobis_scores(np.full((3, 2), np.nan), np.ones((3, 2)))
    with pytest.raises(ValueError, match="out_scores: expected real numbers, got NaN"):
        evaluation.auroc(np.ones(3), np.array([np.nan]))
    with pytest.raises(ValueError, match="in_scores: n must be at least 1"):
        evaluation.auroc(np.ones(0), np.ones(2))
    with pytest.raises(ValueError, match="tpr: expected a fraction"):
        evaluation.fpr_at_tpr(np.ones(3), np.ones(2), tpr=0.0)


def test_lengths_beyond_the_range_of_squares():
    train, queries = RNG.normal(size=(2, 20, 3))
    want = evaluation.mahalanobis_scores(train, queries)
    for size in (1e200, 1e-200):
        got = evaluation.mahalanobis_scores(size * train, queries)
        np.testing.assert_allclose(got, want, rtol=1e-8)
