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


def test_a_negative_label_is_nobodys_positive(transform):
    labels = jnp.array([-1, 3, -1, 3, -2])
    want = np.zeros((5, 5), bool)
    want[1, 1] = want[1, 3] = want[3, 1] = want[3, 3] = True
    np.testing.assert_array_equal(transform(pairs.same_label)(labels), want)
    where = transform(pairs.without_false_negatives)(labels)
    np.testing.assert_array_equal(where, ~want | np.eye(5, dtype=bool))
    positives, anchors = transform(pairs.first_pair)(labels)
    np.testing.assert_array_equal(anchors, [False, True, False, False, False])
    assert positives[1] == 3
    # As unsigned numbers beyond the signed ones, 2^32 - 1 would be -1.
    wide = jnp.array([2**32 - 1], jnp.uint32)
    assert not transform(pairs.same_label)(wide, jnp.array([-1])).any()


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.uint32, np.int64])
def test_labels_of_every_type(kind, without_type_hooks):
    columns = np.array([0, 100, 7]).astype(kind)
    got = pairs.one_column(jnp.asarray(columns), 300)
    assert np.flatnonzero(got).tolist() == [0, 400, 607]
    assert np.asarray(pairs.same_label(columns, columns)).sum() == 3
    if kind is np.int64:
        for call in (pairs.same_label, lambda x: pairs.one_column(x, 3)):
            with pytest.raises(ValueError, match=r"expected integers that fit"):
                call(np.array([1, 2**32 + 1, 2]))


def test_an_infinite_score_is_not_taken_for_a_masked_one():
    scores = jnp.array([[5.0, -jnp.inf, 1.0]])
    mask = jnp.array([[False, True, False]])
    assert pairs.hardest(scores, mask)[0] == 1
    assert pairs.hardest_k(scores, mask, 1).tolist() == mask.tolist()
    assert pairs.semi_hard(-scores, mask)[0].tolist() == [1, 1, 1]
    scores = jnp.array([[0.1, jnp.nan, 0.3]])
    assert pairs.hardest_k(scores, scores != 0, 1)[0].tolist() == [False, True, False]


def test_distance_weighted_draws_as_the_formula_says(transform):
    # Uniform in distance within [nearest, farthest): unlike at random.
    d = np.array([0.2, 0.5, 0.9, 1.2, 1.3, 1.39, 1.41, 1.0])
    negatives = np.arange(8) < 7
    clipped = np.maximum(d, 0.5)
    weights = clipped**-6.0 * (1 - clipped**2 / 4) ** -2.5  # dim 8
    weights = np.where(negatives & (d < 1.4), weights, 0)
    n = 20000
    draw = transform(lambda rng, d, mask: pairs.distance_weighted(rng, d, mask, dim=8))

    def tile(x):
        return jnp.tile(jnp.asarray(x)[None, :], (n, 1))

    rows = draw(jax.random.key(0), tile(np.float32(d)), tile(negatives))
    got = np.bincount(rows, minlength=8) / n
    want = weights / weights.sum()
    spread = np.sqrt(want * (1 - want) / n)
    assert (np.abs(got - want) <= 4 * spread).all()
    # Beyond the farthest all alike; no column without negatives.
    far, none = tile(np.full(8, 1.7, np.float32)), jnp.zeros((n, 8), bool)
    counts = np.bincount(draw(jax.random.key(1), far, tile(negatives)), minlength=8)
    assert counts[7] == 0 and (np.abs(counts[:7] / n - 1 / 7) < 0.012).all()
    assert (draw(jax.random.key(1), far, none) == 8).all()


def test_distance_weighted_takes_a_key_per_anchor():
    rng = np.random.default_rng(7)
    d = jnp.asarray(rng.uniform(0.5, 1.4, size=(6, 9)), jnp.float32)
    keys, mask = jax.random.split(jax.random.key(3), 6), jnp.ones((6, 9), bool)
    whole = pairs.distance_weighted(keys, d, mask, dim=4)
    half = pairs.distance_weighted(keys[3:], d[3:], mask[3:], dim=4)
    np.testing.assert_array_equal(whole[3:], half)
    with pytest.raises(ValueError, match=r"^rng: "):
        pairs.distance_weighted(keys[:2], d, mask, dim=4)
    with pytest.raises(ValueError, match=r"^dim: "):
        pairs.distance_weighted(keys, d, mask, dim=1)
