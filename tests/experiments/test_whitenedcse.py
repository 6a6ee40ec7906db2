"""WhitenedCSE: views whitened by the statistics of a batch, the ablation, whitening."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import training
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
def test_views_whitening_and_groups_without_dropout():
    """All views are one; a further view adds a term, a step draws other groups."""
    config = configs.get_config("smoke")
    config.model.dropout = 0.0
    batch = jax.tree.map(jnp.asarray, next(sentence_views.batches(config, 0)))
    steps = {
        name: experiment.make_step(training.changed(config, changes))
        for name, changes in experiment.CHANGES.items()
    }

    @jax.jit
    def losses(state):
        """Of every method, without the gradients."""
        return {name: step(state, batch)[1]["loss"] for name, step in steps.items()}

    state = experiment.init(config)
    first, second = (
        losses(dataclasses.replace(state, step=jnp.asarray(step))) for step in (0, 1)
    )
    np.testing.assert_allclose(first["three_views"], 2 * first["simcse"], rtol=1e-5)
    for name in ("simcse", "three_views", "one_group"):
        np.testing.assert_allclose(first[name], second[name], rtol=1e-4)
    assert abs(first["whitenedcse"] - second["whitenedcse"]) > 1e-3
    for name in ("three_views", "one_group"):
        assert abs(first["whitenedcse"] - first[name]) > 1e-3
