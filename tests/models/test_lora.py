"""Adapters: nothing at first, then exactly what they are for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import models


@pytest.fixture(scope="module")
def base():
    model = models.Decoder(vocab_size=5, width=8, depth=3, heads=2, mlp_width=8)
    tokens = jnp.zeros((1, 2), jnp.int32)
    return jax.jit(model.init)(jax.random.key(0), tokens)["params"]


def test_which_kernels_have_factors(base):
    factors = models.lora_init(jax.random.key(1), base, rank=2, targets="mlp", blocks=2)
    layers = [f"block_{i}/{x}/kernel" for i in (1, 2) for x in ("down", "gate_up")]
    assert sorted(factors) == layers
    own = factors["block_1/gate_up/kernel"]
    assert own["down"].shape == (8, 2) and own["up"].shape == (2, 16)
    assert len(models.lora_init(jax.random.key(1), base, rank=2)) == 3 * 4


def test_adapters_change_nothing_at_first_and_then_only_their_kernels(base):
    factors = models.lora_init(jax.random.key(1), base, rank=2, targets="mlp", blocks=2)
    merged = models.lora_merge(base, factors, scale=2.0)
    jax.tree.map(np.testing.assert_array_equal, merged, base)
    merged = models.lora_merge(base, jax.tree.map(jnp.ones_like, factors), scale=2.0)
    want = base["block_1"]["down"]["kernel"] + 4.0  # 2 x the sum of two products
    np.testing.assert_allclose(merged["block_1"]["down"]["kernel"], want, rtol=1e-6)
    same = jax.tree.map(lambda x, y: bool((x == y).all()), merged, base)
    leaves = jax.tree_util.tree_leaves_with_path(same)
    moved = ["/".join(key.key for key in path) for path, x in leaves if not x]
    assert sorted(moved) == sorted(factors)


def test_gradients_go_to_the_factors(base):
    """Of a kernel k + s d u, with gradient g: that of u is s d^T g, that of d 0."""
    name = "block_2/down/kernel"
    factors = models.lora_init(jax.random.key(1), base, rank=2)

    def loss(factors):
        merged = models.lora_merge(base, factors, scale=0.5)
        return jnp.sum(merged["block_2"]["down"]["kernel"])

    grads = jax.grad(loss)(factors)
    ones = np.ones(base["block_2"]["down"]["kernel"].shape)
    want = 0.5 * np.asarray(factors[name]["down"]).T @ ones
    np.testing.assert_allclose(grads[name]["up"], want, rtol=1e-5)
    np.testing.assert_array_equal(grads[name]["down"], 0)


def test_half_precision_stays(base):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), base)
    factors = models.lora_init(jax.random.key(1), half, rank=1)
    assert {x.dtype.name for x in jax.tree.leaves(factors)} == {"float32"}
    merged = models.lora_merge(half, factors)
    assert {x.dtype.name for x in jax.tree.leaves(merged)} == {"bfloat16"}


def test_wrong_settings_are_refused(base):
    rng = jax.random.key(0)
    with pytest.raises(ValueError, match="rank, blocks: expected 1 or more"):
        models.lora_init(rng, base, rank=0)
    with pytest.raises(ValueError, match="rank, blocks: expected 1 or more"):
        models.lora_init(rng, base, rank=1, blocks=0)
    with pytest.raises(ValueError, match="targets: expected one of"):
        models.lora_init(rng, base, rank=1, targets="heads")
    with pytest.raises(ValueError, match="params: expected kernels"):
        models.lora_init(rng, {"embed": base["embed"]}, rank=1)
    factors = models.lora_init(rng, base, rank=1)
    with pytest.raises(ValueError, match="factors: no kernels"):
        models.lora_merge({"embed": base["embed"]}, factors)
