"""`loss.chunk_size` (gradient caching): the same gradients as all at once."""

import functools

import jax
import numpy as np
import pytest

from contrastive_jax import parallel
from contrastive_jax.training import config as configs
from tests.experiments.common import NAMES, load

# Experiments with gradient caching, and what has to be set for it.
CHANGES = {
    name: ["model.norm=group"] if config.model.get("norm") == "batch" else []
    for name in NAMES
    if "chunk_size" in (config := load(name)[0].get_config("smoke")).get("loss", ())
}


@functools.cache
def gradients(name, chunk, mapper, devices):
    """The first gradients: momentum of SGD after one step."""
    module, experiment = load(name)
    config = module.get_config("smoke")
    config.mapper = mapper
    config.optim.update(name="sgd", warmup_steps=0, weight_decay=0.0)
    configs.override(config, [*CHANGES[name], f"loss.chunk_size={chunk}"])
    configs.check(config, devices)
    make_step = functools.partial(experiment.make_step, config)
    step = parallel.data_parallel(make_step, mapper, devices=devices)
    batch = next(experiment.batches(config, 0))
    state, metrics = step(experiment.init(config), batch)
    found = [np.asarray(x) for x in jax.tree.leaves(state.opt_state)]
    return float(metrics["loss"]), [x for x in found if x.dtype.kind == "f"]


def check(name, chunk, mapper, devices):
    want_loss, want = gradients(name, 0, "jit", 1)
    loss, got = gradients(name, chunk, mapper, devices)
    np.testing.assert_allclose(loss, want_loss, rtol=1e-6)
    norm = np.sqrt(sum(np.sum(x**2) for x in want))
    assert norm > 1e-2
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * norm)


@pytest.mark.experiments
@pytest.mark.parametrize("name", CHANGES)
def test_chunks_give_the_gradients_of_the_whole_batch(name):
    check(name, 16, "jit", 1)


@pytest.mark.experiments
@pytest.mark.parametrize("mapper", (*parallel.MAPPERS, parallel.SHARDED))
@pytest.mark.parametrize("name", CHANGES)
def test_and_in_every_mapper(name, mapper):
    check(name, 4, mapper, 8)


def test_batch_statistics_are_refused():
    module, experiment = load("simclr")
    config = module.get_config("smoke")
    config.loss.chunk_size = 16
    with pytest.raises(ValueError, match=r"loss.chunk_size: batch norm.*norm=group"):
        experiment.init(config)


def test_chunks_must_divide_what_a_device_sees():
    config = load("simclr")[0].get_config("smoke")
    config.loss.chunk_size = 16
    configs.check(config, 4)
    with pytest.raises(configs.ConfigError, match=r"loss.chunk_size: 8 rows .*of 16"):
        configs.check(config, 8)
    config.mapper = "jit"
    configs.check(config, 8)
