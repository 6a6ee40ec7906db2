"""WhitenedCSE: views whitened by the statistics of a batch, the ablation, whitening."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import parallel, training
from contrastive_jax.tasks import sentence_views
from experiments.whitenedcse import config as configs
from experiments.whitenedcse import experiment
from tests.language import bert_by_sizes as stand_in  # noqa: F401


def test_whitened_after_all_has_the_identity_as_covariance():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)) + 3
    x = jnp.asarray(x, jnp.float32)
    mean, matrix = jax.device_get(experiment.fit_whitening(x, 0.0))
    y = (np.asarray(x) - mean) @ matrix
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(y.T @ y / len(y), np.eye(6), atol=1e-3)


def loss_step(config, axis_name=None):
    """The step without its gradient: the state as it was, and the loss."""
    step = experiment.make_step(config, axis_name)
    return lambda state, batch: (state, {"loss": step(state, batch)[1]["loss"]})


@pytest.mark.experiments
def test_the_ablation_is_the_loss_without_whitening():
    """Two views and no whitening are SimCSE; three add a term; groups change it."""
    config = configs.get_config("smoke")
    batch = next(sentence_views.batches(config, 0))
    steps = {
        name: loss_step(training.changed(config, changes))
        for name, changes in experiment.CHANGES.items()
    }

    @jax.jit
    def every(state, batch):
        return {name: step(state, batch)[1]["loss"] for name, step in steps.items()}

    losses = jax.device_get(every(experiment.init(config), batch))
    assert losses["simcse"] < losses["three_views"]
    assert len({round(float(x), 4) for x in losses.values()}) == 4


@pytest.mark.experiments
def test_every_step_draws_other_groups_the_same_on_all_devices():
    config = configs.get_config("smoke")
    batch = next(sentence_views.batches(config, 0))
    make_step, found = functools.partial(loss_step, config), {}
    start = experiment.init(config)
    for devices in (1, 8):
        step = parallel.data_parallel(make_step, "pmap", devices=devices)
        for number in (0, 1):
            state = jax.tree.map(jnp.copy, start)  # a step consumes its state
            state = dataclasses.replace(state, step=jnp.asarray(number))
            found[devices, number] = float(step(state, batch)[1]["loss"])
    np.testing.assert_allclose(found[1, 0], found[8, 0], rtol=1e-4)
    assert abs(found[1, 0] - found[1, 1]) > 1e-3
