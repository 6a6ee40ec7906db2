"""WhitenedCSE: views whitened by the statistics of a batch, the ablation, whitening."""

import dataclasses

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


@pytest.mark.experiments
def test_the_ablation_is_the_loss_without_whitening():
    """Two views and no whitening are SimCSE; three add a term; groups change it."""
    config = configs.get_config("smoke")
    batch = next(sentence_views.batches(config, 0))
    losses = {}
    for name, changes in experiment.CHANGES.items():
        own = training.changed(config, changes)
        step = jax.jit(experiment.make_step(own))
        losses[name] = float(step(experiment.init(own), batch)[1]["loss"])
    assert losses["simcse"] < losses["three_views"]
    assert len({round(x, 4) for x in losses.values()}) == 4


@pytest.mark.experiments
def test_every_step_draws_other_groups_the_same_on_all_devices():
    config = configs.get_config("smoke")
    batch = next(sentence_views.batches(config, 0))

    def make_step(axis_name=None):
        return experiment.make_step(config, axis_name)

    found = {}
    for devices in (1, 8):
        step = parallel.data_parallel(make_step, "pmap", devices=devices)
        for number in (0, 1):
            state = experiment.init(config)
            state = dataclasses.replace(state, step=jnp.asarray(number))
            found[devices, number] = float(step(state, batch)[1]["loss"])
    np.testing.assert_allclose(found[1, 0], found[8, 0], rtol=1e-4)
    assert abs(found[1, 0] - found[1, 1]) > 1e-3
