"""Chains and their sorting, marked spans, and measures of detectors."""

from typing import NamedTuple

import numpy as np

from experiments.cdpo import data, measure
from experiments.cdpo.config import get_config


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
