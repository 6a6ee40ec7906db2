"""Encoders against transformers, and what padding, dropout and poolers do."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import models
from contrastive_jax.models import encoder as encoders
from contrastive_jax.models.pretrained import encoder_names
from contrastive_jax.models.pretrained.encoders import read_model
from tests.models.encoders_reference import CASES, draw

REFERENCE = np.load(pathlib.Path(__file__).with_name("encoders.npz"))
FILE = pathlib.Path("config.json")


def read(name):
    """Kind, module and parameters of a reference, whose tensors have layout's names."""
    config = json.loads(str(REFERENCE[f"{name}/config"]))
    shapes = json.loads(str(REFERENCE[f"{name}/shapes"]))
    tensors = {key: draw(key, shape) for key, shape in shapes.items()}
    kind, model = read_model(config, FILE)
    if kind == "deberta":
        tensors = encoder_names.deberta_v2_tensors(tensors, model.heads)
        kind = "deberta-v2"
    return kind, model, encoder_names.read_params(tensors, model, kind, FILE), tensors


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, tokens, where=None, types=None, keys=None):
    variables = {"params": params}
    return model.apply(variables, tokens, where=where, types=types, keys=keys).last


@pytest.mark.parametrize("name", CASES)
def test_equals_transformers(name):
    _, model, params, _ = read(name)
    where, types = (jnp.asarray(REFERENCE[x]) for x in ("where", "types"))
    types = types if model.num_types == 2 else jnp.zeros_like(types)
    given = where, types if model.num_types else None
    last = apply(model, params["encoder"], jnp.asarray(REFERENCE["tokens"]), *given)
    want = REFERENCE[f"{name}/out"]
    if name == "pairs":
        last = np.asarray(last)
        x = np.tanh(last[:, 0] @ params["pooler"]["kernel"] + params["pooler"]["bias"])
        last = x @ params["classifier"]["kernel"] + params["classifier"]["bias"]
        np.testing.assert_allclose(last, want, atol=2e-5)
        return
    if name == "masked":
        head = jax.tree.map(jnp.asarray, params["head"])
        table = jnp.asarray(params["encoder"]["token"]["embedding"])
        last = models.token_logits(head, table, last)
    np.testing.assert_allclose(last[where], want[REFERENCE["where"]], atol=2e-5)


@pytest.mark.parametrize("name", [n for n in CASES if n != "deberta"])
def test_names_there_and_back(name):
    kind, model, params, tensors = read(name)
    written = encoder_names.write_tensors(params, model, kind)
    assert written.keys() == tensors.keys()
    for key, x in tensors.items():
        np.testing.assert_array_equal(written[key], x)


def test_all_names_that_are_wrong_are_named():
    _, model, _, tensors = read("bert")
    del tensors["embeddings.LayerNorm.bias"]
    del tensors["encoder.layer.1.output.dense.weight"]
    del tensors["pooler.dense.bias"]
    tensors |= {"extra.one": np.zeros(1), "bert.extra.two": np.zeros(1)}
    with pytest.raises(ValueError, match=r"lacks .* and has .* in excess") as raised:
        encoder_names.read_params(tensors, model, "bert", FILE)
    for names in (
        "embeddings.LayerNorm.bias, encoder.layer.1.output.dense.weight, pooler.dense",
        "extra.one, extra.two in excess",
    ):
        assert names in str(raised.value)


def test_log_buckets():
    """Against transformers; without buckets, distances clipped."""
    got = encoders.distance_buckets(24, 24, 8)
    np.testing.assert_array_equal(got, np.clip(REFERENCE["buckets"] + 8, 0, 15))
    assert encoders.distance_buckets(4, 2, 0)[0].tolist() == [2, 1, 0, 0]


@pytest.mark.parametrize("name", ["bert", "deberta_v3"])
def test_a_row_depends_on_itself_only(name):
    _, model, params, _ = read(name)
    tokens, where = REFERENCE["tokens"].copy(), jnp.asarray(REFERENCE["where"])
    types = jnp.zeros_like(where, int) if model.num_types else None

    def run(tokens):
        return apply(model, params["encoder"], jnp.asarray(tokens), where, types)

    first = run(tokens)
    tokens[~where] = 11
    tokens[0] = 5  # a batch mate
    second = run(tokens)
    np.testing.assert_array_equal(first[1:][where[1:]], second[1:][where[1:]])
    short = jnp.asarray(tokens[1:2, :7])
    alone = apply(model, params["encoder"], short)
    np.testing.assert_allclose(first[1, :7], alone[0], atol=2e-6)


def test_dropout_by_keys():
    """Two views differ; a text's view is its own, whoever stands beside it."""
    _, model, params, _ = read("bert")
    tokens = jnp.asarray(REFERENCE["tokens"])
    keys = jax.random.split(jax.random.key(0), 3)
    run = functools.partial(apply, model, params["encoder"])
    one, two = run(tokens, keys=keys), run(tokens, keys=keys[::-1])
    assert np.abs(one[0] - two[0]).max() > 0.1
    swapped = run(tokens[::-1], keys=keys[::-1])
    np.testing.assert_allclose(one, swapped[::-1], atol=1e-6)
    kept = encoders.drop(jnp.ones((3, 4000)), keys, 0.25, 0)
    np.testing.assert_allclose(np.unique(kept), [0, 4 / 3], rtol=1e-6)
    assert abs(float(jnp.mean(kept == 0)) - 0.25) < 0.02
    assert encoders.drop(kept, None, 0.25, 0) is kept
    assert encoders.drop(kept, keys, 0.0, 0) is kept


def test_float32_from_half_weights():
    _, model, params, _ = read("bert")
    half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), params["encoder"])
    whole = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    tokens = jnp.asarray(REFERENCE["tokens"])
    where, types = (jnp.asarray(REFERENCE[x]) for x in ("where", "types"))
    got, want = (apply(model, p, tokens, where, types) for p in (half, whole))
    np.testing.assert_allclose(got, want, atol=1e-6)


STATES = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
WHERE = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], bool)


def test_poolers():
    a, b = STATES[0], STATES[1, :2]
    want = {
        "cls": (a[0], b[0]),
        "mean": (a.sum(0) / 4, b.sum(0) / 2),
        "max": (a.max(0), b.max(0)),
        "sqrt": (a.sum(0) / 2, b.sum(0) / 2**0.5),
        "lasttoken": (a[3], b[1]),
    }
    assert want.keys() == models.POOLERS.keys()
    for name, rows in want.items():
        got = models.POOLERS[name](jnp.asarray(STATES), jnp.asarray(WHERE))
        np.testing.assert_allclose(got[:2], rows, rtol=1e-6)
        if name != "cls":
            assert not got[2].any()
    tokens = jnp.array([[4, 1, 4, 1], [1, 1, 1, 4], [1, 1, 1, 1]])
    got = models.pool_mask(jnp.asarray(STATES), tokens, 4)
    total = models.pool_sum(jnp.asarray(STATES), jnp.asarray(WHERE))
    np.testing.assert_allclose(total, [a.sum(0), b.sum(0), 0 * b[0]], rtol=1e-6)
    mean = (STATES[0, 0] + STATES[0, 2]) / 2
    np.testing.assert_allclose(got, [mean, STATES[1, 3], 0 * mean], rtol=1e-6)


def test_an_empty_text_has_no_gradient():
    for name in ("mean", "max", "sqrt", "lasttoken"):
        grads = jax.grad(
            lambda x, name=name: models.POOLERS[name](x, jnp.asarray(WHERE)).sum()
        )(jnp.asarray(STATES))
        assert np.isfinite(grads).all() and not grads[2].any() and grads[0].any()


def test_last_layers():
    hidden = [jnp.asarray(STATES + i) for i in range(3)]
    both = models.last_layers(hidden, 2)
    np.testing.assert_array_equal(both, np.concatenate([hidden[1], hidden[2]], -1))
    mean = models.last_layers(hidden, 3, combine="mean")
    np.testing.assert_allclose(mean, STATES + 1, rtol=1e-6)
    for k in (0, 4):
        with pytest.raises(ValueError, match="k: expected 1 to 3"):
            models.last_layers(hidden, k)


def test_pooled_layers():
    hidden = [jnp.asarray(STATES * (i + 1)) for i in range(3)]
    got = models.pool_layers(hidden, jnp.asarray(WHERE), k=2)
    want = np.stack([STATES[0, 1:].mean(0), STATES[1, 1], 0 * STATES[1, 1]])
    np.testing.assert_allclose(got, np.concatenate([2 * want, 3 * want], -1), rtol=1e-6)
    options = dict(combine="mean", pooler="max", skip_first=False)
    got = models.pool_layers(hidden, k=3, **options)
    np.testing.assert_allclose(got, 2 * STATES.max(1), rtol=1e-6)
    with pytest.raises(ValueError, match="pooler: expected one of mean, max, sqrt"):
        models.pool_layers(hidden, k=1, pooler="cls")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(heads=3), "heads: expected a divisor of width 8"),
        (dict(dropout=1.0), r"dropout: expected a number in \[0, 1\)"),
        (dict(vocab_size=5), "tokens: expected numbers in"),
    ],
)
def test_what_is_refused(changes, message):
    _, model, _, _ = read("bert")
    tokens = jnp.asarray(REFERENCE["tokens"])
    with pytest.raises(ValueError, match=message):
        model = model.clone(**changes)
        jax.eval_shape(lambda key: model.init(key, tokens), jax.random.key(0))


def test_a_text_that_is_too_long():
    _, model, _, _ = read("bert")
    tokens = jnp.zeros((1, 17), int)
    with pytest.raises(ValueError, match="at most max_length = 16"):
        jax.eval_shape(model.init, jax.random.key(0), tokens)


def test_the_head_at_the_start_knows_nothing():
    head = models.token_head_init(jax.random.key(0), 19, 8)
    scores = models.token_logits(head, jnp.zeros((19, 8)), jnp.ones((2, 3, 8)))
    assert scores.shape == (2, 3, 19) and not scores.any()
