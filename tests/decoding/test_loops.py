"""The loops against plain Python ones, on a toy model given by two matrices.

hidden_t = tanh(E[x_t] + mean over s <= t of E[x_s] / 2),  logits = hidden_t U
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import decoding

V, D, SLOTS = 13, 6, 24
RNG = np.random.default_rng(4)
E, U = RNG.normal(size=(V, D)), RNG.normal(size=(D, V))
EMBED, HEAD = jnp.asarray(E, jnp.float32), jnp.asarray(U, jnp.float32)
PROMPTS = ([5, 1, 7], [2], [9, 9, 0, 4])


def hidden_of(text):
    """Last hidden state of a text, in numpy."""
    rows = E[list(text)]
    return np.tanh(rows[-1] + rows.mean(axis=0) / 2)


# The state is (sum of embeddings, count), one each per row.


def branch(state, tokens):
    total, count = state
    new = EMBED[tokens]
    sums = total[:, None] + new
    return jnp.tanh(new + sums / (count + 1)[:, None, None] / 2), sums


def keep(state, sums, choice):
    return sums[jnp.arange(len(sums)), choice], state[1] + 1


def step(state, token):
    found, sums = branch(state, token[:, None])
    return keep(state, sums, jnp.zeros_like(token)), found[:, 0] @ HEAD


def start(prompts):
    """Text, state and hidden states after the prompts."""
    longest = max(map(len, prompts))
    tokens = np.zeros((len(prompts), longest), np.int32)
    where = np.zeros(tokens.shape, bool)
    hidden = np.full((*tokens.shape, D), 7.0)  # garbage at padding
    for i, row in enumerate(prompts):
        tokens[i, longest - len(row) :] = row
        where[i, longest - len(row) :] = True
        for t in range(len(row)):
            hidden[i, longest - len(row) + t] = hidden_of(row[: t + 1])
    text = decoding.Text(jnp.asarray(tokens), jnp.asarray(where))
    total = jnp.asarray([E[row].sum(axis=0) for row in prompts], jnp.float32)
    count = jnp.asarray([len(row) for row in prompts], jnp.float32)
    return text, (total, count), jnp.asarray(hidden, jnp.float32)


def run(prompts=PROMPTS, **options):
    text, state, hidden = start(prompts)
    out = hidden[:, -1] @ HEAD
    options = dict(choose=lambda out, text: out, max_new=9) | options
    return jax.jit(lambda: decoding.generate(step, state, out, text, **options))()


def search(prompts=PROMPTS, **options):
    text, state, hidden = start(prompts)
    reader = decoding.Reader(branch, keep, lambda h: h @ HEAD)
    options = dict(k=4, alpha=0.6, max_new=9) | options
    return jax.jit(
        lambda: decoding.contrastive_search(reader, state, hidden, text, **options)
    )()


def searched(prompt, k, alpha, count):
    """Contrastive search of one text, as the equation says it."""
    text = list(prompt)
    for _ in range(count):
        before = [hidden_of(text[: t + 1]) for t in range(len(text))]
        logits = before[-1] @ U
        p = np.exp(logits) / np.exp(logits).sum()
        best, token = -np.inf, None
        for v in np.argsort(-p)[:k]:
            h = hidden_of([*text, v])
            cosines = [h @ g / np.linalg.norm(h) / np.linalg.norm(g) for g in before]
            score = (1 - alpha) * p[v] - alpha * max(cosines)
            if score > best:
                best, token = score, int(v)
        text.append(token)
    return text[len(prompt) :]


def test_greedy_and_its_end():
    found = run()
    for row, prompt in zip(np.asarray(found.tokens), PROMPTS, strict=True):
        text = list(prompt)
        for _ in range(9):
            text.append(int(np.argmax(hidden_of(text) @ U)))
        assert row.tolist() == text[len(prompt) :]
    assert found.lengths.tolist() == [9, 9, 9] and int(found.steps) == 9
    # The second token of the first text ends texts.
    last = int(found.tokens[0, 1])
    ended = run(stop=(last,), pad=12)
    for old, new, length in zip(found.tokens, ended.tokens, ended.lengths, strict=True):
        old = np.asarray(old)
        where = np.flatnonzero(old == last)
        count = int(where[0]) + 1 if len(where) else 9
        assert int(length) == count
        assert new[:count].tolist() == old[:count].tolist()
        assert (np.asarray(new[count:]) == 12).all()
    alone = run(PROMPTS[:1], stop=(last,))
    assert int(alone.steps) == int(alone.lengths[0]) < 9, "the loop ends early"


def test_every_row_is_what_it_is_alone():
    keys = jax.random.split(jax.random.key(3), 3)
    for f, options in [(run, dict(keys=keys)), (search, {})]:
        together = f(**options)
        for i, prompt in enumerate(PROMPTS):
            alone = {k: v[i : i + 1] for k, v in options.items()}
            got = f([prompt], **alone)
            assert got.tokens[0].tolist() == together.tokens[i].tolist()


def test_drawn_tokens_have_their_share():
    text, state, hidden = start([PROMPTS[0]] * 4000)
    out, keys = hidden[:, -1] @ HEAD, jax.random.split(jax.random.key(0), 4000)
    found = decoding.generate(
        step, state, out, text, choose=lambda out, text: out, max_new=1, keys=keys
    )
    share = np.bincount(np.asarray(found.tokens[:, 0]), minlength=V) / 4000
    p = np.asarray(jax.nn.softmax(out[0]))
    assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / 4000) + 1e-9).all()


def test_rules_see_the_text_and_two_streams():
    """A rule that forbids what was there, over twice the same model."""

    def choose(out, text):
        seen = decoding.seen_tokens(text.tokens, text.where, V)
        return jnp.where(seen, -jnp.inf, decoding.context_aware(*out, alpha=0.5))

    text, state, hidden = start(PROMPTS)
    out = hidden[:, -1] @ HEAD
    found = decoding.generate(
        decoding.two_streams(step, step),
        (state, state),
        (out, out),
        text,
        choose=choose,
        max_new=8,
    )
    for row, prompt in zip(np.asarray(found.tokens), PROMPTS, strict=True):
        whole = [*prompt, *row.tolist()]
        assert len(set(row.tolist())) == 8 and not set(row) & set(prompt), whole


@pytest.mark.parametrize(("k", "alpha"), [(4, 0.6), (3, 1.0), (5, 0.0), (1, 0.6)])
def test_contrastive_search(k, alpha):
    found = search(k=k, alpha=alpha)
    for row, prompt in zip(found.tokens, PROMPTS, strict=True):
        assert row.tolist() == searched(prompt, k, alpha, 9)
    if k == 1 or alpha == 0:
        np.testing.assert_array_equal(found.tokens, run().tokens)


def test_contrastive_search_ends():
    found = search()
    last = int(found.tokens[0, 2])
    ended = search(stop=(last,), pad=11)
    count = int(ended.lengths[0])
    assert count <= 3 and (np.asarray(ended.tokens[0, count:]) == 11).all()
    assert ended.tokens[0, :count].tolist() == found.tokens[0, :count].tolist()


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("max_new: expected at least 1", lambda: run(max_new=0)),
        ("k: expected 1 to 13", lambda: search(k=14)),
        ("alpha: expected a number in", lambda: search(alpha=1.5)),
        (
            "padding on the left",
            lambda: decoding.generate(
                step,
                None,
                None,
                decoding.Text(jnp.array([[1, 0]]), jnp.array([[True, False]])),
                choose=lambda out, text: out,
                max_new=1,
            ),
        ),
    ],
)
def test_what_does_not_fit_is_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()
