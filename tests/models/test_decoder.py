"""Decoders: shapes, caches, padding, branches, and a Llama by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import models
from contrastive_jax.models import decoder

SMALL = dict(vocab_size=11, width=16, depth=2, heads=4, mlp_width=24, max_length=32)
LLAMA = models.Decoder(**SMALL, kv_heads=2, tied=False)
GPT2 = models.Decoder(
    **SMALL, norm="layer", positions="learned", gated=False, use_bias=True
)
KINDS = {"llama": LLAMA, "gpt2": GPT2}
ROWS = ([3, 1, 4, 1, 5, 9], [2, 6])

# The Llama in every session, both with --experiments.
each_kind = pytest.mark.parametrize(
    "kind", ["llama", pytest.param("gpt2", marks=pytest.mark.experiments)]
)


@functools.cache
def ready(kind):
    """A model, its variables with every leaf random, and its three functions."""
    model = KINDS[kind]
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 2), int), method=logits)
    )
    rng = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), x.dtype), variables
    )

    def apply(name, *args):
        return model.apply(variables, *args, method=name)

    prefill = jax.jit(lambda x, w: apply("prefill", x, w, 12))
    return model, variables, prefill, jax.jit(functools.partial(apply, "branch"))


def make_alone(kind):
    """Last and hidden states of one text at its last token, in one program."""
    model, variables, _, _ = ready(kind)
    run = jax.jit(lambda x: model.apply(variables, x))

    def alone(text):
        # What stands behind does not matter (the test of later tokens).
        out = run(jnp.asarray([[*text, *[0] * (10 - len(text))]]))
        return jax.tree.map(lambda x: x[0, len(text) - 1], out)

    return alone


def logits(model, tokens):
    return model.logits(model(tokens).last)


def padded():
    prompt = models.decoding.pad_left(ROWS)
    return prompt.tokens, prompt.where


@each_kind
def test_padding_and_cache_give_what_the_text_alone_gives(kind):
    _, _, prefill, branch = ready(kind)
    alone = make_alone(kind)
    out, cache = prefill(*padded())
    assert int(cache.length) == 6 and cache.where.sum(axis=1).tolist() == [6, 2]
    new = jnp.array([[7, 8, 0], [10, 8, 1]])
    beside, steps = branch(new, cache)
    choice = jnp.array([2, 1])
    again = jnp.array([[4, 4, 4]] * 2)  # one program for both steps
    after, _ = branch(again, decoder.keep(cache, steps, choice))
    for i, row in enumerate(ROWS):
        close(out.last[i, -1], alone(row).last)
        for k in range(3):
            close(beside.last[i, k], alone([*row, int(new[i, k])]).last)
        want = alone([*row, int(new[i, choice[i]]), 4])
        close(after.last[i, 0], want.last)
        for here, there in zip(after.hidden, want.hidden, strict=True):
            close(here[i, 0], there)


def close(got, want):
    np.testing.assert_allclose(got, want, atol=1e-5)


@each_kind
def test_a_token_sees_no_later_one(kind):
    model, variables, _, _ = ready(kind)
    run = jax.jit(lambda x: model.apply(variables, x).last)
    a, b = (run(jnp.array([x])) for x in ([3, 1, 4, 1], [3, 1, 4, 9]))
    np.testing.assert_allclose(a[:, :3], b[:, :3], atol=1e-6)
    assert np.abs(a[:, 3] - b[:, 3]).max() > 1e-2


def test_a_llama_by_hand():
    """Two tokens, one block, in numpy: RMS norms, rotation, grouped queries, SwiGLU."""
    model = models.Decoder(
        vocab_size=5, width=8, depth=1, heads=4, kv_heads=2, mlp_width=6, max_length=4
    )
    tokens = jnp.array([[3, 1]])
    variables = model.init(jax.random.key(2), tokens, method=logits)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])
    block = p["block_0"]

    def norm(x, scale):
        return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-5) * scale

    def rotate(x, t):  # width 2: one pair, of speed 1
        c, s = np.cos(t), np.sin(t)
        return np.stack([x[0] * c - x[1] * s, x[1] * c + x[0] * s])

    x = p["embed"]["embedding"][[3, 1]]
    qkv = norm(x, block["norm_1"]["scale"]) @ block["attention"]["qkv"]["kernel"]
    q, k, v = qkv[:, :8].reshape(2, 4, 2), qkv[:, 8:12], qkv[:, 12:]
    k, v = k.reshape(2, 2, 2), v.reshape(2, 2, 2)
    mixed = np.zeros((2, 4, 2))
    for t in range(2):
        for head in range(4):
            group = head // 2
            scores = np.array(
                [
                    rotate(q[t, head], t) @ rotate(k[s, group], s) / np.sqrt(2)
                    for s in range(t + 1)
                ]
            )
            shares = np.exp(scores) / np.exp(scores).sum()
            mixed[t, head] = shares @ v[: t + 1, group]
    x = x + mixed.reshape(2, 8) @ block["attention"]["out"]["kernel"]
    y = norm(x, block["norm_2"]["scale"]) @ block["gate_up"]["kernel"]
    gate, up = y[:, :6], y[:, 6:]
    x = x + (gate / (1 + np.exp(-gate)) * up) @ block["down"]["kernel"]
    want = norm(x, p["norm"]["scale"]) @ p["embed"]["embedding"].T
    got = model.apply(variables, tokens, method=logits)
    np.testing.assert_allclose(got[0], want, rtol=1e-4, atol=1e-6)


@each_kind
def test_bfloat16_is_near(kind):
    model, variables, _, _ = ready(kind)
    tokens = jnp.array([ROWS[0]])
    want = model.apply(variables, tokens, method=logits)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), variables)
    got = model.clone(dtype=jnp.bfloat16).apply(half, tokens, method=logits)
    assert got.dtype == jnp.float32
    assert np.abs(got - want).max() < 0.05 * np.abs(want).max()


def test_early_logits_of_the_last_block_are_the_logits():
    model, variables, _, _ = ready("llama")
    out = model.apply(variables, jnp.array([ROWS[0]]))
    early = model.apply(variables, out.hidden[-1], method="early_logits")
    np.testing.assert_allclose(
        early, model.apply(variables, out.last, method="logits"), atol=1e-5
    )


def test_what_does_not_fit_is_named():
    model, variables, _, _ = ready("llama")
    for message, options in [
        ("heads: expected a divisor of width", dict(heads=3)),
    ]:
        with pytest.raises(ValueError, match=message):
            model.clone(**options).init(jax.random.key(0), jnp.zeros((1, 1), int))
    with pytest.raises(ValueError, match=r"slots: expected 6 .* to 32 .*, got 4"):
        model.apply(variables, *padded(), 4, method="prefill")
    with pytest.raises(ValueError, match=r"tokens: expected numbers in \[0, 11\)"):
        model.apply(variables, jnp.array([[11]]))
    with pytest.raises(ValueError, match="at most max_length = 32"):
        model.apply(variables, jnp.zeros((1, 33), int))
    with pytest.raises(ValueError, match="rows: expected prompts of a token or more"):
        models.decoding.pad_left([[1], []])
