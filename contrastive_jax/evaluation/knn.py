"""The k-nearest-neighbor classifier, by cosine.

Features are floating point and labels integers. A wrong dtype raises TypeError and
shapes that do not fit together ValueError, naming the argument.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from contrastive_jax import numerics, similarity
from contrastive_jax.search.exact import nearest_neighbors


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
    """Predicted class of each test row from its k nearest training rows by cosine.

        weighted: argmax_c sum_{i in neighbors of class c} exp(cosine_i / temperature)
        majority: argmax_c number of neighbors of class c

    Equal votes go to the smaller class. A row with a NaN among its votes gets -1.

    Args:
      train: training features, normalized here.
      train_labels: their classes, 0 to num_classes - 1.
      test: features to classify, normalized here.
      k: neighbors that vote.
      num_classes: number of classes.
      temperature: of the weights.
      vote: whether neighbors are weighted by their cosine.
      chunk: see `nearest_neighbors`.

    Raises:
      ValueError: k beyond the training rows, labels out of range, a temperature not
        above 0, an unknown vote.

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
    scores, indices = nearest_neighbors(test, train, k=k, chunk=chunk)
    if vote == "majority":
        temperature = jnp.inf
    return _most_votes(scores, labels[indices], temperature, num_classes=num_classes)


@functools.partial(jax.jit, static_argnames="num_classes")
def _most_votes(scores, labels, temperature, *, num_classes) -> Int[Array, " q"]:
    """Class with the largest sum of weights among the neighbors of each row."""
    # The best neighbor has weight 1: the same result, and no overflow.
    weights = jnp.exp((scores - scores[:, :1]) / temperature)

    def count(weights, labels):
        return jnp.zeros(num_classes, weights.dtype).at[labels].add(weights)

    votes = jax.vmap(count)(weights, labels)
    finite = ~jnp.any(jnp.isnan(votes), axis=1)
    return jnp.where(finite, jnp.argmax(votes, axis=1), -1).astype(jnp.int32)
