"""The 1-D problem of MECO: the claims of its README, on exact and sampled losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import parallel
from experiments.meco import data, experiment, measure, model
from tests.experiments import common


def steps(method, m, max_steps=5000):
    """Steps of a descent, and its last distance to the optimum."""
    name, rate, normalize = measure.DESCENTS[method]
    with jax.enable_x64(True):
        count, path = measure.descend(
            name, m, learning_rate=rate, normalize=normalize, max_steps=max_steps
        )
        return int(count), abs(float(path[count, 0]) - m)


def test_midpoint_rule_integrates_a_gaussian():
    x, area = data.square_grid(60, 6.0)
    total = area * jnp.sum(jnp.exp(-jnp.sum(x**2, axis=1) / 2))
    np.testing.assert_allclose(total, 2 * np.pi, rtol=1e-5)
    with pytest.raises(ValueError, match=r"^cells: "):
        data.square_grid(0, 1.0)


def test_likelihood_descends_quickly_from_any_distance():
    found = [steps("MLE, GD 0.1", m)[0] for m in (2.0, 4.0, 8.0, 16.0)]
    assert found == [36, 42, 49, 55]  # the least t with m 0.9^t < 0.05


@pytest.mark.experiments
def test_nce_stalls_where_likelihood_does_not():
    count, error = steps("NCE, GD 1.0", 8.0)
    assert count == 5000 and error > 2
    count, error = steps("NCE, GD 1.0", 16.0)
    assert count == 5000 and error > 1


def test_exponential_nce_is_three_times_faster_with_normalised_gradients():
    exponential, _ = steps("eNCE, NGD 0.1", 8.0)
    logistic, _ = steps("NCE, NGD 0.1", 8.0)
    assert 3 * exponential <= logistic < 5000


def test_population_losses_are_exact_at_2001_points(x64):
    at = {"theta": jnp.array(3.0), "c": jnp.array(5.0)}
    for name in ("nce", "ence", "mle"):
        coarse, fine = (
            jax.jit(
                functools.partial(model.population_loss, name, data_mean=8.0, num=num)
            )(at)
            for num in (2001, 40_001)
        )
        np.testing.assert_allclose(coarse, fine, rtol=1e-9)
    with pytest.raises(ValueError, match=r"^name: "):
        model.population_loss("kl", at, data_mean=8.0)


def test_exponential_nce_has_its_closed_form(x64):
    """exp(c/2 - theta m/2 + theta^2/8) / 2 + exp(-c/2 + theta^2/8) / 2."""
    m, theta, c = 4.0, 1.5, 0.7
    at = {"theta": jnp.array(theta), "c": jnp.array(c)}
    a = np.exp(c / 2 - theta * m / 2 + theta**2 / 8) / 2
    b = np.exp(-c / 2 + theta**2 / 8) / 2
    loss = functools.partial(model.population_loss, "ence", data_mean=m)
    value, grad = jax.jit(jax.value_and_grad(loss))(at)
    np.testing.assert_allclose(value, a + b, rtol=1e-9)
    want = a * (theta / 4 - m / 2) + b * theta / 4
    np.testing.assert_allclose(grad["theta"], want, rtol=1e-9)
    np.testing.assert_allclose(grad["c"], (a - b) / 2, rtol=1e-9)


def last_error(name, learning_rate, data_mean=2.0, noise_std=1.0):
    """Mean squared error after 1,000 steps over 20 seeds, and the sample sizes."""
    errors, sizes = measure.mean_squared_error(
        jax.random.key(0),
        20,
        name,
        data_mean=data_mean,
        noise_std=noise_std,
        learning_rate=learning_rate,
    )
    return errors[:, -1].mean(), sizes


@pytest.mark.experiments
def test_running_estimate_beats_plug_in_and_nce_at_one_step_size():
    meco, _ = last_error("meco", 0.05)
    assert meco <= last_error("plug-in", 0.05)[0] / 5
    assert meco <= last_error("nce", 0.05)[0] / 10


@pytest.mark.experiments
def test_narrow_noise_is_warned_of_by_the_effective_sample_size():
    """Gap 3 with q = N(0, 1): long stretches below 2, which wide noise never has."""
    _, narrow = last_error("meco", 0.05, data_mean=3.0)
    _, wide = last_error("meco", 0.05, data_mean=4.0, noise_std=3.0)
    assert np.mean(narrow < 2) > 5 * max(np.mean(wide < 2), 1e-3)


def test_noise_integrates_to_one_and_samples_its_density():
    noise = data.fit_noise("moons", False, 3, 2.0)
    x = jnp.linspace(-8, 8, 161)
    grid = jnp.stack(jnp.meshgrid(x, x), axis=-1).reshape(-1, 2)
    total = jnp.sum(jnp.exp(noise.log_density(grid))) * 0.1**2
    np.testing.assert_allclose(total, 1.0, atol=1e-3)
    drawn = noise.sample(jax.random.split(jax.random.key(0), 4000))
    mean = np.exp(noise.log_weights) @ noise.means
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.1)


def test_points_of_images_stay_within_their_level():
    image = jnp.array([0, 16, 128, 255], jnp.uint8).reshape(1, 2, 2, 1)
    whole = jnp.round(image.astype(jnp.float32) * 16 / 255)
    for keys in (None, jax.random.split(jax.random.key(0), 1)):
        x = data.to_points(image, "digits", keys)
        np.testing.assert_array_equal(jnp.floor(data.to_image(x) * 17), whole)


def test_storm_evaluates_the_noise_under_the_parameters_before():
    """After two steps: the estimate by hand from the states in between."""
    config_module, _ = common.load("meco")
    config = config_module.get_config("smoke")
    config.loss.estimator = "storm"
    config.optim.update(name="sgd", learning_rate=0.5)
    step = jax.jit(experiment.make_step(config))
    source = experiment.batches(config, 0)
    first, _ = step(experiment.init(config), next(source))
    second, _ = step(first, next(source))
    for a, b in zip(
        jax.tree.leaves(second.previous), jax.tree.leaves(first.params), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    keys = parallel.example_keys(first.rng, first.step, config.data.batch_size, None)
    z = data.make_noise(config).sample(jax.vmap(jax.random.split)(keys)[:, 1])
    log_ratio = experiment.make_log_ratio(config)
    now, before = (
        np.exp(log_ratio(params, z)).mean() for params in (first.params, first.previous)
    )
    u = now + (1 - config.loss.gamma) * (np.exp(first.inner.log_u) - before)
    assert abs(now - before) > 1e-3
    np.testing.assert_allclose(np.exp(second.inner.log_u), u, rtol=1e-5)
