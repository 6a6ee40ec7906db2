"""Transformer towers: published parameter counts, masks, pooling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import models


def count(tree):
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))


def test_parameters_of_the_published_model():
    """The released ViT-B/32 has 151,277,313 with its temperature, at 77 tokens."""
    image = dict(tower="vit", patch=32, width=768, depth=12, heads=12)
    text = dict(width=512, depth=12, heads=8)
    model = models.make_towers(
        image, text, dim=512, vocabulary=49_408, dtype=jnp.float32
    )
    shapes = jnp.zeros((1, 224, 224, 3)), jnp.zeros((1, 77), jnp.int32)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), *shapes))
    assert count(variables) + 1 == 151_277_313


def tower(**settings):
    model = models.TextTower(9, width=8, depth=1, heads=2, **settings)
    rows = jnp.array([[3, 4, 5, 2, 0, 0]])
    params = model.init(jax.random.key(0), rows, train=False)
    return lambda x: np.asarray(model.apply(params, jnp.asarray(x), train=False))[0]


@pytest.mark.parametrize("pool, causal", [("end", True), ("mean", False)])
def test_padding_is_seen_by_nobody(pool, causal):
    model = models.TextTower(9, 8, 1, 2, causal=causal, pool=pool)
    rows = jnp.array([[3, 4, 2, 0, 0, 0]])
    apply = jax.jit(functools.partial(model.apply, train=False))
    params = jax.jit(functools.partial(model.init, train=False))(
        jax.random.key(0), rows
    )
    want = apply(params, rows)
    inner = params["params"]["Transformer_0"]
    table = inner["token"]["embedding"]
    inner["token"]["embedding"] = table.at[0].multiply(-50.0)  # of padding
    np.testing.assert_array_equal(apply(params, rows), want)
    inner["token"]["embedding"] = table.at[3].multiply(-50.0)  # of a word
    assert np.abs(apply(params, rows) - want).max() > 1e-4
    inner["token"]["embedding"] = table
    inner["position"] = inner["position"][:3]
    np.testing.assert_allclose(apply(params, rows[:, :3]), want, atol=1e-6)


def test_causal_ends_see_all_and_starts_see_themselves():
    """With "end" first in the row, later tokens matter only without the mask."""
    one, other = [[2, 4, 5, 6, 0, 0]], [[2, 7, 8, 3, 0, 0]]
    assert np.abs(tower(causal=True)(one) - tower(causal=True)(other)).max() == 0
    assert np.abs(tower(causal=False)(one) - tower(causal=False)(other)).max() > 1e-4


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="patch: images of 30 x 30 do not split"):
        models.Vit(8, 16, 1, 2).init(
            jax.random.key(0), jnp.zeros((1, 30, 30, 3)), train=False
        )
    with pytest.raises(ValueError, match=r"model.image.norm: batch normalization"):
        models.make_towers(
            dict(tower="resnet", norm="batch"), {}, dim=4, vocabulary=9, dtype="float32"
        )
    with pytest.raises(ValueError, match=r"model.image.tower: expected resnet or vit"):
        models.make_towers(dict(tower="cnn"), {}, dim=4, vocabulary=9, dtype="float32")
