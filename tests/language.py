"""A small random model that reads words, and one in place of a paper's."""

import jax
from ml_collections import ConfigDict

from contrastive_jax import models
from contrastive_jax.tasks import language_models as lms
from contrastive_jax.tasks import text_encoders


def word_model(words, **sizes):
    """A model of these words; sizes in place of those of `lms.small`."""
    decoder = models.Decoder(len(words), **lms.small(**sizes))
    params = lms.init_params(decoder, jax.random.key(0))
    return lms.word_language(decoder, params, words)


def small_recipe(monkeypatch, configs):
    """Has the variant "paper" of a config module build a small decoder."""
    original = configs.get_config

    def small(variant=""):
        config = original(variant)
        if variant == "paper":
            config.model.update(width=32, depth=2, heads=2, mlp_width=32)
            config.model.vocab_size = 256
        return config

    monkeypatch.setattr(configs, "get_config", small)


def bert_by_sizes(monkeypatch):
    """Has an encoder from disk made of the sizes beside its path, without weights."""
    original = text_encoders.make_recipe

    def by_sizes(section):
        return original(ConfigDict({**section.to_dict(), "path": ""}))

    monkeypatch.setattr(text_encoders, "make_recipe", by_sizes)
