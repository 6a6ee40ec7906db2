"""MECO: hand arithmetic, the likelihood's gradient, degenerate noise, devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from contrastive_jax import ebm, parallel
from contrastive_jax.methods import meco
from tests.ebm.test_importance import gaussian_noise
from tests.losses.cases import Case
from tests.losses.cases_ebm import BOTH, UNPAIRED, unpaired

CASES = {
    "meco": Case(
        meco.meco, UNPAIRED, unpaired, BOTH, options={"log_u": 0.3}, where="n"
    ),
}
HELPERS = ("MecoState", "meco_init", "meco_update")

RNG = np.random.default_rng(0)
F_DATA = jnp.asarray(RNG.normal(size=5), jnp.float32)
F_NOISE = jnp.asarray(RNG.normal(size=8), jnp.float32)
LOG_Q = jnp.asarray(-RNG.random(8), jnp.float32)
W = np.exp(np.asarray(F_NOISE - LOG_Q, np.float64))
NOISE = dict(log_q_noise=LOG_Q)


def close(got, want, rtol=1e-5, atol=1e-6):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


def estimate(log_means, gamma, prev=None):
    """log u after every batch."""
    state, log_us = meco.meco_init(), []
    for i, log_mean in enumerate(log_means):
        before = None if prev is None else jnp.asarray(prev[i])
        state = meco.meco_update(
            state, jnp.asarray(log_mean), gamma=gamma, log_mean_prev=before
        )
        log_us.append(float(state.log_u))
    return np.array(log_us)


def test_meco_by_hand_with_its_gradient(transform):
    log_u = 0.7

    def loss(f_data, f_noise):
        return meco.meco(f_data, f_noise, log_u=log_u, **NOISE)

    value, grads = transform(jax.value_and_grad(loss, argnums=(0, 1)))(F_DATA, F_NOISE)
    close(value, log_u + W.mean() / np.exp(log_u) - 1 - F_DATA.mean())
    close(grads[0], -np.ones(5) / 5)
    close(grads[1], W / np.exp(log_u) / 8)


def test_meco_at_the_mean_of_the_batch_is_the_plug_in():
    log_u = ebm.importance_log_mean(F_NOISE - LOG_Q)
    both = [
        jax.value_and_grad(f, argnums=(0, 1))(F_DATA, F_NOISE)
        for f in (
            functools.partial(meco.meco, log_u=log_u, **NOISE),
            functools.partial(ebm.importance_nll, **NOISE),
        )
    ]
    jax.tree.map(close, *both)
    # Elsewhere it lies above: log x <= x - 1.
    for log_u in (-1.0, 3.0):
        assert meco.meco(F_DATA, F_NOISE, log_u=log_u, **NOISE) > both[1][0] + 0.01


def test_weights_are_capped_where_asked():
    def loss(f_noise, cap):
        return meco.meco(F_DATA, f_noise, log_u=0.0, max_weight=cap, **NOISE)

    cap = float(np.sort(W)[5])
    grad = jax.grad(loss)(F_NOISE, cap * 1.0001)
    close(grad, np.minimum(W, cap) / 8, rtol=1e-3)
    assert (W > 1.01 * cap).any()
    with pytest.raises(ValueError, match=r"^max_weight: "):
        loss(F_NOISE, 0.0)


def test_moving_average_in_the_log_domain():
    values = np.array([2.0, 6.0, 1.0, 40.0])
    for shift in (0.0, 2e3):
        got = estimate(np.log(values) + shift, gamma=0.25) - shift
        u = values[0]
        want = []
        for x in values:
            u = 0.75 * u + 0.25 * x
            want.append(np.log(u))
        close(got, want, rtol=1e-3)
    close(estimate(np.log(values), gamma=1.0), np.log(values))
    close(estimate(np.log(values), gamma=0.0), np.log([2.0] * 4))


def test_storm_by_hand_and_its_floor():
    values, prev, gamma = (
        np.array([2.0, 3.0, 3.5, 1.0]),
        np.array([1, 2.5, 3, 9.0]),
        0.4,
    )
    u, want = values[0], [np.log(2.0)]
    for x, y in zip(values[1:], prev[1:], strict=True):
        u = max(x + (1 - gamma) * (u - y), gamma * x)
        want.append(np.log(u))
    assert want[-1] == np.log(gamma)  # the last would be negative
    close(estimate(np.log(values), gamma, np.log(prev)), want)


def test_gradient_of_meco_is_that_of_the_likelihood():
    """d/dtheta of -m theta + log Z is theta - m; the noise is a large sample."""
    z, log_q = gaussian_noise(40_000)
    x = jnp.array([2.0])
    log_z = 0.8**2 / 2 + np.log(2 * np.pi) / 2

    def loss(theta):
        f = [theta * y - y**2 / 2 for y in (x, z)]
        return meco.meco(*f, log_q_noise=log_q, log_u=log_z)

    close(jax.grad(loss)(0.8), 0.8 - 2.0, atol=0.03)


def value_and_grads(f_data, f_noise, log_q, **options):
    run = functools.partial(meco.meco, log_q_noise=log_q, log_u=0.5, **options)
    return jax.value_and_grad(run, argnums=(0, 1))(f_data, f_noise)


def test_noise_of_zero_probability_is_as_if_absent():
    left = np.delete(np.arange(8), 2)
    got = value_and_grads(F_DATA, F_NOISE, LOG_Q.at[2].set(-jnp.inf))
    want = value_and_grads(F_DATA, F_NOISE[left], LOG_Q[left])
    close(got[0], want[0])
    close(got[1][1][left], want[1][1])
    assert got[1][1][2] == 0


def test_a_sample_that_the_model_excludes_has_weight_zero():
    value, grads = value_and_grads(F_DATA, F_NOISE.at[2].set(-jnp.inf), LOG_Q)
    assert np.isfinite(value) and np.isfinite(grads[1]).all()
    assert grads[1][2] == 0


def test_without_noise_that_counts_the_loss_is_zero_and_the_estimate_stays():
    nothing = jnp.zeros(8, bool)
    for result in (
        value_and_grads(F_DATA, F_NOISE, LOG_Q, where_noise=nothing),
        value_and_grads(F_DATA, F_NOISE, jnp.full(8, -jnp.inf)),
        value_and_grads(F_DATA, F_NOISE, LOG_Q, where=jnp.zeros(5, bool)),
    ):
        for x in jax.tree.leaves(result):
            assert not np.any(x)
    masked = ebm.importance_log_mean(F_NOISE, where=nothing)
    state = meco.meco_update(meco.meco_init(), jnp.log(3.0), gamma=0.5)
    for log_mean in (masked, jnp.array(-jnp.inf)):
        unchanged = meco.meco_update(state, log_mean, gamma=0.5)
        assert unchanged.log_u == state.log_u and unchanged.step == 1
        fresh = meco.meco_update(meco.meco_init(), log_mean, gamma=0.5)
        assert fresh.step == 0
    assert np.isnan(meco.meco_update(state, jnp.array(jnp.nan), gamma=0.5).log_u)


def normaliser(f_noise, log_q, axis_name, masked):
    """Three updates of the estimate, with loss and gradient, as a step makes them."""
    state, outputs = meco.meco_init(), []
    where = f_noise < (1.2 if masked else np.inf)

    for scale in (1.0, 30.0, 100.0):

        def loss(scale, before=state):
            f = scale * f_noise
            log_w, counts = ebm.importance_log_weights(f, log_q, where=where)
            log_mean = parallel.log_mean_exp(log_w, axis_name, where=counts)
            after = meco.meco_update(before, log_mean, gamma=0.3)
            value = meco.meco(f, f, log_q_noise=log_q, log_u=after.log_u)
            return value, after

        run = parallel.value_and_grad(loss, axis_name, has_aux=True)
        (value, state), grad = run(jnp.array(scale))
        outputs += [value, grad]
    return state.log_u, outputs


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("mapper", ["pmap", "shard_map"])
def test_normaliser_on_eight_devices_is_that_of_one(mapper, masked):
    f = jnp.asarray(RNG.normal(size=32), jnp.float32)
    log_q = jnp.asarray(-RNG.random(32), jnp.float32)
    if masked:  # not the same number on every device
        assert 0 < np.sum(f >= 1.2) < 32
        log_q = log_q.at[5].set(-jnp.inf)
    want = normaliser(f, log_q, None, masked)
    run = functools.partial(normaliser, axis_name="data", masked=masked)
    if mapper == "pmap":
        got = jax.pmap(run, "data")(f.reshape(8, 4), log_q.reshape(8, 4))
    else:
        mapped = jax.shard_map(
            lambda *x: jax.tree.map(lambda a: a[None], run(*x)),
            mesh=parallel.make_mesh(jax.devices()),
            in_specs=PartitionSpec("data"),
            out_specs=PartitionSpec("data"),
            check_vma=False,
        )
        got = jax.jit(mapped)(f, log_q)
    log_u = np.asarray(got[0])
    assert len(log_u) == 8 and np.all(log_u == log_u[0])  # the same bits
    close(log_u[0], want[0])
    if not masked:  # the loss asks for equally many samples on every device
        for a, b in zip(got[1], want[1], strict=True):
            close(a, np.full(8, b), rtol=1e-4)


@pytest.mark.parametrize("offset", [1e4, 2.0**23])
def test_a_common_offset_costs_no_digits(offset):
    data, noise = jnp.round(F_DATA * 4), jnp.round(F_NOISE * 4)
    want = meco.meco(data, noise, log_u=1.0, **NOISE)
    got = meco.meco(data + offset, noise + offset, log_u=1.0 + offset, **NOISE)
    close(got, want)
