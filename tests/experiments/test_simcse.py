"""SimCSE: its texts, and its loss with hard negatives by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import randomness
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


@pytest.mark.experiments
def test_the_own_hard_negative_has_the_weight():
    """Equation 5, row by row, on one device and on four."""
    config = configs.get_config("smoke")
    config.model.dropout, config.loss.hard_weight = 0.2, -1.5
    texts = sentence_views.columns(config)[0]
    columns = [texts[i : i + 8] for i in (0, 8, 16)]
    config.data.batch_size = 8
    batch = next(sentence_views.batches(config, 0, columns))
    state = experiment.init(config)
    _, metrics = jax.jit(experiment.make_step(config))(state, batch)
    keys = jax.vmap(
        functools.partial(jax.random.fold_in, jax.random.fold_in(state.rng, 0))
    )(jnp.arange(8))
    recipe, params = sentence_views.make_recipe(config), state.params

    @jax.jit
    def embed(tokens, where, keys):
        z = encoders.embed(recipe, params, tokens, where, keys=keys)
        return sentence_views.project(params, z)

    anchors, positives, negatives = (
        np.asarray(
            embed(
                batch["tokens"][:, i],
                batch["where"][:, i],
                randomness.fold_keys(keys, i),
            )
        )
        for i in range(3)
    )

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    losses = []
    for i in range(8):
        near = [cosine(anchors[i], x) / 0.1 for x in positives]
        far = [cosine(anchors[i], x) / 0.1 for x in negatives]
        far[i] -= 1.5
        losses.append(np.logaddexp.reduce([*near, *far]) - near[i])
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-3)


@pytest.mark.experiments
def test_the_same_dropout_gives_the_same_view():
    config = configs.get_config("smoke")
    batch = next(sentence_views.batches(config, 0))
    losses = {}
    for masks in ("other", "same"):
        config.loss.masks = masks
        step = jax.jit(experiment.make_step(config))
        losses[masks] = step(experiment.init(config), batch)[1]["loss"]
    assert losses["same"] < losses["other"]
