"""Anomaly scores of events that need no training, against loops."""

import itertools
import math

import numpy as np
import pytest

from experiments.ape import measure as baselines

SIZES = np.array([3, 1, 4])


def some(rng, n):
    return np.stack([rng.integers(0, s, n) for s in SIZES], axis=1)


def test_unigram_and_pair_surprise_equal_loops():
    rng = np.random.default_rng(0)
    train, test = some(rng, 12), some(rng, 9)
    train[:, 0] %= 2  # the last entity of type 0 never occurs
    unigram = baselines.unigram_surprise(train, test, SIZES)
    pair = baselines.pair_surprise(train, test, SIZES)

    def p(i, a):
        return (sum(train[:, i] == a) + 1) / (len(train) + SIZES[i])

    for row, event in enumerate(test):
        want = -sum(math.log(p(i, a)) for i, a in enumerate(event))
        np.testing.assert_allclose(unigram[row], want)
        ratios = []
        for i, j in itertools.combinations(range(3), 2):
            both = np.sum((train[:, i] == event[i]) & (train[:, j] == event[j])) + 1
            joint = both / (len(train) + SIZES[i] * SIZES[j])
            ratios.append(-math.log(joint / (p(i, event[i]) * p(j, event[j]))))
        np.testing.assert_allclose(pair[row], max(ratios))
    with pytest.raises(ValueError, match="two types or more"):
        baselines.pair_surprise(train[:, :1], test[:, :1], SIZES[:1])


def test_forest_finds_a_rare_event_and_repeats_itself():
    train = np.zeros((300, 3), int)
    train[:, 2] = np.arange(300) % 2
    test = np.array([[0, 0, 0], [2, 0, 3]])
    first, second = (
        baselines.forest_surprise(train, test, SIZES, seed=0, num_trees=20)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    assert first[1] > first[0]
