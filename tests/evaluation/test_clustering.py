"""Partitions against scikit-learn and against all matchings."""

import itertools

import jax
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
    got = evaluation.hungarian_accuracy(clusters, labels)
    np.testing.assert_allclose(got, best, rtol=1e-12)


def test_clusters_beyond_the_classes_match_nothing():
    clusters, labels = np.array([1, 1, 1, 2]), np.array([5, 5, 5, 5])
    assert evaluation.match_clusters(clusters, labels).tolist() == [5, 5, 5, 4]
    assert evaluation.hungarian_accuracy(clusters, labels) == 0.75


@pytest.mark.parametrize("seed", range(4))
def test_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-2, 3, 50)
    clusters = np.where(rng.uniform(size=50) < 0.5, labels, rng.integers(0, 7, 50))
    got = evaluation.normalized_mutual_information(clusters, labels)
    want = normalized_mutual_info_score(labels, clusters)
    np.testing.assert_allclose(got, want, rtol=1e-10)
    got = evaluation.adjusted_rand_index(clusters, labels)
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
def test_trivial_partitions_equal_scikit_learn(clusters, labels):
    labels, clusters = np.array(labels), np.array(clusters)
    got = evaluation.normalized_mutual_information(clusters, labels)
    want = normalized_mutual_info_score(labels, clusters)
    np.testing.assert_allclose(got, want, atol=1e-12)
    got = evaluation.adjusted_rand_index(clusters, labels)
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
        np.testing.assert_allclose(measure(clusters, labels), measure(renamed, labels))


def test_kmeans_finds_the_best_of_all_partitions():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 2))
    result = evaluation.kmeans(jax.random.key(0), x, 3)

    def inertia(names):
        parts = [x[np.array(names) == c] for c in set(names)]
        return sum(np.sum((part - part.mean(axis=0)) ** 2) for part in parts)

    best = min(inertia(names) for names in itertools.product(range(3), repeat=7))
    np.testing.assert_allclose(result.inertia, best, rtol=1e-6)
    np.testing.assert_allclose(inertia(result.assignments), best, rtol=1e-6)
    for c, center in enumerate(result.centers):
        mean = x[result.assignments == c].mean(axis=0)
        np.testing.assert_allclose(center, mean, rtol=1e-6)


def test_kmeans_follows_its_key_and_recovers_far_clusters():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, 200)
    x = (10 * rng.normal(size=(5, 3))[labels] + rng.normal(size=(200, 3))).astype("f4")

    def run(seed):
        return evaluation.kmeans(jax.random.key(seed), x, 5).assignments

    np.testing.assert_array_equal(run(0), run(0))
    assert (run(0) != run(1)).any()  # other names of the same clusters
    assert evaluation.hungarian_accuracy(run(1), labels) > 0.97


def test_clusters_without_a_class_get_a_number_below_all():
    # Also of unsigned labels, as images come with.
    labels = np.array([0, 0, 0, 255], np.uint8)
    got = evaluation.match_clusters(np.array([5, 6, 6, 9]), labels)
    assert got.tolist() == [-1, 0, 0, 255]


def test_split_accuracy_is_one_match_and_its_parts():
    rng = np.random.default_rng(2)
    labels, clusters = rng.integers(0, 4, 40), rng.integers(0, 4, 40)
    old = labels < 2
    got = evaluation.split_cluster_accuracy(clusters, labels, old)
    assert got["all"] == evaluation.hungarian_accuracy(clusters, labels)
    parts = np.mean(old) * got["old"] + np.mean(~old) * got["new"]
    np.testing.assert_allclose(parts, got["all"])
    # One cluster goes to the bigger class, though alone it would be the old one's.
    labels_of_one = np.array([0, 0, 1, 1, 1])
    got = evaluation.split_cluster_accuracy(
        np.full(5, 7), labels_of_one, labels_of_one == 0
    )
    assert got == {"all": 0.6, "old": 0.0, "new": 1.0}
    none = evaluation.split_cluster_accuracy(clusters, labels, np.zeros(40, bool))
    assert none["old"] == 0 and none["new"] == none["all"]


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="k: expected 1 to 3"):
        evaluation.kmeans(jax.random.key(0), np.zeros((3, 2)), 4)
    with pytest.raises((TypeError, ValueError), match="old"):
        evaluation.split_cluster_accuracy(
            np.zeros(3, int), np.zeros(3, int), np.zeros(3)
        )
    with pytest.raises((TypeError, ValueError), match="clusters"):
        evaluation.hungarian_accuracy(np.zeros(3), np.zeros(3, int))
    with pytest.raises((TypeError, ValueError), match="labels"):
        evaluation.adjusted_rand_index(np.zeros(3, int), np.zeros(4, int))


def test_classes_beyond_32_bits():
    labels = np.array([1, 2**32 + 1, 2**33, 1])
    clusters = np.array([0, 1, 2**32, 0])
    assert evaluation.match_clusters(clusters, labels).tolist() == labels.tolist()
    assert evaluation.hungarian_accuracy(clusters, labels) == 1
    assert evaluation.normalized_mutual_information(clusters, labels) == 1
    assert evaluation.adjusted_rand_index(clusters, labels) == 1
    parts = evaluation.split_cluster_accuracy(clusters, labels, labels > 2**32)
    assert parts == {"all": 1, "old": 1, "new": 1}
