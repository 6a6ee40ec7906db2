"""Chains and their sorting, marked spans, and measures of detectors."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.methods import cdpo
from contrastive_jax.report import page as page_module
from contrastive_jax.tasks import language_models
from contrastive_jax.training import metrics
from experiments.cdpo import data, experiment, measure, report
from experiments.cdpo.config import get_config
from tests.language import word_model


def test_a_trace_has_the_value_after_every_operation():
    config = get_config("smoke")
    chains = data.draw(config, data.TEST, 50)
    k = config.data.operations
    for prompt, trace in zip(*chains, strict=True):
        text = "".join(data.VOCABULARY[t] for t in prompt)
        value = int(text[0])
        for i in range(k):
            sign, digit = text[2 * i + 1 : 2 * i + 3]
            value = eval(f"{value} {sign} {digit}") % 10
            assert trace[i] == value
        assert text.endswith("=") and trace[k:].tolist() == [14, value, 15]
    other = data.draw(config, data.ASK, 50)
    assert not np.array_equal(chains.prompts, other.prompts)


def trace(*values):
    return [*values, data.ANSWER, values[-1], data.END]


def test_sorting_follows_the_answers():
    """Right: 5. Wrong: 7 three times, 8 twice, 9 once, and one without an answer."""
    chains = data.Chains(np.array([[1, 10, 4, 13]]), np.array([trace(5)]))
    broken = [5, 5, 5, 5]
    own = [trace(x) for x in (9, 7, 5, 8, 7, 8, 7)] + [broken]
    sets = measure.sort(chains, np.array([own]))
    assert sets.positive[:, 4].tolist() == [5] and sets.positive[:, :4].tolist() == [
        [1, 10, 4, 13]
    ]
    # Three of the six wrong ones are half.
    assert sets.negative[:, 4].tolist() == [7]
    assert sets.chosen[:, 4].tolist() == [5] and sets.rejected[:, 4].tolist() == [7]
    # Answers given once: one of them is taken.
    sets = measure.sort(chains, np.array([[trace(x) for x in (1, 2, 3)]]))
    assert sets.negative[:, 4].tolist() == [1]
    assert sets.positive.size == sets.chosen.size == 0


def test_a_spoiled_chain_has_one_digit_wrong_in_its_trace():
    config = get_config("smoke")
    chosen, rejected = data.spoiled(config)
    wrong = chosen != rejected
    assert (wrong.sum(axis=1) == 1).all()
    assert (wrong[:, 1:] & ~data.response(config, chosen)).sum() == 0
    np.testing.assert_array_equal(measure.first_wrong(rejected, chosen), wrong[:, 1:])


class Encoding(NamedTuple):
    ids: list[int]
    offsets: list[tuple[int, int]]


def by_letter(text):
    spans = [(i, i + 1) for i in range(len(text))]
    return Encoding([ord(c) for c in text], spans)


def test_spans_of_characters_become_labels():
    texts = [("ab", "cdef", (1, 3)), ("a", "bcdefgh", (5, 7)), ("abcdef", "g", (0, 1))]
    got = data.sequences(texts, 5, by_letter)
    assert got.tokens[0].tolist() == [97, 98, 99, 100, 101]
    # Label j is token j + 1; the response of the first text begins at token 2.
    assert got.response.tolist() == [[0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]]
    assert got.critical.tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert data.number_in("C(10, 5), or equivalently 252") == "252"
    assert data.number_in("2^(n-1)") is None


def test_localization_by_hand():
    response = np.array([[False, True, True, True]] * 2)
    critical = np.array([[False, True, False, False], [False, False, True, False]])
    scores = np.array([[9.0, 0.8, 0.5, 0.1], [9.0, 0.9, 0.6, 0.2]])
    got = measure.localization({"x": scores}, critical, response)
    # Of the pairs (critical, other) 6 of 8 are in order.
    assert got == {"auc/x": 6 / 8, "first/x": 0.5}


def small_champ_config():
    """Three solutions, scored two at a time, by a small decoder."""
    config = get_config("champ")
    sizes = dict(width=8, depth=1, heads=2, kv_heads=2, mlp_width=8)
    config.model.update(**sizes, vocab_size=5, max_length=8, tied=True)
    config.eval.rows = 2
    return config


def test_detectors_are_those_of_the_whole_logits():
    config = small_champ_config()
    model = experiment.make_model(config)
    names = ("base", "positive", "negative")
    base = language_models.init_params(model, jax.random.key(0))
    weights = {
        name: jax.tree.map(lambda x, i=i: (1 + i) * x, base)
        for i, name in enumerate(names)
    }
    tokens = np.array([[0, 1, 2, 3], [4, 3, 2, 1], [1, 1, 4, 0]], np.int32)
    got = measure.detectors(config, model, weights, tokens)
    read, labels = jnp.asarray(tokens[:, :-1]), jnp.asarray(tokens[:, 1:])

    @jax.jit
    def logits(params):
        variables = {"params": params}
        last = model.apply(variables, read).last
        return model.apply(variables, last, method="logits")

    base, positive, negative = (logits(weights[name]) for name in names)

    def log_p(x):
        x = jax.nn.log_softmax(x)
        return jnp.take_along_axis(x, labels[..., None], axis=-1)[..., 0]

    want = {
        "contrast": 1 - cdpo.contrastive_estimation_score(positive, negative, labels),
        "probability": 1 - jnp.exp(log_p(base)),
        "log_ratio": log_p(negative) - log_p(positive),
    }
    assert got.keys() == want.keys() == report.DETECTORS.keys()
    for name, x in want.items():
        np.testing.assert_allclose(got[name], x, atol=1e-5, err_msg=name)


def test_report_of_marked_solutions(tmp_path, monkeypatch):
    """A map of a marked step with its tokens as text, areas, curves of both models."""
    monkeypatch.setattr(page_module, "DPI", 30)
    language = word_model(("?", "so", "$1$", "a\nb", "=2"), width=8, depth=1, heads=2)
    tokens = np.array([[1, 2, 3, 4, 1, 2, 3, 4]] * 2, np.int32)
    response = np.array([[False, False, True, True, True, True, True]] * 2)
    critical = response & (np.arange(7) > 4)[None]
    marked = data.Solutions(tokens, response, critical)
    scores = dict.fromkeys(report.DETECTORS, np.linspace(0, 1, 14).reshape(2, 7))
    figure = report.text_map(scores["contrast"][0], marked, 0, language)
    texts = [x.get_text() for x in figure.axes[0].texts]
    assert texts == ["=2", "so", r"\$1\$", "a/b", "=2"]
    assert len(figure.axes[0].patches) == 2  # the critical ones
    for side in ("positive", "negative"):
        (tmp_path / side).mkdir()
        lines = [json.dumps({"step": i, "loss": 1.0 / i}) for i in (1, 2)]
        (tmp_path / side / metrics.FILE).write_text("\n".join(lines))
    results = measure.localization(scores, critical, response)
    results |= {"first/chance": 0.4, "solutions": 2}
    champ = data.Champ(marked, marked, marked)
    config = small_champ_config()
    report.write_champ(tmp_path, "cDPO", config, results, champ, scores, language)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2 + 2 + 2
    assert "0.400 are critical" in page
