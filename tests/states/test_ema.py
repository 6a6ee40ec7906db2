"""Moving averages of trees and the half cosine of their decay."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastive_jax import states


def test_closed_form(transform):
    target = {"w": jnp.array([1.0, 2.0]), "b": jnp.array(0.0)}
    online = {"w": jnp.array([3.0, 2.0]), "b": jnp.array(1.0)}
    got = transform(lambda t, o: states.ema_update(t, o, decay=0.9))(target, online)
    np.testing.assert_allclose(got["w"], [0.9 * 1 + 0.1 * 3, 2.0], rtol=1e-6)
    np.testing.assert_allclose(got["b"], 0.1, rtol=1e-6)


def test_equals_optax():
    old, new = (jax.random.normal(jax.random.key(i), (5, 3)) for i in range(2))
    want = optax.incremental_update(new, old, step_size=0.25)
    np.testing.assert_allclose(states.ema_update(old, new, decay=0.75), want, rtol=1e-6)


@pytest.mark.parametrize("decay, source", [(1.0, 0), (0.0, 1)])
def test_ends_are_exact(decay, source):
    trees = [jax.random.normal(jax.random.key(i), (7,)) for i in range(2)]
    got = states.ema_update(*trees, decay=decay)
    np.testing.assert_array_equal(got, trees[source])


def test_other_leaves_are_copied():
    old = {"step": jnp.int32(3), "rng": jax.random.key(0), "on": jnp.array(False)}
    new = {"step": jnp.int32(8), "rng": jax.random.key(1), "on": jnp.array(True)}
    got = states.ema_update(old, new, decay=0.9)
    assert got["step"] == 8 and got["step"].dtype == jnp.int32 and got["on"]
    assert jnp.all(jax.random.key_data(got["rng"]) == jax.random.key_data(new["rng"]))


def test_half_precision_is_averaged_wide_and_comes_back_wide():
    old, new = jnp.full(4, 1.0, jnp.bfloat16), jnp.full(4, 3.0, jnp.float32)
    got = states.ema_update(old, new, decay=0.5)
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, 2.0)


def test_no_gradient():
    def value(pair):
        return jnp.sum(states.ema_update(*pair, decay=0.5))

    grads = jax.grad(value)((jnp.ones(3), jnp.ones(3)))
    assert all(jnp.all(g == 0) for g in grads)


def test_traced_decay():
    got = jax.jit(lambda m: states.ema_update(jnp.zeros(1), jnp.ones(1), decay=m))(0.25)
    np.testing.assert_allclose(got, 0.75)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"online\['w'\]: expected shape \[2\]"):
        states.ema_update({"w": jnp.ones(2)}, {"w": jnp.ones(3)}, decay=0.5)
    with pytest.raises(ValueError, match="online: expected the structure"):
        states.ema_update({"w": jnp.ones(2)}, {"v": jnp.ones(2)}, decay=0.5)
    with pytest.raises(ValueError, match=r"decay: expected a number in \[0, 1\]"):
        states.ema_update(jnp.ones(2), jnp.ones(2), decay=1.5)


def test_cosine_decay_is_byol_and_moco_v3():
    base, progress = 0.996, np.linspace(0, 1, 11)
    byol = 1 - (1 - base) * (np.cos(np.pi * progress) + 1) / 2
    moco = 1 - 0.5 * (1 + np.cos(np.pi * progress)) * (1 - base)
    got = states.ema_schedule(jnp.asarray(progress, jnp.float32), base=base)
    np.testing.assert_allclose(got, byol, rtol=1e-6)
    np.testing.assert_allclose(got, moco, rtol=1e-6)


def test_cosine_decay_between_any_two_values():
    got = states.ema_schedule(jnp.array([0.0, 0.5, 1.0]), base=0.04, final=0.4)
    np.testing.assert_allclose(got, [0.04, 0.22, 0.4], rtol=1e-5)


@pytest.mark.parametrize("warm", [0, 1, 4, 9])
def test_cosine_schedule_is_dinos(transform, warm):
    line = np.linspace(0.2, 1.0, warm)
    rest = np.arange(9 - warm)
    curve = 0.1 + 0.5 * 0.9 * (1 + np.cos(np.pi * rest / max(len(rest), 1)))
    call = transform(
        lambda step: states.cosine_schedule(
            step, num_steps=9, base=1.0, final=0.1, warmup_steps=warm, start=0.2
        )
    )
    want = np.concatenate([line, curve])
    np.testing.assert_allclose(call(jnp.arange(9)), want, rtol=1e-5)
    np.testing.assert_allclose(call(jnp.array(8)), want[8], rtol=1e-5)
    with pytest.raises(ValueError, match="warmup_steps: expected 0 to 3"):
        states.cosine_schedule(0, num_steps=3, base=1.0, warmup_steps=4)


def test_cosine_decay_stays_at_its_ends():
    got = states.ema_schedule(jnp.array([-1.0, 2.0]), base=0.5)
    np.testing.assert_allclose(got, [0.5, 1.0])
