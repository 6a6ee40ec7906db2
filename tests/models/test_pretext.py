"""The head of pretext tasks: pieces, and dropout by example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import models
from contrastive_jax.models import pretext

X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 9, 4)), jnp.float32)
HEAD = models.PretextHead((5, 8, 35))


def test_pieces_share_a_layer_and_meet_behind_it():
    params = HEAD.init(jax.random.key(0), X, train=False)["params"]
    shapes = [params[f"Dense_{i}"]["kernel"].shape for i in range(3)]
    assert shapes == [(4, 5), (45, 8), (8, 35)]
    got = HEAD.apply({"params": params}, X, train=False)
    w = jax.tree.map(np.asarray, params)
    h = np.maximum(np.asarray(X) @ w["Dense_0"]["kernel"] + w["Dense_0"]["bias"], 0)
    h = h.reshape(6, 45) @ w["Dense_1"]["kernel"] + w["Dense_1"]["bias"]
    want = np.maximum(h, 0) @ w["Dense_2"]["kernel"] + w["Dense_2"]["bias"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"^rng: expected a key for each example"):
        HEAD.apply({"params": params}, X, train=True)


def test_dropout_depends_on_the_example_alone():
    rng = jax.random.split(jax.random.key(1), 400)
    x = jnp.ones((400, 50))
    dropped = jax.jit(pretext.dropout, static_argnums=2)
    whole = np.asarray(dropped(rng, x, 0.2))
    assert set(np.unique(whole)) == {0.0, np.float32(1.25)}
    assert abs((whole == 0).mean() - 0.2) < 0.01
    assert len(np.unique(whole, axis=0)) > 390
    np.testing.assert_array_equal(dropped(rng[100:300], x[:200], 0.2), whole[100:300])
