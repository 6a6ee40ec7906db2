"""SimCSE: its texts, and its loss with hard negatives by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import randomness, similarity
from contrastive_jax.models.pretrained import encoders
from contrastive_jax.tasks import sentence_views
from experiments.simcse import config as configs
from experiments.simcse import experiment
from tests.language import bert_by_sizes as stand_in  # noqa: F401


def test_held_out_pairs_do_not_train_and_no_sentence_comes_twice(tmp_path):
    config = configs.get_config("smoke")
    train, held = sentence_views.pairs(config)
    assert len(held.queries) == config.eval.pairs
    assert not {*train.queries} & {*held.queries}
    assert not {*train.documents} & {*held.documents}
    (texts,) = sentence_views.columns(config)
    assert len(set(texts)) == len(texts) <= config.data.count
    file = tmp_path / "texts.tsv"
    file.write_text("a b\tc\n\na b\tc\nd\te f\n")
    config.data.file = str(file)
    assert sentence_views.columns(config) == [("a b", "d"), ("c", "e f")]
    (tmp_path / "ragged.tsv").write_text("a b\tc\nd\n")
    config.data.file = f"{tmp_path}/ragged.tsv"
    with pytest.raises(ValueError, match=r"ragged.tsv, row 2: expected 2 texts"):
        sentence_views.columns(config)
    (tmp_path / "texts.jsonl").write_text('{"one": "a b", "two": "c"}\n' * 2)
    config.data.update(file=f"{tmp_path}/texts.jsonl", features=("two", "one"))
    assert sentence_views.columns(config) == [("c",), ("a b",)]


def test_texts_of_every_method():
    config = configs.get_config("smoke")
    config.data.count, config.loss.margin = 24, 0.1
    train, _ = sentence_views.pairs(config)
    words = sorted({word for side in train for text in side for word in text.split()})

    def encode(texts):
        """Bags of words."""
        return np.array([[w in t.split() for w in words] for t in texts], np.float32)

    assert len(experiment.texts_of(config, "simcse", encode)) == 1
    first, second = experiment.texts_of(config, "pairs", encode)
    assert (first[3], second[3]) == (train.queries[3], train.documents[3])
    config.loss.negatives = "hard"
    triples = zip(*experiment.texts_of(config, "hard_negatives", encode), strict=True)
    rows = [*triples]
    assert rows
    for anchor, positive, negative in rows:
        near, far, own = encode([positive, negative, anchor])
        cosines = [
            own @ x / np.linalg.norm(own) / np.linalg.norm(x) for x in (near, far)
        ]
        assert negative != positive and cosines[0] - cosines[1] > 0.1 - 1e-5
        assert train.documents[train.queries.index(anchor)] == positive


@pytest.fixture(scope="module")
def embed():
    """View i of texts with an encoder that drops a lot, and the layer of training."""
    config = configs.get_config("smoke")
    recipe = sentence_views.make_recipe(config)

    @jax.jit
    def embed(params, rng, tokens, where, i):
        keys = jax.vmap(functools.partial(jax.random.fold_in, rng))(jnp.arange(8))
        keys = randomness.fold_keys(keys, i)
        z = encoders.embed(recipe, params, tokens, where, keys=keys)
        return similarity.l2_normalize(sentence_views.project(params, z))

    def view(state, batch, column, i):
        rng = jax.random.fold_in(state.rng, 0)
        own = (batch[name][:, column] for name in ("tokens", "where"))
        return np.asarray(embed(state.params, rng, *own, i))

    return view


def first_loss(config, batch):
    """The state at step 0 and its loss, without the gradient."""
    state, step = experiment.init(config), experiment.make_step(config)
    return state, jax.jit(lambda x, y: step(x, y)[1]["loss"])(state, batch)


@pytest.mark.experiments
def test_the_own_hard_negative_has_the_weight(embed):
    """Equation 5, row by row."""
    config = configs.get_config("smoke")
    config.loss.hard_weight, config.data.batch_size = -1.5, 8
    texts = sentence_views.columns(config)[0]
    columns = [texts[i : i + 8] for i in (0, 8, 16)]
    batch = next(sentence_views.batches(config, 0, columns))
    state, loss = first_loss(config, batch)
    anchors, positives, negatives = (embed(state, batch, i, i) for i in range(3))
    near = anchors @ positives.T / config.loss.temperature
    far = anchors @ negatives.T / config.loss.temperature - 1.5 * np.eye(8)
    every = np.logaddexp.reduce(np.concatenate([near, far], axis=1), axis=1)
    np.testing.assert_allclose(loss, np.mean(every - np.diag(near)), rtol=1e-3)


@pytest.mark.experiments
@pytest.mark.parametrize("masks", ["other", "same"])
def test_views_of_a_sentence_have_other_dropout_or_the_same(embed, masks):
    """Equation 4; with equal dropout the second view is the first."""
    config = configs.get_config("smoke")
    config.loss.masks, config.data.batch_size = masks, 8
    batch = next(sentence_views.batches(config, 0))
    state, loss = first_loss(config, batch)
    first, second = (embed(state, batch, 0, i) for i in (0, int(masks == "other")))
    assert (np.abs(first - second).max() > 0.01) == (masks == "other")
    logits = first @ second.T / config.loss.temperature
    want = np.logaddexp.reduce(logits, axis=1) - np.diag(logits)
    np.testing.assert_allclose(loss, np.mean(want), rtol=1e-3)
