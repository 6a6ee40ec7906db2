"""Likelihood through noise: hand arithmetic, quadrature, degenerate noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import ebm

RNG = np.random.default_rng(0)
F_DATA = jnp.asarray(RNG.normal(size=5), jnp.float32)
F_NOISE = jnp.asarray(RNG.normal(size=8), jnp.float32)
LOG_Q = jnp.asarray(-RNG.random(8), jnp.float32)
W = np.exp(np.asarray(F_NOISE - LOG_Q, np.float64))
NOISE = dict(log_q_noise=LOG_Q)


def close(got, want, rtol=1e-5, atol=1e-6):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


def test_plug_in_by_hand(transform):
    run = transform(functools.partial(ebm.importance_nll, reduce_fn=None, **NOISE))
    close(run(F_DATA, F_NOISE), np.log(W.mean()) - np.asarray(F_DATA))


def test_exponential_nce_by_hand(transform):
    log_q_data = jnp.asarray(-RNG.random(5), jnp.float32)
    run = transform(functools.partial(ebm.exponential_nce, reduce_fn=None))
    got = run(F_DATA, F_NOISE, log_q_data=log_q_data, log_q_noise=LOG_Q)
    h = np.asarray(F_DATA - log_q_data)
    close(got, np.exp(-h / 2) / 2 + np.mean(np.sqrt(W)) / 2)


def test_exponential_nce_of_far_gaussians_stays_finite():
    """The distance at which exp(h / 2) leaves float32."""
    x, z = jnp.array([0.0]), jnp.array([-60.0])

    def loss(theta):
        def log_p(x):
            return theta * x - theta**2 / 2 - x**2 / 2

        return ebm.exponential_nce(
            log_p(x), log_p(z), log_q_data=-(x**2) / 2, log_q_noise=-(z**2) / 2
        )

    value, grad = jax.value_and_grad(loss)(-60.0)
    assert np.isfinite(value) and value > 1e20
    close(ebm.normalized_gradient(grad), np.sign(grad))


def test_ema_log_has_the_gradient_of_an_average():
    def average(gamma):
        return jax.grad(lambda a, b: ebm.ema_log(a, b, gamma=gamma), argnums=(0, 1))

    close(average(0.25)(jnp.log(2.0), jnp.log(6.0)), [0.5, 0.5])
    close(average(1.0)(jnp.log(2.0), jnp.log(6.0)), [0.0, 1.0])
    with pytest.raises(ValueError, match=r"^gamma: "):
        ebm.ema_log(jnp.zeros(()), jnp.zeros(()), gamma=1.5)


def test_normalized_gradient_has_length_one_or_zero():
    tree = {"a": jnp.array([3e25, 0.0]), "b": jnp.array(-4e25)}
    close(ebm.normalized_gradient(tree)["a"], [0.6, 0])
    close(ebm.normalized_gradient(tree)["b"], -0.8)
    zero = jax.tree.map(jnp.zeros_like, tree)
    jax.tree.map(np.testing.assert_array_equal, ebm.normalized_gradient(zero), zero)
    assert np.isnan(
        ebm.normalized_gradient({"a": jnp.array([jnp.nan, 1.0])})["a"]
    ).all()


def gaussian_noise(num, std=1.5):
    z = std * jax.random.normal(jax.random.key(0), (num,))
    return z, jax.scipy.stats.norm.logpdf(z, scale=std)


def test_log_mean_estimates_the_normaliser_of_a_gaussian():
    """f = theta x - x^2 / 2: log Z = theta^2 / 2 + log sqrt(2 pi), by quadrature."""
    theta = 0.8
    x = np.linspace(-12, 12, 4001)
    exact = np.log(np.sum(np.exp(theta * x - x**2 / 2)) * (x[1] - x[0]))
    close(exact, theta**2 / 2 + np.log(2 * np.pi) / 2)
    z, log_q = gaussian_noise(20_000)
    log_w, _ = ebm.importance_log_weights(theta * z - z**2 / 2, log_q)
    close(ebm.importance_log_mean(log_w), exact, atol=0.02)


def losses_of(f_data, f_noise, log_q, **options):
    """Both losses, each with its gradients."""
    log_q_data = jnp.zeros_like(f_data)
    for loss, more in (
        (ebm.importance_nll, {}),
        (ebm.exponential_nce, {"log_q_data": log_q_data}),
    ):
        run = functools.partial(loss, log_q_noise=log_q, **more, **options)
        yield jax.value_and_grad(run, argnums=(0, 1))(f_data, f_noise)


def test_noise_of_zero_probability_is_as_if_absent():
    log_q = LOG_Q.at[2].set(-jnp.inf)
    kept = np.delete(np.arange(8), 2)
    for got, want in zip(
        losses_of(F_DATA, F_NOISE, log_q),
        losses_of(F_DATA, F_NOISE[kept], LOG_Q[kept]),
        strict=True,
    ):
        close(got[0], want[0])
        close(got[1][1][kept], want[1][1])
        assert got[1][1][2] == 0
    log_w, where = ebm.importance_log_weights(F_NOISE, log_q)
    close(ebm.importance_log_mean(log_w, where=where), np.log(W[kept].mean()))


def test_a_sample_that_the_model_excludes_has_weight_zero():
    f_noise = F_NOISE.at[2].set(-jnp.inf)
    want = np.log(np.delete(W, 2).sum() / 8)
    close(ebm.importance_log_mean(f_noise - LOG_Q), want)
    for value, grads in losses_of(F_DATA, f_noise, LOG_Q):
        assert np.isfinite(value) and np.isfinite(grads[1]).all()
        assert grads[1][2] == 0


def test_without_noise_that_counts_the_losses_are_zero():
    nothing = jnp.zeros(8, bool)
    for result in (
        losses_of(F_DATA, F_NOISE, LOG_Q, where_noise=nothing),
        losses_of(F_DATA, F_NOISE, jnp.full(8, -jnp.inf)),
        losses_of(F_DATA, F_NOISE, LOG_Q, where=jnp.zeros(5, bool)),
    ):
        for x in jax.tree.leaves(list(result)):
            assert not np.any(x)


def test_one_noise_sample_has_weight_one_in_the_plug_in():
    grad = jax.grad(ebm.importance_nll, argnums=1)(
        F_DATA, F_NOISE[:1], log_q_noise=LOG_Q[:1]
    )
    close(grad, [1.0])
    assert ebm.effective_sample_size(F_NOISE[:1] - LOG_Q[:1]) == 1


def test_noise_narrower_than_the_model_shows_in_the_effective_sample_size():
    """Relative variance exp(theta^2) - 1 for q = N(0, 1): at theta = 3 one in 8,000."""
    z, log_q = gaussian_noise(256, std=1.0)
    sizes = []
    for theta in (0.5, 3.0, 12.0):
        log_w, _ = ebm.importance_log_weights(theta * z - z**2 / 2, log_q)
        sizes.append(float(ebm.effective_sample_size(log_w)))
    close(sizes[0], 256 / np.exp(0.25), rtol=0.1)
    assert sizes[1] < 8 and sizes[2] < 2
