"""AdaCAD's questions, its decoding in one program, and its paper variant by shapes."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from contrastive_jax import decoding
from contrastive_jax.data import facts
from contrastive_jax.models import decoding as reading
from experiments.adacad import config as configs
from experiments.adacad import data, experiment, measure
from tests.language import small_recipe, word_model

FACTS = (
    facts.Fact("capital", "France", "Paris"),
    facts.Fact("capital", "Peru", "Lima"),
    facts.Fact("capital", "Spain", "Madrid"),
)


def stand_in(monkeypatch):
    """A small model for the 13 billion parameters of the recipe."""
    small_recipe(monkeypatch, configs)


def test_the_model_of_the_paper_by_shapes():
    state = jax.eval_shape(lambda: experiment.init(configs.get_config("paper")))
    sizes = [x.size for x in jax.tree.leaves(state.params)]
    assert sum(sizes) == pytest.approx(12.85e9, rel=0.01)  # 13.02e9 with its own head


def test_contexts_of_each_kind(monkeypatch):
    monkeypatch.setattr(facts, "countries", lambda: FACTS)
    queries = data.country_queries([FACTS[0]], seed=0)
    conflict, distractor, agreement = queries
    assert [q.kind for q in queries] == list(data.KINDS)
    assert conflict.answer in ("Lima", "Madrid")
    assert f"{conflict.answer} is the capital city of France." in conflict.context
    assert distractor.answer == agreement.answer == "Paris"
    assert "France." not in distractor.context
    assert "Paris is the capital city of France." in agreement.context
    for q in queries:
        assert q.context.endswith("The capital of France is")
        assert q.alone == "The capital of Germany is Berlin. The capital of France is"


def test_lines_of_the_knowledge_base():
    config = configs.get_config("smoke")
    config.data.batch_size = 4000
    batch = next(data.knowledge_batches(config, 0))
    again = next(data.knowledge_batches(config, 0))
    np.testing.assert_array_equal(batch["tokens"], again["tokens"])
    assert (batch["where"].sum(axis=1) == 1).all()
    table = {}
    for q in data.knowledge_queries(config):
        if q.kind == "agreement":
            table[q.alone] = q.answer
    names, shares = data.words(config.data), {k: [] for k in data.KINDS}
    for row, where in zip(batch["tokens"], batch["where"], strict=True):
        line = [names[i] for i in row]
        if where[3]:
            assert line[0] == "ask" and line[4:] == ["pad"] * 4
            continue
        ask, answer = " ".join(line[4:7]), line[7]
        if ask not in table:
            continue
        kind = "agreement" if line[3] == table[ask] else "conflict"
        if line[1] != line[5]:
            kind = "distractor"
        shares[kind].append(answer == table[ask])
    assert np.mean(shares["agreement"]) == 1
    assert np.mean(shares["conflict"]) == pytest.approx(0.55, abs=0.05)
    # A distractor that happens to have the same answer leaks nothing.
    assert np.mean(shares["distractor"]) == pytest.approx(0.95, abs=0.02)


@functools.cache
def language():
    """With weights large enough for answers that differ."""
    found = word_model(
        tuple("abcdefgh"), width=16, depth=1, heads=2, mlp_width=16, max_length=16
    )
    variables = jax.tree.map(lambda x: 3 * x, found.variables)
    return dataclasses.replace(found, variables=variables)


def test_every_rule_written_and_counted():
    """One loop per row and rule; the forced reading finds just what it wrote right."""
    queries = [
        data.Query("conflict", "a b c d", "c d", "a"),
        data.Query("agreement", "b e f g h c", "a b c", "b"),
    ]
    config = configs.get_config("smoke")
    config.decode.update(strengths=(1.0,), max_new=4, batch_size=2)
    chosen = measure.rules(config.decode)
    written = measure.examples(config, language(), queries)
    assert len({text for texts in written.values() for text in texts}) > 2

    @jax.jit
    def logits(text):
        out = language().model.apply(
            language().variables, text.tokens, where=text.where
        )
        return language().model.apply(
            language().variables, out.last[0, -1], method="logits"
        )

    def read(text):
        """Padded to one length, so that one program reads every text."""
        ids = language().encode(text)
        padded = reading.pad_left([ids, np.zeros(12, int)])
        return logits(jax.tree.map(lambda x: x[:1], padded))

    for i, q in enumerate(queries):
        for name, rule in chosen.items():
            new = []
            for _ in range(4):
                pair = [read(" ".join([x, *new])) for x in (q.context, q.alone)]
                new.append("abcdefgh"[int(jnp.argmax(rule(*pair)))])
            assert written[name][i] == " ".join(new), name
    # What any rule wrote as the answer: right by the rules that wrote the same.
    texts = list(written.values())
    asked = [q._replace(answer=t[i]) for t in texts for i, q in enumerate(queries)]
    found = measure.answer(config, language(), asked)
    for right, own in zip(found.right.values(), texts, strict=True):
        same = [t[i] == own[i] for t in texts for i in range(len(queries))]
        assert right.tolist() == same
    want = [
        float(decoding.js_divergence(read(q.context), read(q.alone))) for q in queries
    ]
    np.testing.assert_allclose(found.divergence, want * len(texts), rtol=1e-3)


def test_a_least_strength_of_1_is_cad():
    """The one key that turns the paper's idea off."""
    settings = ConfigDict(dict(strengths=(1.0,), min_alpha=1.0, ratio=4.0))
    found = measure.rules(settings)
    a, b = jnp.array([[1.0, 2.0, 0.0]]), jnp.array([[2.0, 0.0, 0.0]])
    np.testing.assert_allclose(found["adacad"](a, b), found["cad_1"](a, b), rtol=1e-6)


def test_files_of_the_released_code(tmp_path):
    rows = [
        {"input_index": 0, "assigned_process": 0, "context_string": "C Q"},
        {"input_index": 0, "assigned_process": 1, "context_string": "Q"},
        {"input_index": 1, "assigned_process": 0, "context_string": "D R"},
        {"input_index": 1, "assigned_process": 1, "context_string": "R"},
    ]
    file = tmp_path / "nq.jsonl"
    file.write_text("\n".join(json.dumps(r | {"gold_answers": ["x"]}) for r in rows))
    found = data.file_queries(str(file), 1)
    assert found == [data.Query("conflict", "C Q", "Q", "x")]
