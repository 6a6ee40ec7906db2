"""DefSent+'s dictionary, measures and stages, on what can be checked by hand."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import evaluation, models, training
from contrastive_jax.data import DataMissing
from contrastive_jax.models import pretrained
from contrastive_jax.tasks import text_encoders
from experiments.defsent import config as configs
from experiments.defsent import data, experiment, measure


def stand_in(monkeypatch):
    """The sizes of the BERT that the recipe starts from."""
    base = models.Encoder(30_522, width=768, depth=12, mlp_width=3072)
    found = types.SimpleNamespace(recipe=pretrained.Recipe(base))
    monkeypatch.setattr(text_encoders, "load", lambda _: found)


@pytest.fixture(scope="module")
def config():
    return configs.get_config("smoke")


@pytest.fixture(scope="module")
def tokenizer(config):
    return text_encoders.make_tokenizer(config)


def texts_of(found, part):
    return {found.senses[r].definition for rows in part.values() for r in rows}


def test_no_held_out_definition_is_learned(config):
    found = data.from_config(config)
    train, test, validation = (found.parts[k] for k in ("train", "test", "validation"))
    assert len(test) == len(validation) == 16 and not test.keys() & validation.keys()
    held = texts_of(found, test) | texts_of(found, validation)
    assert held and not held & texts_of(found, train)
    assert all(
        2 <= len(rows) <= 8 for part in found.parts.values() for rows in part.values()
    )
    # The seed draws batches, not the split.
    other = configs.get_config("smoke")
    other.seed = 1
    assert data.from_config(other) is found


def test_rows_of_entries_and_of_tokens(config, tokenizer):
    found, chosen = data.from_config(config), data.entries(config)
    rows = data.learn_rows(config, tokenizer)
    texts = [found.senses[r].definition for own in chosen.values() for r in own]
    assert len(rows["labels"]) == len(texts) and rows["labels"].max() == 59
    i = int(np.flatnonzero(rows["labels"] == 7)[0])
    real = rows["tokens"][i][rows["where"][i]].tolist()
    assert real == tokenizer.encode(texts[i]).ids[: config.data.length]
    words = training.changed(config, {"stage": "words"})
    rows = data.learn_rows(words, tokenizer)
    named = data.token_entries(words, tokenizer)
    assert len(named) > 5
    names = np.repeat([*named], [len(x) for x in named.values()])
    assert [tokenizer.id_to_token(int(t)) for t in rows["labels"]] == names.tolist()
    more = training.changed(config, {"data.entries": 10_000})
    with pytest.raises(ValueError, match=r"^data.entries: expected at most"):
        data.entries(more)


def test_similarity_of_places_in_a_tree_by_hand():
    """0 above 1 and 2, both above 3 (two ways up); 4 below 2; 5 alone."""
    kinds = ((), (0,), (0,), (1, 2), (2,), ())
    places = [data.ancestors(kinds, row) for row in range(6)]
    assert places[3] == {3: 0, 1: 1, 2: 1, 0: 2}
    want = {(3, 3): 1, (3, 1): 1 / 2, (3, 4): 1 / 3, (1, 4): 1 / 4, (3, 5): 0}
    for (a, b), value in want.items():
        assert data.path_similarity(places[a], places[b]) == value
        assert data.path_similarity(places[b], places[a]) == value


def test_pairs_are_of_held_out_definitions(config):
    found = data.from_config(config)
    held = texts_of(found, found.parts["test"])
    scored = data.path_pairs(config, "test")
    assert len(scored.first) == 50 and {*scored.first, *scored.second} <= held
    # Two senses of one topic, or of two: over the topic, or the root.
    assert set(scored.scores) == {1 / 3, 1 / 5}
    pair = data.other_definitions(config, "test")
    every = [*pair.queries, *pair.documents]
    assert len(every) == len(set(every)) and {*every} <= held


def test_own_files_are_a_word_and_a_definition_a_line(tmp_path):
    file = tmp_path / "own.tsv"
    lines = [f"w{i % 5} x\tmeans {i}" for i in range(20)]
    file.write_text("\n".join(lines) + "\n")
    found = data.dictionary(str(file), 1, 1, 9)
    assert len(found.parts["train"]) == 3
    assert all(len(rows) == 4 for rows in found.parts["train"].values())
    own = training.changed(
        configs.get_config("smoke"), {"data.name": str(file), "data.held_out": 1}
    )
    assert data.path_pairs(own, "test").first == []
    file.write_text("a\tb\nno tab\n")
    with pytest.raises(ValueError, match=r"own.tsv:2: expected 2 columns, got 1"):
        data.read(str(file))
    with pytest.raises(DataMissing, match=r"^data.name: expected wordnet"):
        data.read(f"{tmp_path}/none.tsv")


def test_entries_are_the_means_of_pooled_definitions(config, tokenizer):
    """Both poolers, padding left out; components of them have one deviation."""
    rows = data.learn_rows(config, tokenizer)
    recipe = measure.make_recipe(config, "mean")
    params = jax.device_get(text_encoders.init_params(recipe, jax.random.key(0)))
    own = np.flatnonzero(rows["labels"] == 3)
    out = jax.jit(recipe.model.apply)(
        {"params": params["encoder"]}, rows["tokens"][own], where=rows["where"][own]
    ).last
    out, where = np.asarray(out), rows["where"][own][..., None]
    want = {
        "mean": ((out * where).sum(1) / where.sum(1)).mean(0),
        "cls": out[:, 0].mean(0),
    }
    made = {}
    for kind, vector in want.items():
        changed = training.changed(config, {"loss.entries": kind})
        made[kind] = measure.make_entries(changed, params, rows)
        np.testing.assert_allclose(made[kind][3], vector, rtol=1e-4, atol=1e-5)
    changes = {"loss.isotropic": True, "loss.component_scale": 9.0}
    white = measure.prepare(training.changed(config, changes), made["mean"])
    # A LayerNorm leaves one direction out; a turn leaves the others as they are.
    values = np.linalg.eigvalsh(np.cov(white.T, bias=True))
    np.testing.assert_allclose(values[1:], 81, rtol=1e-3)
    assert abs(values[0]) < 1e-3
    cosines = [evaluation.average_cosine(jnp.asarray(x)) for x in (made["mean"], white)]
    assert abs(cosines[1]) < 0.05 < cosines[0]
    scaled = training.changed(config, {"loss.scale": 9.0})
    np.testing.assert_allclose(
        measure.prepare(scaled, made["mean"]),
        made["mean"] * 9 / np.sqrt(np.mean(np.var(made["mean"], axis=0))),
        rtol=1e-5,
    )
    as_is = training.changed(config, {"loss.scale": 0.0})
    np.testing.assert_array_equal(measure.prepare(as_is, white), white)


def test_every_stage_starts_from_the_first_encoder(config, tokenizer, monkeypatch):
    """And has entries by the encoder before; "continued" alone goes on from it."""
    recipe = measure.make_recipe(config, "mean")
    params = text_encoders.init_params(recipe, jax.random.key(0))
    start = pretrained.TextEncoder(recipe, jax.device_get(params), tokenizer, 64)
    seen, made = [], []

    def train(own, place, init, *_, **__):
        """Stands for training: adds 1 to every parameter."""
        state = init(own)
        scale = np.asarray(state.params["encoder"]["norm"]["scale"])
        seen.append((place.name, float(scale[0])))
        return state.replace(params=jax.tree.map(lambda x: x + 1, state.params))

    def make(own, params, rows):
        made.append(float(np.asarray(params["encoder"]["norm"]["scale"])[0]))
        return np.full((own.data.entries, 32), made[-1], np.float32)

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(measure, "make_entries", make)
    done, config = {}, training.changed(config, {"loss.scale": 0.0})
    for name in ("two stages", "continued"):
        _, entries = experiment.train_stages(
            config, configs.METHODS[name], start, "nowhere", done
        )
        assert entries[0, 0] == 2, "by the encoder of the first stage"
    assert seen == [("entries", 1.0), ("again", 1.0), ("continued", 2.0)]
    assert made == [1.0, 2.0], "of the start and of the first stage, once each"
    # DefSent without the head of a language model: the start's tokens are the entries.
    own = {k: v for k, v in start.params.items() if k != "head"}
    headless = dataclasses.replace(start, params=own)
    trained, entries = experiment.train_stages(
        config, ("words",), headless, "nowhere", {}
    )
    tokens = start.params["encoder"]["token"]["embedding"]
    np.testing.assert_array_equal(entries, tokens)
    assert np.all(trained["pooler"]["kernel"] == np.eye(32) + 1)


@pytest.mark.experiments
def test_tokens_are_frozen_for_words_only(config, tokenizer):
    for stage, frozen in (("words", True), ("entries", False)):
        changes = {"stage": stage, "optim.warmup_steps": 0, "model.dropout": 0.1}
        own = training.changed(config, changes)
        state = jax.jit(lambda own=own: experiment.init(own))()
        batch = next(experiment.batches(own, 0))
        step = jax.jit(experiment.make_step(own))
        new, values = step(state, batch)
        _, others = step(state.replace(rng=jax.random.key(9)), batch)
        assert others["loss"] != values["loss"], "dropout by the keys of the state"
        change = jax.tree.map(lambda a, b: bool(np.any(a != b)), new, state)
        assert change.params["encoder"]["token"]["embedding"] != frozen
        assert change.params["encoder"]["norm"]["scale"]
        assert not any(jax.tree.leaves(change.frozen))
        assert values["learning_rate"] == pytest.approx(own.optim.learning_rate)
