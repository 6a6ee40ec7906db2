"""AMCL: the plain hosts are the losses that they claim to be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses, similarity, training
from contrastive_jax.methods import moco
from contrastive_jax.tasks import images
from contrastive_jax.training import checkpoint
from experiments.amcl import config as configs
from experiments.amcl import experiment


def test_what_is_compared():
    config = configs.get_config()
    methods = experiment.methods(config)
    assert len(methods) == 2 * (2 + 4) + 2 + 3
    plain, adapted = methods["moco_plain_5"], methods["moco_amcl_5"]
    assert plain["model.heads"] == 1 and not plain["model.adaptive"]
    assert adapted == {"loss.host": "moco", "augmentations": "abcde"}
    one = training.config.changed(config, methods["simclr_amcl_1"])
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(32, 32, 3)), jnp.float32)
    gray = jnp.broadcast_to(image[..., :1], image.shape)
    augment, again = experiment.make_views(one)
    assert augment is again
    view = jax.jit(augment)(jax.random.key(0), gray)
    # A crop alone leaves gray pictures gray.
    np.testing.assert_allclose(view[..., 0], view[..., 2], atol=1e-6)


@pytest.mark.experiments
@pytest.mark.parametrize("host", ["simclr", "moco"])
def test_the_plain_host_is_nt_xent_or_moco(host):
    config = configs.get_config("smoke")
    changes = {"loss.host": host, "optim.warmup_steps": 0} | experiment.METHODS["plain"]
    config = training.config.changed(config, changes)
    model, state = experiment.make_model(config), experiment.init(config)
    batch = next(experiment.batches(config, 0))
    step = jax.jit(experiment.make_step(config))
    _, metrics = step(state, batch)

    @jax.jit
    def want(state, image):
        augments = experiment.make_views(config)
        a, b = images.two_views(augments, image, state.rng, state.step, None)
        apply = functools.partial(training.apply_model, model, state.params)
        t = config.loss.temperature
        if host == "simclr":
            (_, z), _ = apply(state.model_state, jnp.concatenate([a, b]))
            return losses.nt_xent(similarity.dot(z[:, 0], z[:, 0]) / t)
        ((_, q), _), ((_, k), _) = (apply(state.model_state, x) for x in (a, b))
        own = jnp.sum(q[:, 0] * k[:, 0], axis=-1)
        return moco.moco(own / t, similarity.dot(q[:, 0], state.queue.keys) / t)

    np.testing.assert_allclose(metrics["loss"], want(state, batch["image"]), rtol=1e-5)


@pytest.mark.experiments
@pytest.mark.parametrize(
    ("host", "method"), [("moco", "amcl_sum"), ("simsiam", "amcl")]
)
def test_the_other_hosts_learn_and_their_states_are_restored(host, method, tmp_path):
    """What the smoke run shows of SimCLR, without its evaluation and report."""
    config = configs.get_config(f"smoke_{host}")
    config = training.config.changed(config, experiment.METHODS[method])
    step, state = jax.jit(experiment.make_step(config)), experiment.init(config)
    source, values = experiment.batches(config, 0), []
    for _ in range(config.train.num_steps):
        state, metrics = step(state, next(source))
        values.append(float(metrics["loss"]))
    values = values[config.train.log_every - 1 :: config.train.log_every]
    change = np.mean(values[-3:]) - np.mean(values[:3])
    assert change < configs.CHECKS.change, values
    manager = checkpoint.Manager(tmp_path)
    manager.save(len(values), state)
    manager.orbax.wait_until_finished()
    restored, _ = manager.restore(experiment.init(config))
    manager.close()
    after, again = (
        step(s, next(experiment.batches(config, 0))) for s in (state, restored)
    )
    for a, b in zip(*map(jax.tree.leaves, (after, again)), strict=True):
        np.testing.assert_array_equal(*map(bits, (a, b)))


def bits(x):
    """An array; of random keys their bits."""
    return np.asarray(jax.random.key_data(x) if checkpoint.is_key(x) else x)
