"""Masks and mining of pairs.py against loops, with ties, gaps and empty rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import pairs

RNG = np.random.default_rng(0)


def test_first_pair_equals_a_loop():
    for labels in ([3, 1, 3, 1, 1, 2], [0, 0, 0], [4, 5, 6]):
        got, anchors = pairs.first_pair(jnp.array(labels))
        want = {}
        for i, label in enumerate(labels):
            want.setdefault(label, []).append(i)
        want = {rows[0]: rows[1] for rows in want.values() if len(rows) > 1}
        assert dict(zip(np.flatnonzero(anchors), got[anchors], strict=True)) == want


def test_hardest_k_keeps_k_of_the_mask_or_all():
    scores, mask = RNG.normal(size=(6, 7)), RNG.random((6, 7)) < 0.5
    mask[0], mask[1] = False, [True] * 7
    got = pairs.hardest_k(jnp.asarray(scores, jnp.float32), jnp.asarray(mask), 3)
    for row, inside, kept in zip(scores, mask, got, strict=True):
        best = sorted(np.flatnonzero(inside), key=lambda j: -row[j])[:3]
        assert set(np.flatnonzero(kept)) == set(best)


def test_semi_hard_equals_a_loop():
    distances = np.round(RNG.random((6, 7)), 1).astype(np.float32)  # with ties
    negatives = RNG.random((6, 7)) < 0.5
    got = pairs.semi_hard(jnp.asarray(distances), jnp.asarray(negatives))
    for i in range(6):
        inside = distances[i, negatives[i]]
        for j in range(7):
            beyond = inside[inside > distances[i, j]]
            want = beyond.min() if beyond.size else inside.max()
            assert distances[i, got[i, j]] == want and negatives[i, got[i, j]]


def test_a_nan_among_the_distances_is_chosen():
    distances = jnp.array([[0.1, 0.2, jnp.nan, 0.5]])
    negatives = jnp.array([[False, True, True, True]])
    assert pairs.hardest(-distances, negatives)[0] == 2


def test_informative_equals_a_loop():
    scores, positives = RNG.normal(size=(5, 6)), RNG.random((5, 6)) < 0.4
    positives[0] = False
    got = pairs.informative(jnp.asarray(scores, jnp.float32), jnp.asarray(positives))
    for i in range(5):
        good, bad = scores[i, positives[i]], scores[i, ~positives[i]]
        for j in range(6):
            if positives[i, j]:
                want = bad.size > 0 and scores[i, j] - 0.1 < bad.max()
            else:
                want = good.size > 0 and scores[i, j] + 0.1 > good.min()
            assert got[i, j] == want


def test_columns_beyond_the_candidates_raise_where_they_are_known():
    for wrong in ([0, 3], [-1, 0]):
        with pytest.raises(ValueError, match=r"^labels: expected numbers in \[0, 3\)"):
            pairs.positive_columns(jnp.array(wrong), (2, 3))
    with pytest.raises(ValueError, match=r"^labels: needed"):
        pairs.positive_columns(None, (3, 2))
    constant = jax.jit(lambda: pairs.positive_columns(jnp.array([0, 2]), (2, 3)))
    np.testing.assert_array_equal(constant(), [0, 2])
    known = jnp.array([0, 2])
    inside = jax.jit(lambda x: x[pairs.positive_columns(known, (2, 3))])
    np.testing.assert_array_equal(inside(jnp.arange(3)), [0, 2])
    traced = jax.jit(lambda labels: pairs.positive_columns(labels, (2, 3)))
    np.testing.assert_array_equal(traced(jnp.array([0, 3])), [0, 3])
