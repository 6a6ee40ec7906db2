"""Exact search: nearest neighbors by inner product on the device, block by block.

A wrong dtype raises TypeError and shapes that do not fit together ValueError, naming
the argument.
"""

import functools

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, Shaped

from contrastive_jax import numerics, similarity


def nearest_neighbors(
    queries: Float[Array | np.ndarray, "q d"],
    candidates: Float[Array | np.ndarray, "n d"],
    *,
    k: int,
    exclude: Integer[Array | np.ndarray, "q e"] | None = None,
    chunk: int = 4096,
) -> tuple[Float[Array, "q k"], Int[Array, "q k"]]:
    """The k candidates of largest inner product per query, best first.

    Only [chunk, chunk] scores exist at a time. Among equal scores the candidate with
    the smaller index comes first; a score of NaN comes before all others.

    Args:
      queries: embeddings to search for; normalize both sides for cosines.
      candidates: embeddings to search in.
      k: neighbors per query, at most n.
      exclude: candidate indices that may not be returned, per query (-1 for none; so
        is a traced one out of range).
      chunk: rows and columns of one tile.

    Returns:
      Scores and candidate indices. Where fewer than k candidates are left, the last
      places are empty: score -inf, index -1.

    Raises:
      ValueError: k above the number of candidates, a chunk below 1, an excluded index
        outside of -1 to n - 1.

    Examples:
      >>> candidates = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
      >>> scores, indices = nearest_neighbors(candidates[:1], candidates, k=2)
      >>> indices
      Array([[0, 2]], dtype=int32)
    """
    sizes = numerics.check_shapes(
        queries=(queries, "q d"),
        candidates=(candidates, "n d"),
        exclude=(exclude, "q e*"),
    )
    q, n = sizes["q"], sizes["n"]
    if not 1 <= k <= n:
        raise ValueError(f"k: expected 1 to {n} (the candidates), got {k}")
    if chunk < 1:
        raise ValueError(f"chunk: expected at least 1, got {chunk}")
    queries, candidates = (
        check_floating(x, name)
        for x, name in ((queries, "queries"), (candidates, "candidates"))
    )
    if exclude is None:
        exclude = jnp.zeros((q, 0), jnp.int32)
    exclude = numerics.check_integer(exclude, "exclude")
    if not isinstance(exclude, jax.core.Tracer) and exclude.size:
        listed = np.asarray(exclude)
        least, most = int(np.min(listed)), int(np.max(listed))
        if least < -1 or most >= n:
            raise ValueError(
                f"exclude: expected -1 to {n - 1} (the candidates), got {least} to "
                f"{most}"
            )
    return _nearest(queries, candidates, exclude, k=k, chunk=chunk)


@functools.partial(jax.jit, static_argnames=("k", "chunk"))
def _nearest(queries, candidates, exclude, *, k, chunk):
    """`nearest_neighbors` of checked arguments."""
    n, q = len(candidates), len(queries)
    width = min(chunk, n)
    columns = tiles(candidates, width)
    starts = jnp.arange(len(columns), dtype=jnp.int32) * width

    def best_of_rows(rows):
        x, excluded = rows

        def merge(best, tile):
            start, y = tile
            columns = start + jnp.arange(width, dtype=jnp.int32)
            absent = (columns >= n)[None, :] | jnp.any(
                excluded[:, :, None] == columns[None, None, :], axis=1
            )
            scores = similarity.matmul(x, y)
            # `top_k` takes 0 for more than -0.
            scores = jnp.where(scores == 0, 0, scores)
            scores = jnp.where(absent, -jnp.inf, scores)
            # Earlier candidates stand first, so that they win ties.
            scores = jnp.concatenate([best[0], scores], axis=1)
            scores, place = jax.lax.top_k(scores, k)
            earlier = jnp.take_along_axis(best[1], jnp.minimum(place, k - 1), axis=1)
            return (scores, jnp.where(place < k, earlier, start + place - k)), None

        dtype = jnp.promote_types(jnp.result_type(x, candidates), jnp.float32)
        empty = (
            jnp.full((len(x), k), -jnp.inf, dtype),
            jnp.zeros((len(x), k), jnp.int32),
        )
        return jax.lax.scan(merge, empty, (starts, columns))[0]

    height = rows_of_tile(q, chunk)
    rows = tiles(queries, height), tiles(exclude, height)
    best = jax.lax.map(best_of_rows, rows)
    scores, indices = (x.reshape(-1, k)[:q] for x in best)
    return scores, jnp.where(jnp.isneginf(scores), -1, indices)


def check_floating(x: Array | np.ndarray, name: str) -> Array:
    """The input as an array, which must hold floating point of any width.

    Raises:
      TypeError: naming the argument, for anything else.
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"{name}: expected floating point, got {x.dtype}{list(x.shape)}"
        )
    return x


def rows_of_tile(n: int, chunk: int) -> int:
    """Rows of a tile for n rows in all, 2 or more.

    A product with one row rounds by place on a CPU: equal candidates would get scores
    that differ in the last digit, and an order.
    """
    return max(2, min(chunk, n))


def tiles(x: Shaped[Array, "n ..."], size: int) -> Shaped[Array, "t size ..."]:
    """Rows in tiles of equal size, padded with zeros."""
    padding = -len(x) % size
    x = jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(len(x) // size, size, *x.shape[1:])
