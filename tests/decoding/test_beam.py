"""Beam search against all sequences, greedy search and each row alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import decoding

from .test_loops import HEAD, PROMPTS, U, V, hidden_of, run, start, step
from .test_loops import search as contrastive

LEFT = 4  # tokens that the small tree is made of


def few(out, text):
    """Only the first tokens of the vocabulary."""
    return jnp.where(jnp.arange(V)[None, :] < LEFT, out, -jnp.inf)


def search(prompts=PROMPTS, **options):
    text, state, hidden = start(prompts)
    options = dict(choose=lambda out, text: out, width=3, max_new=7) | options
    return jax.jit(
        lambda: decoding.beam_search(step, state, hidden[:, -1] @ HEAD, text, **options)
    )()


def log_prob(prompt, tokens):
    """Log-probability of a continuation in the small tree."""
    text, total = list(prompt), 0.0
    for token in tokens:
        logits = (hidden_of(text) @ U)[:LEFT]
        total += logits[token] - np.log(np.exp(logits).sum())
        text.append(token)
    return total


def every(prompt, length, stop, penalty):
    """All continuations, best first: whole ones and those that a stop token ends."""
    rated = []
    for count in range(1, length + 1):
        for tokens in itertools.product(range(LEFT), repeat=count):
            ended = tokens[-1] in stop
            if set(tokens[:-1]) & set(stop) or not (ended or count == length):
                continue
            rated.append((log_prob(prompt, tokens) / count**penalty, list(tokens)))
    return sorted(rated, reverse=True)


@pytest.mark.parametrize(
    ("stop", "penalty"), [((), 1.0), ((2,), 0.0), ((2,), 1.0), ((1, 3), 2.0)]
)
def test_as_wide_as_the_tree_it_is_exact(stop, penalty):
    length = 4
    width = LEFT ** (length - 1)
    options = dict(choose=few, width=width, max_new=length, pad=12)
    found = search(stop=stop, length_penalty=penalty, **options)
    for i, prompt in enumerate(PROMPTS):
        for k, (score, tokens) in enumerate(every(prompt, length, stop, penalty)[:5]):
            assert int(found.lengths[i, k]) == len(tokens)
            want = tokens + [12] * (length - len(tokens))
            assert found.tokens[i, k].tolist() == want
            np.testing.assert_allclose(found.scores[i, k], score, rtol=1e-5)


def test_a_traced_penalty_changes_the_winner():
    """Of a few penalties, short and long winners; one program for all."""
    text, state, hidden = start(PROMPTS)
    f = jax.jit(
        lambda penalty: decoding.beam_search(
            step,
            state,
            hidden[:, -1] @ HEAD,
            text,
            choose=few,
            width=4,
            max_new=6,
            stop=(2,),
            length_penalty=penalty,
        )
    )
    lengths = [f(x).lengths[:, 0].sum() for x in (-1.0, 0.0, 3.0)]
    assert lengths[0] <= lengths[1] < lengths[2]


def test_of_width_one_it_is_greedy():
    found, greedy = search(width=1, max_new=9), run()
    np.testing.assert_array_equal(found.tokens[:, 0], greedy.tokens)
    assert found.lengths.tolist() == [[9]] * 3
    # A stop token ends the text where longer ones cannot have a better score.
    last = int(greedy.tokens[0, 1])
    ended = search(PROMPTS[:1], width=1, max_new=9, stop=(last,), length_penalty=0.0)
    assert ended.tokens[0, 0, :2].tolist() == greedy.tokens[0, :2].tolist()
    assert int(ended.lengths[0, 0]) == int(ended.steps) == 2


def test_wider_searches_find_better_texts_and_differ_from_greedy():
    narrow, wide = search(width=1), search(width=6)
    assert (wide.scores[:, 0] >= narrow.scores[:, 0] - 1e-6).all()
    assert not np.array_equal(wide.tokens[:, 0], narrow.tokens[:, 0])
    assert (np.diff(wide.scores, axis=1) <= 0).all()
    texts = {tuple(row) for row in np.asarray(wide.tokens[0]).tolist()}
    assert len(texts) == 6, "no text twice"


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_every_row_is_what_it_is_alone(penalty):
    """Also where the others go on after its end, and rules see its own text."""

    def choose(out, text):
        seen = decoding.seen_tokens(text.tokens, text.where, V)
        return decoding.repetition_penalty(out, seen, 1.5)

    options = dict(choose=choose, stop=(0, 1, 2, 3), length_penalty=penalty)
    together = search(**options)
    steps = []
    for i, prompt in enumerate(PROMPTS):
        alone = search([prompt], **options)
        steps.append(int(alone.steps))
        for got, want in zip(alone[:3], together[:3], strict=True):
            np.testing.assert_allclose(got[0], want[i], rtol=1e-5)
    assert int(together.steps) == max(steps)
    if penalty == 0:
        assert min(steps) < max(steps), "one of them ends early"


def test_fewer_continuations_than_beams():
    """One token may follow: the other beams are none."""
    one = dict(choose=lambda out, text: jnp.where(jnp.arange(V) == 5, out, -jnp.inf))
    found = search(width=2, max_new=3, pad=7, **one)
    assert found.tokens[0].tolist() == [[5, 5, 5], [7, 7, 7]]
    assert found.lengths[0].tolist() == [3, 0]
    assert found.scores[0].tolist() == [0.0, -np.inf]


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("width: expected at least 1, got 0", dict(width=0)),
        ("max_new: expected at least 1", dict(max_new=0)),
        ("length_penalty: expected a finite number", dict(length_penalty=np.nan)),
    ],
)
def test_what_does_not_fit_is_named(message, options):
    with pytest.raises(ValueError, match=message):
        search(**options)


def test_all_loops_decode_the_same_with_64_bit_types():
    want = [search().tokens[:, 0], run().tokens, contrastive().tokens]
    with jax.enable_x64(True):
        got = [search().tokens[:, 0], run().tokens, contrastive().tokens]
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
