"""What SimCSE and its relatives share: an encoder from a folder, held-out measures."""

import dataclasses
import pathlib

import ml_collections
import numpy as np

from contrastive_jax import training
from contrastive_jax.data import sentences
from contrastive_jax.models import pretrained
from contrastive_jax.tasks import sentence_views, text_encoders
from tests.models.test_pretrained_encoders import make_encoder

TEXTS = ["red dog", "a dog", "the big red dog"]


def test_an_encoder_from_a_folder_is_the_start(tmp_path, monkeypatch):
    """As in "paper": of the section that names it the path counts, and the pooling."""
    monkeypatch.setenv("HOME", str(tmp_path))
    saved = make_encoder(pooling=("mean",))
    pretrained.save_encoder(saved, tmp_path / "bert-base-uncased")
    config = training.defaults(optim=dict(learning_rate=1e-2), train={})
    config.data, config.eval = sentence_views.data(), sentence_views.looking(length=8)
    sentence_views.use_bert(config)
    assert not pathlib.Path(config.model.path).exists()  # "~" is a user's home
    start = text_encoders.start(config, tmp_path)
    state = sentence_views.init(config, start.params)
    found = sentence_views.encoder(config, state.params)([*TEXTS, TEXTS[0]])
    recipe = dataclasses.replace(saved.recipe, pooling=("cls",), normalize=False)
    want = dataclasses.replace(saved, recipe=recipe).encode(saved.params, TEXTS)
    np.testing.assert_allclose(found[:3], want, rtol=1e-5)
    np.testing.assert_array_equal(found[3], found[0])
    projection = state.params["projection"]["kernel"]
    assert projection.shape == (saved.recipe.model.width,) * 2


def test_no_pair_of_the_test_is_held_out(monkeypatch):
    every = [(f"meaning {i % 7}", f"word {i}") for i in range(40)]

    def glosses(count=0):
        return sentences.Paired(*map(list, zip(*every[: count or None], strict=True)))

    monkeypatch.setattr(sentences, "glosses", glosses)
    monkeypatch.setattr(
        sentence_views, "definitions", sentence_views.definitions.__wrapped__
    )
    held = sentence_views.definitions(3, 20)
    pairs = {*zip(*held, strict=True)}
    assert len(pairs) == 20 and pairs <= {*every}
    # A definition of a word in the test may stand at another word, too.
    assert not {*held.queries} & {f"meaning {i}" for i in range(3)}


def test_validation_is_the_mean_of_two_reciprocal_ranks(monkeypatch):
    config = ml_collections.ConfigDict(dict(data=sentence_views.data(), eval={}))
    config.eval = sentence_views.looking(count=2, pairs=2)
    texts = ["a", "b", "c", "d"]
    vectors = dict(zip(texts, np.eye(4, dtype=np.float32), strict=True))
    vectors["e"] = vectors["a"] + 2 * vectors["b"]  # nearer to the other one
    verses = sentences.Paired(["a", "b"], ["a", "b"])
    words = sentences.Paired(["a", "b"], ["e", "c"])
    monkeypatch.setattr(sentence_views, "pairs", lambda _: (None, verses))
    monkeypatch.setattr(sentence_views, "definitions", lambda *_: words)

    def encode(texts):
        return np.stack([vectors[x] for x in texts])

    found = sentence_views.held_out(config, encode)
    # "a" finds "e" first, and "b" finds "e" before its own "c".
    assert found["validation"] == 100 * (1 + (1 + 1 / 2) / 2) / 2
    assert "mrr" not in found
    assert {"alignment", "uniformity"} <= {*found}


def test_a_report_without_test_sets(tmp_path):
    config = training.defaults(optim=dict(learning_rate=1e-2), train={})
    config.eval = sentence_views.looking(sets=())
    results = {f"{name}/{axis}": 0.5 for name in "ab" for axis in sentence_views.AXES}
    sentence_views.write_report(tmp_path, "Title", "A line.", config, results)
    assert "Test sets" not in (tmp_path / "report.html").read_text()
