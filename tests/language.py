"""A small random model that reads words."""

import jax

from contrastive_jax import models
from contrastive_jax.tasks import language_models as lms


def word_model(words, **sizes):
    """A model of these words; sizes in place of those of `lms.small`."""
    decoder = models.Decoder(len(words), **lms.small(**sizes))
    params = lms.init_params(decoder, jax.random.key(0))
    return lms.word_language(decoder, params, words)
