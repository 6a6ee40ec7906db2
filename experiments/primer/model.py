"""The encoder of all objectives, and the model of the check of NCE."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np


class Encoder(nn.Module):
    """Mean of trained word vectors and one hidden layer beside it.

    Attributes:
      vocab_size: numbers of words; 0 is no word.
      width: of vectors and embeddings.
      hidden: units of the hidden layer.
      labels: vectors of as many labels for objectives that train these instead of
        reading the labels' texts; 0 for none.
    """

    vocab_size: int
    width: int
    hidden: int
    labels: int = 0

    def setup(self):
        """The layers."""
        self.words = nn.Embed(
            self.vocab_size, self.width, embedding_init=nn.initializers.normal(1.0)
        )
        self.inner, self.outer = nn.Dense(self.hidden), nn.Dense(self.width)
        if self.labels:
            self.label_vectors = self.param(
                "label_vectors",
                nn.initializers.lecun_normal(in_axis=-1, out_axis=-2),
                (self.labels, self.width),
            )
            self.label_bias = self.param(
                "label_bias", nn.initializers.zeros, (self.labels,)
            )

    def __call__(self, tokens, where):
        """Embeddings [n, width] of the words [n, t] that count."""
        counts = jnp.maximum(jnp.sum(where, axis=1), 1)[:, None]
        vectors = jnp.where(where[:, :, None], self.words(tokens), 0)
        mean = jnp.sum(vectors, axis=1) / counts
        return mean + self.outer(nn.gelu(self.inner(mean)))


class Contexts(nn.Module):
    """Scores of outcomes with known features in contexts with vectors of their own.

    Attributes:
      features: of the outcomes, [y, r].
      contexts: how many.
      normaliser: a free constant for each context; else one for all.
    """

    features: tuple[tuple[float, ...], ...]
    contexts: int
    normaliser: bool

    @nn.compact
    def __call__(self, context):
        """Scores [n, y] of contexts [n]."""
        features = np.asarray(self.features, np.float32)
        zeros = nn.initializers.zeros
        vectors = self.param("vectors", zeros, (self.contexts, features.shape[1]))
        scores = jnp.take(vectors, context, axis=0) @ features.T
        if self.normaliser:
            constants = self.param("constants", zeros, (self.contexts,))
            return scores + jnp.take(constants, context)[:, None]
        return scores + self.param("constant", zeros, ())


class Truth(NamedTuple):
    """A known model: the chance of outcome y in context x is softmax(scores[x])[y].

    Attributes:
      features: of the outcomes, [y, r].
      scores: unnormalised log-chances, [x, y].
      log_noise: log-chances of the noise, [y].
    """

    features: np.ndarray
    scores: np.ndarray
    log_noise: np.ndarray


@functools.lru_cache(maxsize=2)
def truth(contexts: int, labels: int, rank: int, seed: int) -> Truth:
    """Random contexts and outcomes, the normalisers of the contexts far apart."""
    rng = np.random.default_rng([seed, 11])
    features = rng.normal(size=(labels, rank)) / np.sqrt(rank)
    sizes = np.linspace(0.5, 2.5, contexts)[:, None]
    scores = (sizes * rng.normal(size=(contexts, rank))) @ features.T
    noise = rng.normal(size=labels)
    log_noise = noise - np.log(np.sum(np.exp(noise)))
    return Truth(*(x.astype(np.float32) for x in (features, scores, log_noise)))


def truth_of(config) -> Truth:
    """The known model of a config."""
    d = config.data
    return truth(d.contexts, d.outcomes, d.rank, config.seed)
