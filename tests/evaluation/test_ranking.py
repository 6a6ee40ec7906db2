"""Ranking measures against brute force over the orders of tied documents."""

import functools
import itertools

import jax
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


def plain_r_precision(y):
    return plain_precision(y, sum(grade > 0 for grade in y))


def plain_map_at_r(y):
    return plain_ap(y, sum(grade > 0 for grade in y))


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
    "r_precision": (evaluation.r_precision, plain_r_precision, [{}]),
    "map_at_r": (evaluation.map_at_r, plain_map_at_r, [{}]),
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


@pytest.mark.experiments
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


@pytest.mark.experiments
@pytest.mark.parametrize("name", MEASURES)
def test_optimistic_is_the_best_order(name):
    measure, plain, variants = MEASURES[name]
    scores, grades = lists()
    got = measure(scores, grades, ties="optimistic", reduce_fn=None, **variants[0])
    for s, y, value in zip(scores, grades.tolist(), got, strict=True):
        best = max(plain([y[i] for i in order], **variants[0]) for order in orders(s))
        np.testing.assert_allclose(value, best, rtol=1e-5)


@pytest.mark.parametrize("name", MEASURES)
def test_ties_by_index_are_the_first_order(transform, name):
    measure, plain, variants = MEASURES[name]
    scores, grades = lists()
    call = functools.partial(measure, ties="index", reduce_fn=None, **variants[-1])
    got = transform(call)(jnp.asarray(scores), jnp.asarray(grades))
    stable = np.argsort(-scores, axis=1, kind="stable")
    want = [
        plain([y[i] for i in order], **variants[-1])
        for y, order in zip(grades.tolist(), stable, strict=True)
    ]
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("name", MEASURES)
def test_negative_grades_are_refused_or_count_as_0(name):
    measure, _, variants = MEASURES[name]
    scores, grades = lists()
    options = variants[-1] | {"reduce_fn": None}
    want = measure(scores, grades, **options)
    below = np.where(grades == 0, -2, grades)
    with pytest.raises(ValueError, match=r"^relevance: expected grades of 0 .* got -2"):
        measure(scores, below, **options)
    got = jax.jit(functools.partial(measure, **options))(scores, below)
    np.testing.assert_array_equal(got, want)
    where = below >= 0  # of padding it does not matter
    got = measure(scores, below, where=where, **options)
    np.testing.assert_array_equal(got, measure(scores, grades, where=where, **options))


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


@pytest.mark.parametrize("ties", ["expected", "pessimistic", "optimistic", "index"])
def test_gold_ranks_against_counting(ties):
    rng = np.random.default_rng(0)
    # Small integers: inner products are exact and often equal.
    queries = rng.integers(-2, 3, (23, 4)).astype(np.float32)
    candidates = rng.integers(-2, 3, (31, 4)).astype(np.float32)
    gold = rng.integers(0, 31, 23)
    got = evaluation.gold_ranks(queries, candidates, gold, ties=ties, chunk=10)
    share = {"expected": 0.5, "optimistic": 0.0}.get(ties, 1.0)
    scores = queries @ candidates.T
    own = scores[np.arange(23), gold][:, None]
    others = np.arange(31)[None, :] != gold[:, None]
    if ties == "index":
        others = np.arange(31)[None, :] < gold[:, None]
    equal = np.sum((scores == own) & others, axis=1)
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


@pytest.mark.parametrize("width", [64, 100])
def test_equal_candidates_have_one_score_for_one_query(width):
    # A product with one row rounds by place.
    rng = np.random.default_rng(width)
    one = rng.normal(size=width)
    candidates = np.tile(one / np.linalg.norm(one), (1001, 1)).astype(np.float32)
    query = rng.normal(size=(1, width)).astype(np.float32)
    for place in (0, 500, 1000):
        for ties, rank in (("expected", 501), ("pessimistic", 1001), ("index", None)):
            got = evaluation.gold_ranks(query, candidates, np.array([place]), ties=ties)
            assert got.tolist() == [place + 1 if rank is None else rank]
    scores, indices = search.nearest_neighbors(query, candidates, k=1001)
    assert len(np.unique(scores)) == 1
    assert indices.tolist() == [list(range(1001))]
    lists = evaluation.judged_lists(scores, indices, np.array([[1000]]))
    got = evaluation.reciprocal_rank(*lists[:2], where=lists[2])
    np.testing.assert_allclose(got, np.mean(1 / np.arange(1, 1002)), rtol=1e-4)
    got = evaluation.reciprocal_rank(*lists[:2], where=lists[2], ties="index")
    np.testing.assert_allclose(got, 1 / 1001, rtol=1e-5)


def test_no_candidate_has_no_rank():
    x = np.eye(3, dtype=np.float32)
    gold = jnp.array([0, -1, 3])
    ranks = jax.jit(evaluation.gold_ranks)(x, x, gold)
    np.testing.assert_array_equal(ranks, [1, np.nan, np.nan])


def judged(scores, indices, relevant, grades=None):
    """Measures up to rank k, by name, of judged lists."""
    scores, relevance, where = evaluation.judged_lists(
        np.asarray(scores, np.float32),
        np.asarray(indices),
        np.asarray(relevant),
        None if grades is None else np.asarray(grades),
    )
    k = np.shape(indices)[1]
    return {
        name: float(MEASURES[name][0](scores, relevance, where=where, k=k))
        for name in ("recall", "ndcg", "average_precision", "precision", "hit_rate")
    } | {"mrr": float(evaluation.reciprocal_rank(scores, relevance, where=where, k=k))}


@pytest.mark.parametrize("scores", [[0.9, 0.8], [0.9, 0.9], [0.0, 0.0]])
def test_a_document_retrieved_twice_counts_once(scores):
    got = judged([scores], [[7, 7]], [[7, 3, -1]])
    want = dict(recall=0.5, average_precision=0.5, precision=0.5, hit_rate=1, mrr=1)
    want["ndcg"] = 1 / (1 + 1 / np.log2(3))
    assert got == pytest.approx(want, abs=1e-6)
    # Named twice as relevant, it is one document, of its first grade.
    again = judged([scores], [[7, 7]], [[7, 7, 3]])
    assert again == pytest.approx(want, abs=1e-6)
    graded = judged([scores], [[7, 7]], [[7, 7, 3]], [[1, 9, 1]])
    assert graded == pytest.approx(want, abs=1e-6)


def test_lists_with_repeated_documents_by_counting():
    rng, (q, k) = np.random.default_rng(0), (40, 6)
    scores = np.stack([rng.permutation(20)[:k] for _ in range(q)]).astype(np.float32)
    relevant = np.stack([rng.permutation(7)[:3] for _ in range(q)])
    indices, grades = rng.integers(0, 5, (q, k)), rng.integers(1, 4, (q, 3))
    ranked = []
    for i in range(q):
        known = dict(zip(relevant[i].tolist(), grades[i].tolist(), strict=True))
        gains = [known.pop(indices[i, j], 0) for j in np.argsort(-scores[i])]
        ranked.append([*gains, *known.values()])
    lists = evaluation.judged_lists(scores, indices, relevant, grades)
    for name in ("recall", "precision", "average_precision", "ndcg"):
        measure, plain, _ = MEASURES[name]
        got = measure(*lists[:2], where=lists[2], k=k, reduce_fn=None)
        want = [plain(gains, k) for gains in ranked]
        np.testing.assert_allclose(got, want, rtol=1e-5, err_msg=name)


def test_documents_of_any_number():
    got = judged([[0.9, 0.8]], [[2**33 + 7, 7]], [[7, 2**40]])
    assert got["recall"] == 0.5 and got["mrr"] == 0.5
    with pytest.raises(ValueError, match=r"^grades: expected grades of 0 or above"):
        judged([[0.9]], [[1]], [[1]], [[-1]])


def test_the_query_itself_is_left_out():
    # MAP@R of embeddings with labels, as metric learning has it.
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(9, 3)), np.arange(9) % 3
    scores = (x @ x.T).astype(np.float32)
    same = labels[:, None] == labels[None, :]
    got = evaluation.map_at_r(scores, same, where=~np.eye(9, dtype=bool))
    each = []
    for i in range(9):
        order = [j for j in np.argsort(-scores[i]) if j != i]
        each.append(plain_map_at_r(same[i][order].tolist()))
    np.testing.assert_allclose(got, np.mean(each), rtol=1e-5)


def test_sums_of_shares_stay_below_1():
    # Rounded, 1 / n summed n times can be 1.0000001.
    n = np.arange(1, 61)[:, None]
    where = np.arange(60)[None, :] < n
    relevance = where & (np.arange(60)[None, :] % 5 < n % 5 + 1)
    for name in ("recall", "average_precision", "ndcg", "r_precision", "map_at_r"):
        options = {"k": 60} if name == "recall" else {}
        got = MEASURES[name][0](
            np.zeros((60, 60), np.float32),
            relevance,
            where=where,
            reduce_fn=None,
            **options,
        )
        assert np.max(got) <= 1, name


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
