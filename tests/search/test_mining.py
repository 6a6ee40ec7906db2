"""Hard negatives against a sort in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.search import hard_negatives

RNG = np.random.default_rng(0)
QUERIES, CORPUS = (RNG.integers(-3, 4, size=(n, 3)).astype(np.float32) for n in (7, 40))
POSITIVES = np.array([[0, -1], [5, 6], [7, 8], [9, -1], [-1, -1], [39, 1], [2, 2]])


def by_sorting(margin, relative, k, skip):
    scores = QUERIES.astype(np.float64) @ CORPUS.T
    out = np.full((len(QUERIES), k), -1)
    for i, row in enumerate(scores):
        own = POSITIVES[i][POSITIVES[i] >= 0]
        s = row[own].min() if len(own) else np.inf
        bound = s - margin - relative * abs(s) if len(own) else np.inf
        kept = [j for j in np.argsort(-row, kind="stable") if row[j] <= bound]
        kept = [j for j in kept if j not in own][skip : skip + k]
        out[i, : len(kept)] = kept
    return out


@pytest.mark.parametrize(
    ("margin", "relative", "k", "skip"),
    [(0.0, 0.0, 5, 0), (2.0, 0.25, 9, 0), (0.0, 0.25, 4, 3), (30.0, 0.0, 2, 0)],
)
def test_equals_sorting(margin, relative, k, skip):
    # Whole numbers: with ties, and exact products.
    want = by_sorting(margin, relative, k, skip)
    for chunk in (8, 4096):
        scores, rows = hard_negatives(
            QUERIES,
            CORPUS,
            POSITIVES,
            k=k,
            margin=margin,
            relative_margin=relative,
            skip=skip,
            chunk=chunk,
        )
        np.testing.assert_array_equal(rows, want)
        exact = np.take_along_axis(QUERIES @ CORPUS.T, np.maximum(want, 0), axis=1)
        np.testing.assert_array_equal(scores, np.where(want < 0, -np.inf, exact))


def test_ranks_beyond_a_limit_are_left_out():
    """Ranks count what the margin keeps out, too."""
    want, kept = (
        hard_negatives(QUERIES, CORPUS, POSITIVES, k=9, margin=2.0, **limit)[1]
        for limit in ({}, {"within": 12})
    )
    for i, row in enumerate(QUERIES @ CORPUS.T):
        own = POSITIVES[i][POSITIVES[i] >= 0]
        bound = row[own].min() - 2 if len(own) else np.inf
        above = np.sum(np.delete(row, own) > bound)
        ranks = above + np.arange(1, 10)
        np.testing.assert_array_equal(kept[i], np.where(ranks <= 12, want[i], -1))
    assert (kept != want).any() and (kept >= 0).any()


def test_nothing_is_left_below_a_wide_margin():
    scores, rows = hard_negatives(QUERIES[:1], CORPUS, POSITIVES[:1], k=3, margin=1e6)
    assert (rows == -1).all() and (scores == -np.inf).all()


def test_margins_may_be_traced_and_nan_is_nobody():
    corpus = CORPUS.copy()
    corpus[3] = np.nan
    run = jax.jit(lambda m: hard_negatives(QUERIES, corpus, POSITIVES, k=40, margin=m))
    want = hard_negatives(QUERIES, corpus, POSITIVES, k=40, margin=2.0)
    for got, wanted in zip(run(2.0), want, strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert not (want[1] == 3).any() and (want[1] == 4).any()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("k", {"k": 41}),
        ("skip", {"k": 2, "skip": 39}),
        ("within", {"k": 2, "within": 0}),
        ("margin", {"k": 2, "margin": -1.0}),
        ("relative_margin", {"k": 2, "relative_margin": 1.5}),
        ("positives", {"k": 2, "positives": POSITIVES + 1}),
        ("positives", {"k": 2, "positives": POSITIVES + 2**33}),
    ],
)
def test_wrong_arguments_are_named(name, options):
    positives = options.pop("positives", POSITIVES)
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        hard_negatives(QUERIES, jnp.asarray(CORPUS), positives, **options)
