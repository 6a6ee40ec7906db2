"""Partitions against scikit-learn and against all matchings."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from contrastive_jax import evaluation


@pytest.mark.parametrize("num_clusters", [2, 4, 6])
def test_hungarian_accuracy_against_all_matchings(num_clusters):
    rng = np.random.default_rng(num_clusters)
    labels, clusters = rng.integers(0, 4, 30), rng.integers(0, num_clusters, 30)
    # Every cluster gets a class of its own; numbers from 4 up stand for no class.
    names = range(max(4, num_clusters))
    best = max(
        np.mean(np.array(names)[clusters] == labels)
        for names in itertools.permutations(names, num_clusters)
    )
    got = evaluation.hungarian_accuracy(labels, clusters)
    np.testing.assert_allclose(got, best, rtol=1e-12)


def test_clusters_beyond_the_classes_match_nothing():
    labels, clusters = np.array([5, 5, 5, 5]), np.array([1, 1, 1, 2])
    assert evaluation.match_clusters(labels, clusters).tolist() == [5, 5, 5, 4]
    assert evaluation.hungarian_accuracy(labels, clusters) == 0.75


@pytest.mark.parametrize("seed", range(4))
def test_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-2, 3, 50)
    clusters = np.where(rng.uniform(size=50) < 0.5, labels, rng.integers(0, 7, 50))
    got = evaluation.normalized_mutual_information(labels, clusters)
    want = normalized_mutual_info_score(labels, clusters)
    np.testing.assert_allclose(got, want, rtol=1e-10)
    got = evaluation.adjusted_rand_index(labels, clusters)
    np.testing.assert_allclose(got, adjusted_rand_score(labels, clusters), rtol=1e-10)


@pytest.mark.parametrize(
    "labels, clusters",
    [
        ([0, 0, 0], [4, 4, 4]),
        ([0, 1, 2], [7, 3, 5]),
        ([0, 0, 0], [0, 1, 2]),
        ([1], [0]),
    ],
)
def test_trivial_partitions_equal_scikit_learn(labels, clusters):
    labels, clusters = np.array(labels), np.array(clusters)
    got = evaluation.normalized_mutual_information(labels, clusters)
    want = normalized_mutual_info_score(labels, clusters)
    np.testing.assert_allclose(got, want, atol=1e-12)
    got = evaluation.adjusted_rand_index(labels, clusters)
    np.testing.assert_allclose(got, adjusted_rand_score(labels, clusters), atol=1e-12)


def test_names_of_clusters_do_not_matter():
    rng = np.random.default_rng(0)
    labels, clusters = rng.integers(0, 3, 40), rng.integers(0, 3, 40)
    renamed = np.array([70, -3, 11])[clusters]
    for measure in (
        evaluation.hungarian_accuracy,
        evaluation.normalized_mutual_information,
        evaluation.adjusted_rand_index,
    ):
        np.testing.assert_allclose(measure(labels, clusters), measure(labels, renamed))


def test_wrong_input_is_named():
    with pytest.raises((TypeError, ValueError), match="clusters"):
        evaluation.hungarian_accuracy(np.zeros(3, int), np.zeros(3))
    with pytest.raises((TypeError, ValueError), match="clusters"):
        evaluation.adjusted_rand_index(np.zeros(3, int), np.zeros(4, int))
