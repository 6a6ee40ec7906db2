"""The published recipes: built and lowered for 8 devices without allocating, and run.

Lowering is part of `launch/test --experiments`; the real step, a ResNet-50 for the
image papers, is marked slow.
"""

import functools
import re

import jax
import numpy as np
import pytest

from contrastive_jax import parallel
from tests.experiments.common import STEPS, load


@pytest.fixture(params=STEPS, ids=str)
def case(request):
    return request.param


@pytest.mark.experiments
def test_paper_step_lowers_for_eight_devices(case, monkeypatch):
    case.stand_in(monkeypatch)
    _, experiment = load(case.experiment)
    config = case.config(case.paper)
    state = jax.eval_shape(lambda: experiment.init(config))
    batch = {
        name: jax.ShapeDtypeStruct((config.data.batch_size, *shape), dtype)
        for name, (shape, dtype) in case.paper_batch().items()
    }
    make_step = functools.partial(experiment.make_step, config)
    step = parallel.data_parallel(make_step, config.mapper, devices=8)
    text = step.lower(state, batch).as_text()
    assert "all_reduce" in text or "all-reduce" in text


@pytest.mark.experiments
@pytest.mark.parametrize("name", ["clip", "simclr"])
def test_paper_step_lowers_for_256_devices(name):
    """Abstract devices; the collectives span all of them."""
    (case,) = [c for c in STEPS if (c.experiment, c.variant) == (name, "smoke")]
    module, experiment = load(name)
    config = module.get_config("paper")
    state = jax.eval_shape(lambda: experiment.init(config))
    batch = {
        name: jax.ShapeDtypeStruct((config.data.batch_size, *shape), dtype)
        for name, (shape, dtype) in case.paper_batch().items()
    }
    make_step = functools.partial(experiment.make_step, config)
    lowered = parallel.lower_abstract(
        make_step, config.mapper, state, batch, devices=256
    )
    text = lowered.as_text()
    assert "num_partitions = 256" in text
    group = re.search(r"all_reduce.*?tensor<(\d+)x(\d+)xi64>", text, re.DOTALL)
    assert group.groups() == ("1", "256")


@pytest.mark.slow
def test_paper_step_runs_at_a_reduced_batch(case, monkeypatch):
    case.stand_in(monkeypatch)
    _, experiment = load(case.experiment)
    config = case.config(case.paper)
    rows = case.checks.paper_rows
    config.data.batch_size = rows
    loss = config.get("loss", {})
    if loss.get("queue_size"):
        loss.queue_size = 64
    if loss.get("chunk_size"):
        loss.chunk_size = rows // 2
    rng = np.random.default_rng(0)
    batch = {
        name: rng.integers(0, 200, (rows, *shape)).astype(dtype)
        for name, (shape, dtype) in case.paper_batch().items()
    }
    make_step = functools.partial(experiment.make_step, config)
    step = parallel.data_parallel(make_step, config.mapper, devices=1)
    state, metrics = step(experiment.init(config), batch)
    assert int(state.step) == 1
    assert all(np.isfinite(x) for x in metrics.values()), metrics
