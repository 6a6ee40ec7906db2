"""Ranking measures from scores and relevance, exact under ties.

Scores and relevance are [q queries, n documents]; relevance is a mask or grades >= 0,
of which every value above 0 is relevant. `where` marks the documents that count, which
also serves padded lists and leaving the query itself out. A query without a relevant
document drops out of the mean, or counts with the value `empty`. Values are in [0, 1],
except those of `dcg` (0 and above) and `gold_ranks` (1 and above).

Documents of equal score have no order of their own. `ties` says which value stands:
"expected", the mean over all their orders (computed in closed form), "pessimistic",
the less relevant first, "optimistic", the more relevant first, or "index", the smaller
column first, as `nearest_neighbors` has it (with columns in the order of document ids,
ties are broken by id). With the first three an encoder that maps everything to one
point gets chance level, 0, or a perfect value. A query with a NaN among its scores has
the value NaN.

Equal scores are those equal to the last digit. A product of one query with all
documents may round by place; `gold_ranks` and `nearest_neighbors` avoid that.

A wrong dtype raises TypeError; shapes that do not fit together, a k below 1, a negative
grade (traced, it counts as 0), an unknown `gain` or `ties` raise ValueError, naming the
argument.

These functions sort whole lists. With many documents use `gold_ranks` where each query
has one correct answer, else `judged_lists` on the best k of `nearest_neighbors`.
"""

import functools
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Shaped
from scipy.stats import rankdata

from contrastive_jax import numerics, similarity
from contrastive_jax.evaluation import checks
from contrastive_jax.search import exact

Ties = Literal["expected", "pessimistic", "optimistic", "index"]
Gain = Literal["exponential", "linear"]
Scores = Float[Array | np.ndarray, "q n"]
Relevance = Shaped[Array | np.ndarray, "q n"]
Mask = Bool[Array | np.ndarray, "q n"]


def reciprocal_rank(
    scores: Scores,
    relevance: Relevance,
    *,
    k: int | None = None,
    where: Mask | None = None,
    ties: Ties = "expected",
    empty: float | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Reciprocal rank of the first relevant document; its mean is the MRR.

    Args:
      scores: of each document for each query, higher is better.
      relevance: mask or grades.
      k: a first relevant document below rank k counts 0.
      where: documents that count.
      ties: see the module.
      empty: value of a query without a relevant document; None leaves it out.
      reduce_fn: over queries; None gives [q].

    Examples:
      >>> scores = jnp.array([[3.0, 2.0, 1.0], [1.0, 1.0, 0.0]])
      >>> relevant = jnp.array([[False, True, False], [True, False, False]])
      >>> reciprocal_rank(scores, relevant, reduce_fn=None)
      Array([0.5 , 0.75], dtype=float32)

    References:
      Voorhees 1999, the TREC-8 question answering track report.
    """
    ranking = _ranking(scores, relevance, where, ties)
    none_yet = _none_relevant_within(ranking)
    before = jnp.concatenate([jnp.ones_like(none_yet[:, :1]), none_yet[:, :-1]], axis=1)
    value = jnp.sum((before - none_yet) * _cut(1 / _ranks(scores), k), axis=-1)
    return _reduce(value, ranking, empty, reduce_fn)


def hit_rate(
    scores: Scores,
    relevance: Relevance,
    *,
    k: int,
    where: Mask | None = None,
    ties: Ties = "expected",
    empty: float | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Whether a relevant document is among the first k (top-k accuracy, success@k).

    Args:
      scores: of each document for each query, higher is better.
      relevance: mask or grades.
      k: ranks that are looked at.
      where: documents that count.
      ties: see the module.
      empty: value of a query without a relevant document; None leaves it out.
      reduce_fn: over queries; None gives [q].

    Examples:
      >>> scores = jnp.array([[3.0, 2.0, 1.0], [1.0, 1.0, 0.0]])
      >>> relevant = jnp.array([[False, True, False], [True, False, False]])
      >>> hit_rate(scores, relevant, k=1, reduce_fn=None)
      Array([0. , 0.5], dtype=float32)
    """
    ranking = _ranking(scores, relevance, where, ties)
    _cut(_ranks(scores), k)  # only for its check of k
    value = 1 - _none_relevant_within(ranking)[:, min(k, scores.shape[1]) - 1]
    return _reduce(value, ranking, empty, reduce_fn)


def recall(
    scores: Scores,
    relevance: Relevance,
    *,
    k: int,
    where: Mask | None = None,
    ties: Ties = "expected",
    empty: float | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Recall at k: fraction of the relevant documents among the first k.

    Args:
      scores: of each document for each query, higher is better.
      relevance: mask or grades.
      k: ranks that are looked at.
      where: documents that count.
      ties: see the module.
      empty: value of a query without a relevant document; None leaves it out.
      reduce_fn: over queries; None gives [q].

    Examples:
      >>> scores = jnp.array([[4.0, 3.0, 2.0, 1.0]])
      >>> recall(scores, jnp.array([[True, False, False, True]]), k=2)
      Array(0.5, dtype=float32)
    """
    ranking = _ranking(scores, relevance, where, ties)
    value = jnp.sum(_cut(ranking.relevant, k), axis=-1) / _num_relevant(ranking)
    return _reduce(_at_most_1(value), ranking, empty, reduce_fn)


def precision(
    scores: Scores,
    relevance: Relevance,
    *,
    k: int,
    where: Mask | None = None,
    ties: Ties = "expected",
    empty: float | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Precision at k: fraction of the first k documents that are relevant.

    Lists shorter than k count as filled up with documents that are not relevant.

    Args:
      scores: of each document for each query, higher is better.
      relevance: mask or grades.
      k: ranks that are looked at, and the divisor.
      where: documents that count.
      ties: see the module.
      empty: value of a query without a relevant document; None leaves it out.
      reduce_fn: over queries; None gives [q].

    Examples:
      >>> scores = jnp.array([[4.0, 3.0, 2.0, 1.0]])
      >>> precision(scores, jnp.array([[True, False, False, True]]), k=2)
      Array(0.5, dtype=float32)
    """
    ranking = _ranking(scores, relevance, where, ties)
    value = jnp.sum(_cut(ranking.relevant, k), axis=-1) / k
    return _reduce(_at_most_1(value), ranking, empty, reduce_fn)


def r_precision(
    scores: Scores,
    relevance: Relevance,
    *,
    where: Mask | None = None,
    ties: Ties = "expected",
    empty: float | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """R-precision: precision at R, the number of the query's relevant documents.

    Args:
      scores: of each document for each query, higher is better.
      relevance: mask or grades.
      where: documents that count.
      ties: see the module.
      empty: value of a query without a relevant document; None leaves it out.
      reduce_fn: over queries; None gives [q].

    Examples:
      >>> scores = jnp.array([[4.0, 3.0, 2.0, 1.0]])
      >>> r_precision(scores, jnp.array([[True, False, False, True]]))
      Array(0.5, dtype=float32)

    References:
      Musgrave et al. 2020, arXiv:2003.08505, section 3.2.
    """
    ranking = _ranking(scores, relevance, where, ties)
    count = _num_relevant(ranking)
    first = jnp.where(_ranks(scores) <= count[:, None], ranking.relevant, 0)
    value = jnp.sum(first, axis=-1) / count
    return _reduce(_at_most_1(value), ranking, empty, reduce_fn)


def map_at_r(
    scores: Scores,
    relevance: Relevance,
    *,
    where: Mask | None = None,
    ties: Ties = "expected",
    empty: float | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """MAP@R: average precision at R, the number of the query's relevant documents.

        (1 / R) sum_{ranks r <= R of relevant documents} precision at r

    Args:
      scores: of each document for each query, higher is better.
      relevance: mask or grades.
      where: documents that count.
      ties: see the module.
      empty: value of a query without a relevant document; None leaves it out.
      reduce_fn: over queries; None gives [q].

    Examples:
      >>> scores = jnp.array([[4.0, 3.0, 2.0, 1.0]])
      >>> map_at_r(scores, jnp.array([[False, True, False, True]]))
      Array(0.25, dtype=float32)

    References:
      Musgrave et al. 2020, arXiv:2003.08505, section 3.2.
    """
    ranking = _ranking(scores, relevance, where, ties)
    count = _num_relevant(ranking)
    precisions = _relevant_precisions(ranking)
    first = jnp.where(_ranks(scores) <= count[:, None], precisions, 0)
    value = jnp.sum(first, axis=-1) / count
    return _reduce(_at_most_1(value), ranking, empty, reduce_fn)


def average_precision(
    scores: Scores,
    relevance: Relevance,
    *,
    k: int | None = None,
    where: Mask | None = None,
    ties: Ties = "expected",
    empty: float | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Average of the precision at each relevant document; its mean is the MAP.

        AP = (1 / min(R, k)) sum_{ranks r <= k of relevant documents} precision at r

    with R the number of relevant documents.

    Args:
      scores: of each document for each query, higher is better.
      relevance: mask or grades.
      k: ranks that are looked at; all when None.
      where: documents that count.
      ties: see the module.
      empty: value of a query without a relevant document; None leaves it out.
      reduce_fn: over queries; None gives [q].

    Examples:
      >>> scores = jnp.array([[4.0, 3.0, 2.0, 1.0]])
      >>> average_precision(scores, jnp.array([[True, False, False, True]]))
      Array(0.75, dtype=float32)

    References:
      McSherry and Najork 2008, Computing information retrieval performance measures
      efficiently in the presence of tied scores.
    """
    ranking = _ranking(scores, relevance, where, ties)
    value = jnp.sum(_cut(_relevant_precisions(ranking), k), axis=-1)
    count = _num_relevant(ranking)
    value = value / (count if k is None else jnp.minimum(count, k))
    return _reduce(_at_most_1(value), ranking, empty, reduce_fn)


def dcg(
    scores: Scores,
    relevance: Relevance,
    *,
    k: int | None = None,
    gain: Gain = "exponential",
    where: Mask | None = None,
    ties: Ties = "expected",
    empty: float | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Discounted cumulative gain.

        DCG = sum_{r <= k} gain(y_r) / log2(1 + r)
        exponential: gain(y) = 2^y - 1,  linear: gain(y) = y

    Args:
      scores: of each document for each query, higher is better.
      relevance: grades, or a mask (both gains are then equal).
      k: ranks that are looked at; all when None.
      gain: what a grade is worth.
      where: documents that count.
      ties: see the module.
      empty: value of a query without a relevant document; None leaves it out.
      reduce_fn: over queries; None gives [q].

    Examples:
      >>> scores = jnp.array([[3.0, 2.0, 1.0]])
      >>> dcg(scores, jnp.array([[0.0, 0.0, 2.0]])).round(4)
      Array(1.5, dtype=float32)

    References:
      Järvelin and Kekäläinen 2002, doi:10.1145/582415.582418 (linear); Burges et al.
      2005, doi:10.1145/1102351.1102363 (exponential).
    """
    ranking = _ranking(scores, relevance, where, ties, gain)
    value = jnp.sum(_cut(ranking.gains / jnp.log2(1 + _ranks(scores)), k), axis=-1)
    return _reduce(value, ranking, empty, reduce_fn)


def ndcg(
    scores: Scores,
    relevance: Relevance,
    *,
    k: int | None = None,
    gain: Gain = "exponential",
    where: Mask | None = None,
    ties: Ties = "expected",
    empty: float | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Discounted cumulative gain over that of the ideal order, in [0, 1].

    Args:
      scores: of each document for each query, higher is better.
      relevance: grades, or a mask.
      k: ranks that are looked at; all when None.
      gain: see `dcg`.
      where: documents that count.
      ties: see the module.
      empty: value of a query without a relevant document; None leaves it out.
      reduce_fn: over queries; None gives [q].

    Examples:
      >>> scores = jnp.array([[3.0, 2.0, 1.0]])
      >>> ndcg(scores, jnp.array([[0.0, 0.0, 2.0]])).round(4)
      Array(0.5, dtype=float32)

    References:
      Järvelin and Kekäläinen 2002, doi:10.1145/582415.582418.
    """
    options: dict[str, Any] = dict(k=k, gain=gain, where=where, reduce_fn=None)
    value = dcg(scores, relevance, ties=ties, **options)
    # Best order: by relevance itself, where equal grades cannot matter.
    grades = jnp.asarray(relevance).astype(jnp.result_type(scores, jnp.float32))
    best = dcg(grades, relevance, **options)
    ranking = _ranking(scores, relevance, where, ties)
    value = value / jnp.where(best > 0, best, 1)
    return _reduce(_at_most_1(value), ranking, empty, reduce_fn)


def gold_ranks(
    queries: Float[Array | np.ndarray, "q d"],
    candidates: Float[Array | np.ndarray, "n d"],
    gold: Integer[Array | np.ndarray, " q"],
    *,
    ties: Ties = "expected",
    chunk: int = 256,
) -> Float[Array, " q"]:
    """Rank of each query's one correct candidate by inner product, without sorting.

        rank = 1 + candidates above + {1/2, 1, 0} x other candidates of equal score

    for ties "expected", "pessimistic" and "optimistic"; for "index" those of equal
    score and smaller index count 1. NaN where a score is, or where a traced gold index
    is no candidate's. Only [chunk, n] scores exist at a time. `1 / rank` and
    `rank <= k` give the reciprocal rank and the hit rate.

    Args:
      queries: embeddings; normalize both sides for cosines.
      candidates: embeddings that are ranked.
      gold: index of each query's correct candidate.
      ties: what equal scores count.
      chunk: queries at a time.

    Raises:
      ValueError: a gold index that is not a candidate's, a chunk below 1.

    Examples:
      >>> candidates = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
      >>> gold_ranks(candidates[2:], candidates, jnp.array([1])).tolist()
      [2.0]
    """
    sizes = numerics.check_shapes(
        queries=(queries, "q d"), candidates=(candidates, "n d"), gold=(gold, "q")
    )
    gold = numerics.check_columns(gold, sizes["n"], "gold")
    _check_choice("ties", ties, Ties)
    if chunk < 1:
        raise ValueError(f"chunk: expected at least 1, got {chunk}")
    queries = exact.check_floating(queries, "queries")
    candidates = exact.check_floating(candidates, "candidates")
    return _gold_ranks(queries, candidates, gold, ties=ties, chunk=chunk)


@functools.partial(jax.jit, static_argnames=("ties", "chunk"))
def _gold_ranks(queries, candidates, gold, *, ties, chunk) -> Float[Array, " q"]:
    """`gold_ranks` of checked arguments."""
    n = len(candidates)
    share = {"expected": 0.5, "optimistic": 0.0}.get(ties, 1.0)

    def ranks(rows):
        queries, gold = rows
        scores = similarity.matmul(queries, candidates)
        own = numerics.at_columns(scores, gold)[:, None]
        columns, gold = jnp.arange(n)[None, :], gold[:, None]
        rivals = columns < gold if ties == "index" else columns != gold
        equal = jnp.sum((scores == own) & rivals, axis=1)
        rank = 1 + jnp.sum(scores > own, axis=1) + share * equal
        unknown = jnp.any(jnp.isnan(scores), axis=1) | (gold[:, 0] >= n)
        return jnp.where(unknown, jnp.nan, rank)

    height = exact.rows_of_tile(len(queries), chunk)
    rows = exact.tiles(queries, height), exact.tiles(gold, height)
    return jax.lax.map(ranks, rows).reshape(-1)[: len(queries)]


def judged_lists(
    scores: Float[Array | np.ndarray, "q k"],
    indices: Integer[Array | np.ndarray, "q k"],
    relevant: Integer[Array | np.ndarray, "q r"],
    grades: Shaped[Array | np.ndarray, "q r"] | None = None,
) -> tuple[
    Float[np.ndarray, "q k+r"], Float[np.ndarray, "q k+r"], Bool[np.ndarray, "q k+r"]
]:
    """Scores, relevance and mask of retrieved documents, for the measures up to rank k.

    The relevant documents that were not retrieved follow as columns of score -inf, so
    that recall and the best gain know of them. A place that `nearest_neighbors` left
    empty (score -inf) stays a place, of a document that is not relevant. A document
    retrieved twice counts at its first place: its other places come after all documents
    of their score, and are not relevant. One that is named twice as relevant counts
    once, with its first grade.

    Computed on the host: documents are any integers below 2^63.

    Args:
      scores: of the k best documents of each query, -inf where there are fewer.
      indices: which documents they are, 0 or above.
      relevant: the relevant documents of each query, padded with negative numbers.
      grades: theirs, 0 or above; 1 when None.

    Returns:
      `scores`, `relevance` and `where`, [q, k + r], as the measures take them. The
      scores are places, k for the best: they have the order and the ties of those
      given. A query with a NaN among its scores has NaN only.

    Raises:
      ValueError: a negative grade.

    Examples:
      >>> scores, indices = jnp.array([[0.9, 0.8]]), jnp.array([[4, 7]])
      >>> lists = judged_lists(scores, indices, jnp.array([[7, 3, -1]]))
      >>> recall(*lists[:2], where=lists[2], k=2)
      Array(0.5, dtype=float32)
    """
    numerics.check_shapes(
        scores=(scores, "q k"),
        indices=(indices, "q k"),
        relevant=(relevant, "q r"),
        grades=(grades, "q r"),
    )
    scores = checks.floats(scores, "scores")
    indices = checks.integers(indices, "indices")
    relevant = checks.integers(relevant, "relevant")
    judged = (relevant >= 0) & ~_repeated(relevant, np.zeros(relevant.shape))
    grades = np.ones(relevant.shape) if grades is None else grades
    grades = np.where(judged, checks.reals(grades, "grades", nan=True), 0)
    _check_grades("grades", grades, None)
    empty, repeated = np.isneginf(scores), _repeated(indices, scores)
    # In places, between which there is room for what is repeated.
    places = rankdata(scores, "dense", axis=1) - 0.5 * repeated
    match = (indices[:, :, None] == relevant[:, None, :]) & judged[:, None, :]
    match = match & ~(empty | repeated)[:, :, None]
    missed = judged & ~np.any(match, axis=1)
    relevance = np.sum(np.where(match, grades[:, None, :], 0), axis=-1)
    return (
        np.concatenate([places, np.full_like(grades, -np.inf)], axis=1),
        np.concatenate([relevance, grades], axis=1),
        np.concatenate([np.ones_like(repeated), missed], axis=1),
    )


def _repeated(ids, scores):
    """Which places of a list hold a document that it also has with a higher score.

    Of equal scores the first place is the document's own.
    """
    order = np.lexsort((-scores, ids), axis=1)
    ids = np.take_along_axis(ids, order, axis=1)
    again = np.zeros(ids.shape, bool)
    np.put_along_axis(again, order[:, 1:], ids[:, 1:] == ids[:, :-1], axis=1)
    return again


class _Ranking(NamedTuple):
    """Per sorted position, [q, n]; expectations over the orders of tied documents.

    Of a query with a NaN among its scores or grades gains, relevant and size are NaN.

    Attributes:
      gains: expected gain.
      relevant: probability that a relevant document stands here.
      start: rank before the tied group.
      size: documents in the group.
      hits: relevant documents in the group.
      earlier_hits: relevant documents before the group.
    """

    gains: Array
    relevant: Array
    start: Array
    size: Array
    hits: Array
    earlier_hits: Array


def _check_choice(name, value, choices):
    """Checks a name against those of a Literal."""
    if value not in get_args(choices):
        names = ", ".join(f'"{choice}"' for choice in get_args(choices))
        raise ValueError(f"{name}: expected one of {names}, got {value!r}")


def _check_grades(name, grades, where):
    """Checks that grades that count, unless traced, are real numbers of 0 or above."""
    if isinstance(grades, jax.core.Tracer) or isinstance(where, jax.core.Tracer):
        return
    grades = np.asarray(grades)
    if not (grades.dtype == np.bool_ or np.can_cast(grades.dtype, np.longdouble)):
        raise TypeError(f"{name}: expected a mask or grades, got {grades.dtype}")
    numerics.check_fits(grades, name)
    grades = grades if where is None else grades[np.asarray(where)]
    if np.any(grades < 0):
        least = np.nanmin(grades)
        raise ValueError(f"{name}: expected grades of 0 or above, got {least}")


def _ranking(scores, relevance, where, ties, gain="linear") -> _Ranking:
    """Checks the arguments, sorts each query's documents, averages over tied groups."""
    numerics.check_shapes(
        scores=(scores, "q n"), relevance=(relevance, "q n"), where=(where, "q n")
    )
    where = None if where is None else numerics.check_mask(where, "where")
    _check_grades("relevance", relevance, where)
    _check_choice("gain", gain, Gain)
    _check_choice("ties", ties, Ties)
    scores = numerics.at_least_f32(scores, "scores")
    return _sorted(scores, jnp.asarray(relevance), where, ties=ties, gain=gain)


@functools.partial(jax.jit, static_argnames=("ties", "gain"))
def _sorted(scores, relevance, where, *, ties, gain) -> _Ranking:
    """`_ranking` of checked arguments."""
    where = numerics.mask_or_all(where, scores.shape)
    grades = jnp.maximum(relevance.astype(scores.dtype), 0)
    grades = jnp.where(where, grades, 0)
    unknown = where & (jnp.isnan(scores) | jnp.isnan(grades))
    unknown = jnp.any(unknown, axis=1, keepdims=True)
    # Documents that do not count come last; then by score; then as `ties` says.
    sign = 1 if ties == "pessimistic" else -1
    absent, scores, grades = jax.lax.sort(
        (~where, -scores, sign * grades),
        dimension=1,
        num_keys=2 if ties == "index" else 3,  # the sort is stable
    )
    where, grades = ~absent, sign * grades
    gains = jnp.exp2(grades) - 1 if gain == "exponential" else grades
    relevant = (grades > 0).astype(scores.dtype)
    new = (scores[:, 1:] != scores[:, :-1]) | (where[:, 1:] != where[:, :-1])
    if ties != "expected":
        new = jnp.ones_like(new)
    new = jnp.pad(new, ((0, 0), (1, 0)), constant_values=True)
    n = scores.shape[1]
    position = jnp.broadcast_to(jnp.arange(n), scores.shape)
    first = jax.lax.cummax(jnp.where(new, position, 0), axis=1)
    nexts = jnp.pad(new[:, 1:], ((0, 0), (0, 1)), constant_values=True)
    last = jax.lax.cummin(jnp.where(nexts, position, n), axis=1, reverse=True)
    size = (last - first + 1).astype(scores.dtype)

    def group_sum(x):
        total = jnp.pad(jnp.cumsum(x, axis=1), ((0, 0), (1, 0)))
        at = functools.partial(jnp.take_along_axis, total, axis=1)
        return at(indices=last + 1) - at(indices=first), at(indices=first)

    hits, earlier_hits = group_sum(relevant)
    size = jnp.where(unknown, jnp.nan, size)
    return _Ranking(
        gains=group_sum(gains)[0] / size,
        relevant=hits / size,
        start=first.astype(scores.dtype),
        size=size,
        hits=hits,
        earlier_hits=earlier_hits,
    )


def _num_relevant(ranking: _Ranking) -> Float[Array, " q"]:
    """Relevant documents of each query; 1 where there is none."""
    return jnp.maximum((ranking.earlier_hits + ranking.hits)[:, -1], 1)


def _relevant_precisions(ranking: _Ranking) -> Float[Array, "q n"]:
    """Expected precision at each rank that holds a relevant document, else 0."""
    ranks = _ranks(ranking.size)
    inside = ranks - ranking.start  # 1 to the size of the tied group
    others = jnp.maximum(ranking.hits - 1, 0) / jnp.maximum(ranking.size - 1, 1)
    expected = ranking.earlier_hits + 1 + others * (inside - 1)
    return ranking.relevant * expected / ranks


def _none_relevant_within(ranking: _Ranking) -> Float[Array, "q n"]:
    """Probability that none of the first r documents is relevant, r = 1 to n."""
    inside = jnp.arange(ranking.size.shape[1])[None, :] - ranking.start
    left = ranking.size - inside  # of the group, this position included
    miss = jnp.maximum(left - ranking.hits, 0) / left
    return jnp.cumprod(miss, axis=1)


def _ranks(scores) -> Float[Array, "1 n"]:
    """Ranks 1 to n, to go with sorted positions."""
    return jnp.arange(1.0, scores.shape[1] + 1)[None, :]


def _cut(values: Float[Array, "..."], k: int | None) -> Float[Array, "..."]:
    """0 beyond rank k."""
    if k is None:
        return values
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    return jnp.where(jnp.arange(values.shape[1])[None, :] < k, values, 0)


def _at_most_1(value: Float[Array, " q"]) -> Float[Array, " q"]:
    """Without what sums of rounded shares have above 1; NaN stays."""
    return jnp.minimum(value, 1)


def _reduce(value, ranking: _Ranking, empty, reduce_fn):
    """Over the queries that have a relevant document."""
    counts = jnp.any(ranking.hits > 0, axis=-1)
    if empty is not None:
        value = jnp.where(counts, value, empty)
        counts = jnp.ones_like(counts)
    return numerics.safe_reduce(value, where=counts, reduce_fn=reduce_fn)
