"""Experts spread over eight devices give value and gradient of one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from contrastive_jax import models, parallel

DEVICES, E, B, T, D, H = 8, 16, 16, 3, 4, 6
RNG = np.random.default_rng(0)
AXIS = "data"


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


PARAMS = {
    "up": {"kernel": normal(E, D, H), "bias": normal(E, H)},
    "down": {"kernel": normal(E, H, D), "bias": normal(E, D)},
}
X, GATE, COTANGENT = normal(B, T, D), normal(D, E), normal(B, T, D)
TEXTS = jnp.asarray(RNG.integers(E, size=B))


def enforced(params, x, gate, texts, axis_name=None):
    y = models.moe_enforced(params, x, texts, models.gelu_expert, axis_name=axis_name)
    return y, texts


def switch(params, x, gate, texts, axis_name=None):
    options = dict(axis_name=axis_name)
    return models.moe_sentence_switch(params, x, gate, models.gelu_expert, **options)


def sentence(params, x, gate, texts, axis_name=None):
    options = dict(top_k=3, axis_name=axis_name)
    return models.moe_sentence_top_k(params, x, gate, models.gelu_expert, **options)


def token(params, x, gate, texts, axis_name=None):
    options = dict(top_k=2, axis_name=axis_name)
    return models.moe_token_top_k(params, x, gate, models.gelu_expert, **options)


def whole(layer, run):
    """Value, router's scores, and gradients of experts, states and router."""

    def total(params, x, gate):
        y, logits = run(params, x, gate, TEXTS)
        return jnp.sum(COTANGENT * y), (y, logits)

    grad = jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))
    return grad(PARAMS, X, GATE)


@pytest.mark.parametrize("layer", [enforced, switch, sentence, token])
def test_eight_devices_equal_one(layer):
    mesh = parallel.make_mesh(parallel.choose_devices(DEVICES))
    split, same = PartitionSpec(AXIS), PartitionSpec()
    spread = jax.shard_map(
        functools.partial(layer, axis_name=AXIS),
        mesh=mesh,
        in_specs=(split, split, same, split),
        out_specs=split,
    )
    got, want = whole(layer, spread), whole(layer, layer)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
    grads = want[1][0]["up"]["kernel"]
    assert np.any(grads) and grads.shape[0] == E


def test_each_device_holds_its_own_experts():
    """An expert's output does not depend on the parameters of other devices."""
    run = jax.vmap(
        functools.partial(parallel.spread_experts, lambda w, x: w * x, axis_name=AXIS),
        axis_name=AXIS,
    )
    factors = jnp.array([[1.0, 2.0], [3.0, 4.0]])  # two devices, two experts each
    x = jnp.array([[[1.0]], [[10.0]]])  # a row each
    weights = jnp.array([[[0.0, 0.0, 1.0, 0.0]], [[0.5, 0.0, 0.0, 0.5]]])
    np.testing.assert_allclose(run(factors, x, weights)[..., 0], [[3.0], [25.0]])


def test_wrong_numbers_of_experts_are_named(without_type_hooks):
    with pytest.raises(ValueError, match=r"^weights: expected 16 columns \(the exp"):
        parallel.spread_experts(models.gelu_expert, PARAMS, X[0], jnp.ones((3, 4)))
