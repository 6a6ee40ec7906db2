"""Exact search: nearest neighbors by inner product on the device, block by block.

A wrong dtype raises TypeError and shapes that do not fit together ValueError, naming
the argument.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from contrastive_jax import numerics, similarity


@functools.partial(jax.jit, static_argnames=("k", "chunk"))
def nearest_neighbors(
    queries: Float[Array | np.ndarray, "q d"],
    candidates: Float[Array | np.ndarray, "n d"],
    *,
    k: int,
    exclude: Int[Array | np.ndarray, "q e"] | None = None,
    chunk: int = 4096,
) -> tuple[Float[Array, "q k"], Int[Array, "q k"]]:
    """The k candidates of largest inner product per query, best first.

    Only [chunk, chunk] scores exist at a time. Among equal scores the candidate with
    the smaller index comes first.

    Args:
      queries: embeddings to search for; normalize both sides for cosines.
      candidates: embeddings to search in.
      k: neighbors per query, at most n.
      exclude: candidate indices that may not be returned, per query (-1 for none).
        Where fewer than k remain, the rest has score -inf.
      chunk: rows and columns of one tile.

    Returns:
      Scores and candidate indices.

    Raises:
      ValueError: k above the number of candidates.

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
    queries, candidates = jnp.asarray(queries), jnp.asarray(candidates)
    if exclude is None:
        exclude = jnp.zeros((q, 0), jnp.int32)
    exclude = numerics.check_integer(exclude, "exclude")
    width = min(chunk, n)
    tiles = _tiles(candidates, width)
    starts = jnp.arange(len(tiles), dtype=jnp.int32) * width

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
        return jax.lax.scan(merge, empty, (starts, tiles))[0]

    height = min(chunk, q)
    rows = _tiles(queries, height), _tiles(exclude, height)
    best = jax.lax.map(best_of_rows, rows)
    return jax.tree.map(lambda x: x.reshape(-1, k)[:q], best)


def _tiles(x, size):
    """[n, ...] as [tiles, size, ...], padded with zeros."""
    padding = -len(x) % size
    x = jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(len(x) // size, size, *x.shape[1:])
