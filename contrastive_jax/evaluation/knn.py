"""Nearest neighbours by inner product, tile by tile, and the kNN classifier."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from contrastive_jax import numerics, similarity


@functools.partial(jax.jit, static_argnames=("k", "chunk"))
def nearest_neighbours(
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
      queries: what to look up; normalise both sides for cosines.
      candidates: where to look.
      k: neighbours per query, at most n.
      exclude: candidate indices that may not be returned, per query (-1 for none).
        Where fewer than k are left, the rest has score -inf.
      chunk: rows and columns of one tile.

    Returns:
      Scores and candidate indices.

    Raises:
      TypeError: embeddings that are not floating point.
      ValueError: shapes that do not fit together, k beyond the candidates.

    Examples:
      >>> candidates = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
      >>> scores, indices = nearest_neighbours(candidates[:1], candidates, k=2)
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
        x, left_out = rows

        def merge(best, tile):
            start, y = tile
            columns = start + jnp.arange(width, dtype=jnp.int32)
            absent = (columns >= n)[None, :] | jnp.any(
                left_out[:, :, None] == columns[None, None, :], axis=1
            )
            scores = similarity.matmul(x, y)
            # `top_k` takes 0 for more than -0.
            scores = jnp.where(scores == 0, 0, scores)
            scores = jnp.where(absent, -jnp.inf, scores)
            # Earlier candidates stand first, so that they win ties.
            scores = jnp.concatenate([best[0], scores], axis=1)
            scores, place = jax.lax.top_k(scores, k)
            known = jnp.take_along_axis(best[1], jnp.minimum(place, k - 1), axis=1)
            return (scores, jnp.where(place < k, known, start + place - k)), None

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


def knn_classify(
    train: Float[Array | np.ndarray, "n d"],
    train_labels: Int[Array | np.ndarray, " n"],
    test: Float[Array | np.ndarray, "q d"],
    *,
    k: int,
    num_classes: int,
    temperature: float = 0.07,
    vote: Literal["weighted", "majority"] = "weighted",
    chunk: int = 4096,
) -> Int[Array, " q"]:
    """Classes of the test rows by their k nearest training rows in cosine.

        weighted: argmax_c sum_{i in neighbours of class c} exp(cosine_i / temperature)
        majority: argmax_c number of neighbours of class c

    Equal votes go to the smaller class. A row with a NaN among its votes gets -1.

    Args:
      train: training features, normalised here.
      train_labels: their classes, 0 to num_classes - 1.
      test: features to classify, normalised here.
      k: neighbours that vote.
      num_classes: number of classes.
      temperature: of the weights.
      vote: how neighbours count.
      chunk: see `nearest_neighbours`.

    Raises:
      TypeError: features that are not floating point, labels that are not integers.
      ValueError: shapes that do not fit together, k beyond the training rows, labels
        out of range, a temperature not above 0, an unknown vote.

    Examples:
      >>> train = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
      >>> labels = jnp.array([0, 0, 1])
      >>> knn_classify(train, labels, jnp.array([[0.1, 2.0]]), k=1, num_classes=2)
      Array([1], dtype=int32)

    References:
      Wu et al. 2018, arXiv:1805.01978, section 3.4.
    """
    numerics.check_shapes(
        train=(train, "n d"), train_labels=(train_labels, "n"), test=(test, "q d")
    )
    numerics.check_positive(temperature=temperature)
    labels = numerics.check_columns(train_labels, num_classes, "train_labels")
    if vote not in ("weighted", "majority"):
        raise ValueError(f'vote: expected "weighted" or "majority", got {vote!r}')
    train, test = (
        similarity.l2_normalize(numerics.at_least_f32(x, name))
        for x, name in ((train, "train"), (test, "test"))
    )
    scores, indices = nearest_neighbours(test, train, k=k, chunk=chunk)
    if vote == "majority":
        temperature = jnp.inf
    return _winners(scores, labels[indices], temperature, num_classes=num_classes)


@functools.partial(jax.jit, static_argnames="num_classes")
def _winners(scores, labels, temperature, *, num_classes) -> Int[Array, " q"]:
    """The class of most weight among the neighbours of each row."""
    # The best neighbour has weight 1: the same winner, and no overflow.
    weights = jnp.exp((scores - scores[:, :1]) / temperature)

    def count(weights, labels):
        return jnp.zeros(num_classes, weights.dtype).at[labels].add(weights)

    votes = jax.vmap(count)(weights, labels)
    known = ~jnp.any(jnp.isnan(votes), axis=1)
    return jnp.where(known, jnp.argmax(votes, axis=1), -1).astype(jnp.int32)


def _tiles(x, size):
    """[n, ...] as [tiles, size, ...], padded with zeros."""
    padding = -len(x) % size
    x = jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(len(x) // size, size, *x.shape[1:])
