"""Mining: hard negatives of a corpus, those a model takes for almost as good.

A wrong dtype raises TypeError and shapes that do not fit together ValueError, naming
the argument.
"""

import functools

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from contrastive_jax import numerics, similarity


def hard_negatives(
    queries: Float[Array | np.ndarray, "q d"],
    corpus: Float[Array | np.ndarray, "n d"],
    positives: Integer[Array | np.ndarray, "q p"],
    *,
    k: int,
    margin: numerics.Number = 0.0,
    relative_margin: numerics.Number = 0.0,
    skip: int = 0,
    within: int | None = None,
    chunk: int = 4096,
) -> tuple[Float[Array, "q k"], Int[Array, "q k"]]:
    """The k best-scoring rows of a corpus that are below each query's positives.

        score(j) <= s - margin - relative_margin |s|,  s = least score of a positive

    Scores are inner products. What scores as high as a positive is often one that
    nobody has labeled; a margin leaves it out. Only [chunk, chunk] scores exist at a
    time. Among equal scores the smaller index comes first.

    Args:
      queries: embeddings; normalize both sides for cosines.
      corpus: embeddings to mine.
      positives: rows of the corpus that answer each query, which are never returned;
        -1 fills up. A query without any has no bound.
      k: negatives per query.
      margin: in units of the score, >= 0.
      relative_margin: share of the positive's score, in [0, 1]; 0.05 is usual.
      skip: so many of the hardest are left out, >= 0.
      within: none beyond this rank is returned, ranks counted from 1 among all rows
        that are no positives, those above the bound too; no limit when None.
      chunk: rows and columns of one tile.

    Returns:
      Scores and rows of the corpus, hardest first; where fewer than k remain, -inf and
      -1. A row with a score of NaN is not returned.

    Raises:
      ValueError: k, skip or a margin out of range, a positive beyond the corpus.

    References:
      Xiong et al. 2021, arXiv:2007.00808 (negatives of a corpus); de Souza Moreira et
      al. 2024, arXiv:2407.15831, section 3 (margins below the positive's score).

    Examples:
      >>> corpus = jnp.array([[1.0, 0.0], [0.99, 0.1], [0.8, 0.6], [0.0, 1.0]])
      >>> _, rows = hard_negatives(
      ...     corpus[:1], corpus, jnp.array([[0]]), k=2, relative_margin=0.05
      ... )
      >>> rows
      Array([[2, 3]], dtype=int32)
    """
    sizes = numerics.check_shapes(
        queries=(queries, "q d"), corpus=(corpus, "n d"), positives=(positives, "q p*")
    )
    n = sizes["n"]
    if not 1 <= k <= n:
        raise ValueError(f"k: expected 1 to {n} (the corpus), got {k}")
    if not 0 <= skip <= n - k:
        raise ValueError(f"skip: expected 0 to {n - k} (the corpus less k), got {skip}")
    if within is not None and within < 1:
        raise ValueError(f"within: expected at least 1, got {within}")
    numerics.check_nonnegative(margin=margin)
    numerics.check_fraction(relative_margin=relative_margin)
    positives = numerics.check_integer(positives, "positives")
    if not isinstance(positives, jax.core.Tracer) and positives.size:
        most = int(np.max(np.asarray(positives)))
        if most >= n:
            raise ValueError(f"positives: expected numbers below {n}, got {most}")
    queries = numerics.at_least_f32(queries, "queries")
    corpus = numerics.at_least_f32(corpus, "corpus")
    margins = margin, relative_margin
    limit = n if within is None else within
    best = mined(queries, corpus, positives, margins, limit, k + skip, min(chunk, n))
    return best[0][:, skip:], best[1][:, skip:]


@functools.partial(jax.jit, static_argnums=(5, 6))
def mined(queries, corpus, positives, margins, limit, k, chunk):
    """Scores and rows of the k hardest, tile by tile."""
    n, d = corpus.shape
    tiles = jnp.pad(corpus, ((0, -n % chunk), (0, 0))).reshape(-1, chunk, d)
    starts = jnp.arange(len(tiles), dtype=jnp.int32) * chunk

    def of_query(x, own, bound):
        def merge(best, tile):
            start, y = tile
            *best, above = best
            rows = start + jnp.arange(chunk, dtype=jnp.int32)
            scores = similarity.matmul(x[None, :], y)[0]
            left_out = jnp.any(own[:, None] == rows[None, :], axis=0) | (rows >= n)
            above += jnp.sum(~left_out & (scores > bound))
            scores = jnp.where(~left_out & (scores <= bound), scores, -jnp.inf)
            # Earlier rows stand first, so that they win ties.
            scores = jnp.concatenate([best[0], scores])
            rows = jnp.concatenate([best[1], rows])
            scores, places = jax.lax.top_k(scores, k)
            rows = jnp.where(scores == -jnp.inf, -1, rows[places])
            return (scores, rows, above), None

        nothing = jnp.full(k, -jnp.inf, x.dtype), jnp.full(k, -1, jnp.int32), 0
        scores, rows, above = jax.lax.scan(merge, nothing, (starts, tiles))[0]
        ranked = above + jnp.arange(k) < limit
        return jnp.where(ranked, scores, -jnp.inf), jnp.where(ranked, rows, -1)

    def bound_of(x, own):
        scores = similarity.matmul(x[None, :], corpus[jnp.maximum(own, 0)])[0]
        least = numerics.masked_min(scores, own >= 0)
        margin, relative = margins
        bound = least - margin - relative * jnp.abs(least)
        return jnp.where(jnp.any(own >= 0), bound, jnp.inf)

    def run(args):
        x, own = args
        return of_query(x, own, bound_of(x, own))

    return jax.lax.map(run, (queries, positives), batch_size=min(chunk, len(queries)))
