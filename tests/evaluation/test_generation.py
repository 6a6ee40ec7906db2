"""Generation and continual learning, against all subsets and by hand."""

import itertools

import numpy as np
import pytest

from contrastive_jax import evaluation


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(k):
    correct = np.array([0, 1, 3, 5])
    want = []
    for count in correct:
        subsets = itertools.combinations([i < count for i in range(5)], k)
        want.append(np.mean([any(subset) for subset in subsets]))
    got = evaluation.pass_at_k(correct, num_samples=5, k=k)
    np.testing.assert_allclose(got, np.mean(want), rtol=1e-12)


def test_pass_at_k_names_what_is_wrong():
    with pytest.raises(ValueError, match="num_correct"):
        evaluation.pass_at_k(np.array([6]), num_samples=5, k=1)
    with pytest.raises(ValueError, match="k: expected 1 to 5"):
        evaluation.pass_at_k(np.array([1]), num_samples=5, k=6)


def test_continual_metrics_by_hand():
    accuracies = np.array([[0.8, 9.0, 9.0], [0.9, 0.6, 9.0], [0.5, 0.2, 0.4]])
    got = evaluation.continual_metrics(accuracies)
    last = (0.5 + 0.2 + 0.4) / 3
    np.testing.assert_allclose(got["last_accuracy"], last)
    average = (0.8 + (0.9 + 0.6) / 2 + last) / 3
    np.testing.assert_allclose(got["average_accuracy"], average)
    # The best on the first task was after the second.
    np.testing.assert_allclose(got["forgetting"], (0.4 + 0.4) / 2)
    assert evaluation.continual_metrics(np.array([[0.7]]))["forgetting"] == 0


def test_unigram_entropy_by_hand(without_type_hooks):
    tokens = np.array([[1, 2**32 + 1, 1, 2**32 + 1], [5, 5, 5, 5]])
    np.testing.assert_allclose(evaluation.unigram_entropy(tokens), np.log(2) / 2)
    with pytest.raises(TypeError, match=r"^tokens: expected integers"):
        evaluation.unigram_entropy(tokens.astype(float))


def test_forgetting_of_negative_values():
    # Accuracies, or what else is higher where better, as minus a loss.
    accuracies = np.array([[-1.0, np.nan], [-3.0, -2.0]])
    got = evaluation.continual_metrics(accuracies)
    assert got["forgetting"] == 2.0 and got["last_accuracy"] == -2.5
