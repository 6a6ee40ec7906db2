"""SimCTG's data and measures, on a model small enough to check by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from contrastive_jax.data import packaged
from experiments.simctg import config as configs
from experiments.simctg import data, experiment, measure
from tests.language import word_model

WORDS = ("<pad>", *"abcdefg")
SETTINGS = FrozenConfigDict(
    dict(k=3, alpha=0.6, beams=2, top_k=2, top_p=0.5, new_tokens=6)
)
PROMPTS = np.array([[1, 2, 3], [4, 4, 5]], np.int32)


@pytest.fixture(scope="module")
def language():
    return word_model(WORDS, width=16, depth=2, mlp_width=16)


def test_signs_are_written_as_in_print():
    words = ["He", "said", ":", ":", "``", "no", ",", "(", "50", "%", ")", "''", "."]
    assert data.written(words) == 'He said: "no, (50%)".'


def test_rows_hold_every_token_once_and_are_padded(language):
    name = "synthetic"
    encoder = data.vocabulary(name, 64)
    rows = data.cut(name, "test", 7, encoder)
    assert rows["tokens"].shape[1] == 8 and rows["where"].sum(axis=1).min() > 1
    (text,) = data.texts(name)["test"]
    left = rows["tokens"][rows["where"]].tolist()
    assert encoder.decode(left) in text and len(text) - len(encoder.decode(left)) < 8
    assert not rows["tokens"][~rows["where"]].any()
    with pytest.raises(packaged.DataMissing, match=r"^data.name: expected brown"):
        data.texts("no such text")


def test_passages_are_prompts_with_what_follows():
    config = configs.get_config("smoke")
    encoder = data.tokenizer(config)

    def encode(text):
        return np.asarray(encoder.encode(text).ids, np.int32)

    prompts, real = data.passages(config, encode, config.eval.trained)
    assert prompts.shape == (16, 7) and real.shape == (16, 10)
    (text,) = data.texts("synthetic")["test"]
    for row in np.concatenate([prompts, real], axis=1):
        assert encoder.decode(row.tolist()) in text
    again, _ = data.passages(config, encode, config.eval.trained)
    np.testing.assert_array_equal(prompts, again)
    config.seed = 1
    assert np.any(data.passages(config, encode, config.eval.trained)[0] != prompts)


def test_own_files_are_a_text_a_line(tmp_path):
    for split in data.SPLITS:
        (tmp_path / f"{split}.txt").write_text(f"one {split}\ntwo\n")
    found = data.texts(f"{tmp_path}/{{split}}.txt")
    assert found["test"] == ["one test", "two"]


@pytest.mark.experiments
def test_rules_are_what_they_are_called(language):
    texts = {
        rule: measure.decode(language, PROMPTS, rule, SETTINGS, 0)
        for rule in configs.RULES
    }
    for rule, found in texts.items():
        assert found.tokens.shape == (2, 6), rule
    alone = measure.decode(language, PROMPTS, "contrastive", SETTINGS, 0, alpha=0.0)
    np.testing.assert_array_equal(alone.tokens, texts["greedy"].tokens)
    sums = {rule: found.log_probs.sum(axis=1) for rule, found in texts.items()}
    assert (sums["beam"] >= sums["greedy"] - 1e-5).all()
    again = measure.decode(language, PROMPTS, "top_p", SETTINGS, 0)
    np.testing.assert_array_equal(again.tokens, texts["top_p"].tokens)


def test_what_a_model_sees_by_hand(language):
    tokens = np.array([[5, 6, 5, 6], [1, 1, 2, 7]], np.int32)
    found = measure.judge(language, PROMPTS, tokens)
    whole = jnp.concatenate([PROMPTS, tokens], axis=1)
    last = language.model.apply(language.variables, whole).last
    logits = language.model.apply(language.variables, last, method="logits")
    hidden = np.asarray(last)
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    units = hidden / np.linalg.norm(hidden, axis=-1, keepdims=True)
    for i in range(2):
        for t in range(4):
            at = 3 + t
            want = log_probs[i, at - 1, tokens[i, t]]
            np.testing.assert_allclose(found.log_probs[i, t], want, rtol=1e-4)
            nearest = max(units[i, at] @ units[i, s] for s in range(at))
            np.testing.assert_allclose(found.penalties[i, t], nearest, rtol=1e-4)
    np.testing.assert_allclose(found.features, hidden[:, 3:].mean(axis=1), rtol=1e-4)


def test_perplexity_and_isotropy_of_padded_rows(language):
    where = np.arange(6)[None, :] < np.array([[6], [4], [2]])
    tokens = np.where(where, 3, 0).astype(np.int32)
    tokens[0] = [1, 2, 3, 4, 5, 6]
    perplexity, isotropy = measure.read(language, {"tokens": tokens, "where": where})
    nats, total, pairs = [], 0.0, 0
    for row, mask in zip(tokens, where, strict=True):
        read, row = jnp.asarray(row[:-1][mask[:-1]][None]), row[mask]
        last = language.model.apply(language.variables, read).last
        logits = language.model.apply(language.variables, last, method="logits")[0]
        log_probs = np.asarray(jax.nn.log_softmax(logits))
        nats += (-log_probs[np.arange(len(row) - 1), row[1:]]).tolist()
        # The last token of a padded row is read, too.
        units = np.asarray(last[0])
        units = units / np.linalg.norm(units, axis=-1, keepdims=True)
        cosines = units @ units.T
        total += cosines.sum() - np.trace(cosines)
        pairs += len(units) * (len(units) - 1)
    np.testing.assert_allclose(perplexity, np.exp(np.mean(nats)), rtol=1e-4)
    np.testing.assert_allclose(isotropy[-1], 1 - total / pairs, rtol=1e-4)
    assert len(isotropy) == 3  # embeddings, the first block, the last one normalized


@pytest.mark.experiments
def test_the_margin_is_the_ablation():
    """Its step is the likelihood's; with a margin the loss has a second part."""
    config = configs.get_config("smoke")
    batch = next(experiment.batches(config, 0))
    losses = {}
    for name, changes in experiment.METHODS.items():
        own = ConfigDict(config.to_dict())
        own.update_from_flattened_dict(changes)
        _, losses[name] = jax.jit(experiment.make_step(own))(
            experiment.init(own), batch
        )
    assert losses["mle"]["cl"] < 1e-6 < losses["simctg"]["cl"]
    np.testing.assert_allclose(losses["mle"]["loss"], losses["simctg"]["mle"])
