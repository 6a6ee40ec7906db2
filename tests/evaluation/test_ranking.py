"""Ranking measures against brute force over the orders of tied documents."""

import functools
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from contrastive_jax import evaluation, search


def orders(scores):
    """All rankings that a list of scores allows."""
    return [
        order
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]


def plain_mrr(y, k=None):
    hits = [r for r, grade in enumerate(y, 1) if grade > 0]
    return 1 / hits[0] if hits and (k is None or hits[0] <= k) else 0.0


def plain_hit(y, k):
    return float(any(grade > 0 for grade in y[:k]))


def plain_recall(y, k):
    return sum(grade > 0 for grade in y[:k]) / sum(grade > 0 for grade in y)


def plain_precision(y, k):
    return sum(grade > 0 for grade in y[:k]) / k


def plain_ap(y, k=None):
    k = len(y) if k is None else k
    precisions = [plain_precision(y, r) for r in range(1, k + 1) if y[r - 1 : r] > [0]]
    return sum(precisions) / min(sum(grade > 0 for grade in y), k)


def plain_dcg(y, k=None, gain="exponential"):
    gains = [2**g - 1 if gain == "exponential" else g for g in y]
    return sum(g / np.log2(1 + r) for r, g in enumerate(gains[:k], 1))


def plain_ndcg(y, k=None, gain="exponential"):
    best = plain_dcg(sorted(y, reverse=True), k, gain)
    return plain_dcg(y, k, gain) / best


MEASURES = {
    "reciprocal_rank": (evaluation.reciprocal_rank, plain_mrr, [{}, {"k": 2}]),
    "hit_rate": (evaluation.hit_rate, plain_hit, [{"k": 1}, {"k": 2}]),
    "recall": (evaluation.recall, plain_recall, [{"k": 1}, {"k": 2}]),
    "precision": (evaluation.precision, plain_precision, [{"k": 1}, {"k": 2}]),
    "average_precision": (
        evaluation.average_precision,
        plain_ap,
        [{}, {"k": 2}, {"k": 9}],
    ),
    "dcg": (evaluation.dcg, plain_dcg, [{}, {"k": 2}, {"gain": "linear"}]),
    "ndcg": (evaluation.ndcg, plain_ndcg, [{}, {"k": 2}, {"gain": "linear"}]),
}


def lists():
    """Queries of 5 documents with many ties; the last has one score for all."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 3, (12, 5)).astype(np.float32)
    scores[-1] = 1
    grades = rng.choice([0, 0, 0, 1, 2, 3], (12, 5)).astype(np.float32)
    grades[:, 2] = np.maximum(grades[:, 2], 1)
    return scores, grades


@pytest.mark.parametrize("name", MEASURES)
def test_ties_against_all_orders(transform, name):
    measure, plain, variants = MEASURES[name]
    scores, grades = lists()
    for options in variants:
        values = [
            [plain([y[i] for i in order], **options) for order in orders(s)]
            for s, y in zip(scores, grades.tolist(), strict=True)
        ]
        assert any(np.ptp(v) > 0 for v in values)
        for ties, pick in (("expected", np.mean), ("pessimistic", np.min)):
            call = functools.partial(measure, ties=ties, reduce_fn=None, **options)
            got = transform(call)(jnp.asarray(scores), jnp.asarray(grades))
            want = [pick(v) for v in values]
            np.testing.assert_allclose(got, want, rtol=1e-5, err_msg=f"{options}")


@pytest.mark.parametrize("name", MEASURES)
def test_optimistic_is_the_best_order(name):
    measure, plain, variants = MEASURES[name]
    scores, grades = lists()
    got = measure(scores, grades, ties="optimistic", reduce_fn=None, **variants[0])
    for s, y, value in zip(scores, grades.tolist(), got, strict=True):
        best = max(plain([y[i] for i in order], **variants[0]) for order in orders(s))
        np.testing.assert_allclose(value, best, rtol=1e-5)


@pytest.mark.parametrize("name", MEASURES)
def test_masked_documents_are_as_if_absent(name):
    measure, _, variants = MEASURES[name]
    scores, grades = lists()
    extra = np.full((12, 2), 9.0, np.float32)
    where = np.arange(7)[None, :].repeat(12, 0) < 5
    got = measure(
        np.concatenate([scores, extra], axis=1),
        np.concatenate([grades, extra], axis=1),
        where=where,
        reduce_fn=None,
        **variants[-1],
    )
    want = measure(scores, grades, reduce_fn=None, **variants[-1])
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("name", MEASURES)
def test_queries_without_relevant_documents(name):
    measure, _, variants = MEASURES[name]
    options = variants[0]
    scores = np.array([[2.0, 1.0], [2.0, 1.0]], np.float32)
    relevant = np.array([[True, False], [False, False]])
    alone = float(measure(scores[:1], relevant[:1], **options))
    assert alone > 0
    np.testing.assert_allclose(measure(scores, relevant, **options), alone)
    got = measure(scores, relevant, empty=0.0, **options)
    np.testing.assert_allclose(got, alone / 2)
    got = measure(scores, relevant, empty=1.0, reduce_fn=None, **options)
    np.testing.assert_allclose(got, [alone, 1.0])
    assert measure(scores[1:], relevant[1:], **options) == 0


@pytest.mark.parametrize("name", MEASURES)
def test_nan_is_not_hidden(name):
    measure, _, variants = MEASURES[name]
    scores, grades = lists()
    call = functools.partial(measure, reduce_fn=None, **variants[-1])
    want = np.asarray(call(scores, grades))
    scores[3, 2] = np.nan
    scores[7] = np.nan
    got = np.asarray(call(scores, grades))
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(got)), [3, 7])
    np.testing.assert_array_equal(np.delete(got, [3, 7]), np.delete(want, [3, 7]))
    # Documents that do not count, and queries without a relevant one, may be anything.
    got = call(scores, np.where(np.isnan(scores), 0, grades), where=~np.isnan(scores))
    assert np.all(np.isfinite(got))


def test_equal_scikit_learn():
    scores, grades = lists()
    got = evaluation.ndcg(scores, grades, k=3, gain="linear")
    np.testing.assert_allclose(got, ndcg_score(grades, scores, k=3), rtol=1e-5)
    scores = np.random.default_rng(1).permuted(np.tile(np.arange(30.0), (8, 1)), axis=1)
    relevant = scores % 4 < 1
    want = [
        average_precision_score(y, s) for y, s in zip(relevant, scores, strict=True)
    ]
    got = evaluation.average_precision(jnp.asarray(scores), relevant, reduce_fn=None)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_collapsed_scores_get_chance_level_or_nothing():
    scores, relevant = np.zeros((1, 100), np.float32), np.arange(100)[None, :] == 7
    call = functools.partial(evaluation.hit_rate, scores, relevant, k=10)
    np.testing.assert_allclose(call(), 0.1, rtol=1e-5)
    assert call(ties="pessimistic") == 0 and call(ties="optimistic") == 1


@pytest.mark.parametrize("ties", ["expected", "pessimistic", "optimistic"])
def test_gold_ranks_against_counting(ties):
    rng = np.random.default_rng(0)
    # Small integers: inner products are exact and often equal.
    queries = rng.integers(-2, 3, (23, 4)).astype(np.float32)
    candidates = rng.integers(-2, 3, (31, 4)).astype(np.float32)
    gold = rng.integers(0, 31, 23)
    got = evaluation.gold_ranks(queries, candidates, gold, ties=ties, chunk=10)
    share = {"expected": 0.5, "pessimistic": 1.0, "optimistic": 0.0}[ties]
    scores = queries @ candidates.T
    own = scores[np.arange(23), gold][:, None]
    equal = np.sum(scores == own, axis=1) - 1
    assert equal.max() > 0
    np.testing.assert_allclose(got, 1 + np.sum(scores > own, axis=1) + share * equal)


def test_gold_ranks_give_the_reciprocal_rank():
    rng = np.random.default_rng(0)
    queries, candidates = rng.normal(size=(9, 5)), rng.normal(size=(20, 5))
    queries, candidates = queries.astype(np.float32), candidates.astype(np.float32)
    gold = rng.integers(0, 20, 9)
    ranks = evaluation.gold_ranks(queries, candidates, gold)
    scores = queries @ candidates.T
    relevant = np.arange(20)[None, :] == gold[:, None]
    want = evaluation.reciprocal_rank(scores, relevant)
    np.testing.assert_allclose(np.mean(1 / ranks), want, rtol=1e-6)


def test_judged_lists_equal_whole_lists():
    rng = np.random.default_rng(0)
    queries, documents = rng.normal(size=(6, 4)), rng.normal(size=(40, 4))
    queries, documents = queries.astype(np.float32), documents.astype(np.float32)
    relevant = np.stack([rng.permutation(40)[:5] for _ in range(6)])
    relevant[:, 3:] = np.where(rng.uniform(size=(6, 2)) < 0.5, -1, relevant[:, 3:])
    grades = rng.integers(1, 4, (6, 5))
    whole = np.zeros((6, 40))
    for q, r in np.argwhere(relevant >= 0):
        whole[q, relevant[q, r]] = grades[q, r]
    best = search.nearest_neighbors(queries, documents, k=8)
    scores, relevance, where = evaluation.judged_lists(*best, relevant, grades)
    for name in ("recall", "ndcg", "average_precision", "reciprocal_rank"):
        measure = functools.partial(MEASURES[name][0], k=8, reduce_fn=None)
        want = measure(queries @ documents.T, whole)
        assert 0 < np.mean(want) < 1
        np.testing.assert_allclose(
            measure(scores, relevance, where=where), want, rtol=1e-5, err_msg=name
        )


def test_nan_among_candidates_gives_no_rank():
    candidates = np.array([[1.0, 0.0], [np.nan, 1.0]], np.float32)
    ranks = evaluation.gold_ranks(np.eye(2, dtype=np.float32), candidates, np.arange(2))
    assert np.all(np.isnan(ranks))


def test_judged_lists_of_fewer_than_k_documents():
    # A place that is left over has index -1, as the padding of relevant documents.
    x = np.array([[2.0], [1.0], [3.0]], np.float32)
    best = search.nearest_neighbors(x[:1], x, k=3, exclude=np.array([[1]]))
    assert best[1].tolist() == [[2, 0, -1]]
    lists = evaluation.judged_lists(*best, np.array([[0, 1, -1]]))
    call = functools.partial(MEASURES["recall"][0], *lists[:2], where=lists[2])
    assert [float(call(k=k)) for k in (1, 2, 3)] == [0.0, 0.5, 0.5]


def test_wrong_input_is_named():
    scores, grades = (jnp.asarray(x) for x in lists())
    with pytest.raises(ValueError, match="k: expected at least 1, got 0"):
        evaluation.recall(scores, grades, k=0)
    with pytest.raises((TypeError, ValueError), match="relevance"):
        evaluation.recall(scores, grades[:3], k=1)
    with pytest.raises((TypeError, ValueError), match="ties"):
        evaluation.ndcg(scores, grades, ties="random")
    with pytest.raises((TypeError, ValueError), match="gain"):
        evaluation.ndcg(scores, grades, gain="cubic")
    with pytest.raises(ValueError, match="gold: expected numbers in"):
        evaluation.gold_ranks(scores, scores, jnp.full(12, -1))
