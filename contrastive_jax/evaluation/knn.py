"""The k-nearest-neighbor classifier, by cosine.

Features are floating point and labels integers; all can be traced. A wrong dtype raises
TypeError and shapes that do not fit together ValueError, naming the argument.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from contrastive_jax import numerics, similarity
from contrastive_jax.search.exact import nearest_neighbors


def knn_classify(
    train: Float[Array | np.ndarray, "n d"],
    train_labels: Integer[Array | np.ndarray, " n"],
    test: Float[Array | np.ndarray, "q d"] | None = None,
    *,
    k: int,
    num_classes: int,
    temperature: float = 0.07,
    vote: Literal["weighted", "majority"] = "weighted",
    chunk: int = 4096,
) -> Int[Array, " q"]:
    """Predicted class of each test row from its k nearest training rows by cosine.

        weighted: argmax_c sum_{i in neighbors of class c} exp(cosine_i / temperature)
        majority: argmax_c number of neighbors of class c

    Equal votes go to the smaller class; a neighbor whose class is out of range (traced)
    has no vote. A row with a NaN among its votes gets -1, as does one without votes.

    Args:
      train: training features, normalized here.
      train_labels: their classes, 0 to num_classes - 1.
      test: features to classify, normalized here. None: the training rows, each by its
        nearest others (leave-one-out).
      k: neighbors that vote, not more than there are.
      num_classes: number of classes.
      temperature: of the weights.
      vote: whether neighbors are weighted by their cosine.
      chunk: see `nearest_neighbors`.

    Raises:
      ValueError: k beyond the rows that can be neighbors, labels out of range, a
        temperature not above 0, an unknown vote.

    Examples:
      >>> train = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
      >>> labels = jnp.array([0, 0, 1])
      >>> knn_classify(train, labels, jnp.array([[0.1, 2.0]]), k=1, num_classes=2)
      Array([1], dtype=int32)
      >>> knn_classify(train, labels, k=1, num_classes=2)
      Array([0, 0, 0], dtype=int32)

    References:
      Wu et al. 2018, arXiv:1805.01978, section 3.4.
    """
    n = numerics.check_shapes(
        train=(train, "n d"), train_labels=(train_labels, "n"), test=(test, "q d")
    )["n"]
    numerics.check_positive(temperature=temperature)
    labels = numerics.check_columns(train_labels, num_classes, "train_labels")
    if vote not in ("weighted", "majority"):
        raise ValueError(f'vote: expected "weighted" or "majority", got {vote!r}')
    others = n if test is not None else n - 1
    if not 1 <= k <= others:
        raise ValueError(f"k: expected 1 to {others} (rows to compare with), got {k}")
    if vote == "majority":
        temperature = jnp.inf
    sizes = dict(k=k, num_classes=num_classes, chunk=chunk)
    return _classify(train, labels, test, temperature, **sizes)


@functools.partial(jax.jit, static_argnames=("k", "num_classes", "chunk"))
def _classify(train, labels, test, temperature, *, k, num_classes, chunk):
    """`knn_classify` of checked arguments, as one program."""
    train = similarity.l2_normalize(numerics.at_least_f32(train, "train"))
    if test is None:
        test, exclude = train, jnp.arange(len(train))[:, None]
    else:
        test = similarity.l2_normalize(numerics.at_least_f32(test, "test"))
        exclude = None
    scores, indices = nearest_neighbors(test, train, k=k, exclude=exclude, chunk=chunk)
    return _most_votes(scores, labels[indices], temperature, num_classes)


def _most_votes(scores, labels, temperature, num_classes) -> Int[Array, " q"]:
    """Class with the largest sum of weights among the neighbors of each row."""
    # The best neighbor has weight 1: the same result, and no overflow.
    weights = jnp.exp((scores - scores[:, :1]) / temperature)

    def count(weights, labels):
        return jnp.zeros(num_classes, weights.dtype).at[labels].add(weights)

    votes = jax.vmap(count)(weights, labels)
    known = ~jnp.any(jnp.isnan(weights), axis=1) & jnp.any(votes > 0, axis=1)
    return jnp.where(known, jnp.argmax(votes, axis=1), -1).astype(jnp.int32)
