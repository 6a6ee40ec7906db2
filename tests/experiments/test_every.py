"""Every experiment: three mappers on 8 devices equal one device; resume is exact; of
several processes each reads its part of a batch.

Of variants in `CHECKS.steps` the mappers alone.

Run by `launch/test --experiments`.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import parallel
from contrastive_jax.parallel import distributed
from contrastive_jax.report import Report
from contrastive_jax.training import checkpoint, metrics
from tests.experiments.common import RUNS, STEPS, load

pytestmark = pytest.mark.experiments
TRAINED = [case for case in RUNS if hasattr(load(case.experiment)[1], "make_step")]


def arrays(tree):
    """Leaves as numpy arrays, random keys as their bits."""
    return [
        np.asarray(
            jax.random.key_data(x)
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
            else x
        )
        for x in jax.tree.leaves(tree)
    ]


def distance(a, b):
    """Euclidean distance of two lists of arrays, over their floating-point members."""
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x.dtype.kind == "f"]
    return np.sqrt(sum(np.sum((x - y).astype(np.float64) ** 2) for x, y in pairs))


def three_steps(experiment, config, start, mapper, devices):
    """State and metrics after three steps on a random batch per step."""
    make_step = functools.partial(experiment.make_step, config)
    step = parallel.data_parallel(make_step, mapper, devices=devices)
    state = jax.tree.map(jnp.copy, start)  # a step consumes its state
    source = experiment.batches(config, 0)
    for _ in range(3):
        state, values = step(state, next(source))
    return arrays(state), {key: float(x) for key, x in values.items()}


@pytest.mark.parametrize("case", STEPS, ids=str)
def test_every_mapper_equals_one_device(case, monkeypatch):
    """The whole state to 1e-5 of its norm; SGD, because Adam hides a wrong factor.

    GELU stands for ReLU: where an input of a ReLU is 0 to within rounding, two exact
    programs may take different sides, and which inputs are depends on the processor.
    """
    monkeypatch.setattr(nn, "relu", nn.gelu)
    _, experiment = load(case.experiment)
    config = case.config(case.variant)
    if "optim" in config:
        config.optim.update(name="sgd", learning_rate=0.01, warmup_steps=0)
    start = experiment.init(config)
    want, want_metrics = three_steps(experiment, config, start, "jit", 1)
    names, fresh = checkpoint.leaves(start), arrays(start)
    moved = [not np.array_equal(a, b) for a, b in zip(want, fresh, strict=True)]
    assert sum(moved) > len(moved) / 2
    for mapper in parallel.MAPPERS:
        got, got_metrics = three_steps(experiment, config, start, mapper, 8)
        for key, value in want_metrics.items():
            assert abs(got_metrics[key] - value) <= 1e-5 * max(abs(value), 1), (
                mapper,
                key,
            )
        # A leaf that was 0 three steps ago holds sums of what cancels, or (a bias
        # before a normalisation) nothing but rounding, which goes with the gradients.
        rounding = 1e-7 * max(1, want_metrics.get("grad_norm", 1))
        for name, a, b in zip(names, got, want, strict=True):
            bound = 1e-4 * np.abs(b).max(initial=0) + rounding
            message = f"{name} of the state under {mapper} and on one device"
            np.testing.assert_allclose(a, b, rtol=0, atol=bound, err_msg=message)
        assert distance(got, want) <= 1e-5 * distance(want, [0 * b for b in want])


@pytest.mark.parametrize("case", STEPS, ids=str)
def test_processes_read_their_parts_of_a_batch(case, monkeypatch):
    """Of two processes each gets its half of the rows that one process gets."""
    _, experiment = load(case.experiment)
    config = case.config(case.variant)

    def batches(count, own):
        monkeypatch.setattr(distributed, "num_processes", lambda: count)
        monkeypatch.setattr(distributed, "process_id", lambda: own)
        source = experiment.batches(config, 0)
        return [next(source) for _ in range(2)]

    whole, first, second = batches(1, 0), batches(2, 0), batches(2, 1)
    for want, *halves in zip(whole, first, second, strict=True):
        for name, x in want.items():
            assert len(halves[0][name]) == len(x) // 2
            got = np.concatenate([half[name] for half in halves])
            np.testing.assert_array_equal(got, x, err_msg=name)


class Killed(BaseException):
    """Stands for a process that ends between two steps."""


@pytest.mark.parametrize("case", TRAINED, ids=str)
def test_resume_equals_whole_bit_for_bit(case, tmp_path, monkeypatch):
    """Killed twice between steps, in any of its stages; state, metrics and result."""
    _, experiment = load(case.experiment)
    config = case.config(case.variant)
    config.devices = 1
    config.train.update(num_steps=min(24, config.train.num_steps), save_every=7)
    config.optim.warmup_steps = min(5, config.optim.warmup_steps)
    # The report is drawn, but its pictures are not turned into files.
    monkeypatch.setattr(Report, "figure", lambda self, figure, alt: None)
    whole = experiment.run(config, tmp_path / "whole")
    original, calls = parallel.data_parallel, 0

    def counting(*args, **kwargs):
        step = original(*args, **kwargs)

        def run(state, batch):
            nonlocal calls
            calls += 1
            if calls in deaths:
                raise Killed
            return step(state, batch)

        return run

    monkeypatch.setattr(parallel, "data_parallel", counting)
    num_steps, save_every = config.train.num_steps, config.train.save_every
    deaths = {save_every + 3, save_every + 3 + num_steps - save_every}
    for _ in deaths:
        with pytest.raises(Killed):
            experiment.run(config, tmp_path / "cut")
    again = experiment.run(config, tmp_path / "cut")
    assert again == whole
    files = sorted((tmp_path / "whole").rglob(metrics.FILE))
    assert files
    for file in files:
        other = tmp_path / "cut" / file.relative_to(tmp_path / "whole")
        assert other.read_bytes() == file.read_bytes()
    for folder in sorted((tmp_path / "whole").rglob("checkpoints")):
        pair = []
        for side in ("whole", "cut"):
            place = tmp_path / side / folder.relative_to(tmp_path / "whole")
            manager = checkpoint.Manager(place)
            pair.append(manager.restore_raw())
            manager.close()
        for a, b in zip(*pair, strict=True):
            np.testing.assert_array_equal(a, b)
