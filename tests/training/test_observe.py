"""What is watched of a run: speeds, learning rates, loggers, a trace."""

import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastive_jax import parallel, training
from contrastive_jax.training import loggers, metrics, observe, optim

TX = training.make_optimizer("sgd", learning_rate=0.5, num_steps=10, warmup_steps=5)


def init():
    return training.TrainState(**training.init_fields(0, {"w": jnp.ones(3)}, TX))


def make_step(*, axis_name):
    def step(state, batch):
        def loss_fn(params):
            return jnp.mean((batch["x"] @ params["w"]) ** 2)

        loss, grads = parallel.value_and_grad(loss_fn, axis_name)(state.params)
        return training.apply_gradients(state, grads, TX), {"loss": loss}

    return step


def data(start):
    while True:
        yield {"x": np.ones((4, 3), np.float32)}


def fit(folder, **changes):
    settings = dict(num_steps=10, log_every=1, save_every=5) | changes
    step = parallel.data_parallel(make_step, devices=1)
    return training.fit(step, init(), data, **settings, workdir=folder)


def speeds(folder):
    return [json.loads(x) for x in (folder / metrics.SPEED).read_text().splitlines()]


def test_the_learning_rate_of_every_step_is_logged(tmp_path):
    fit(tmp_path)
    want = training.warmup_cosine(0.5, 10, 5)
    found = [line["learning_rate"] for line in metrics.read(tmp_path)]
    np.testing.assert_allclose(found, [want(t) for t in range(10)], rtol=1e-6)


def test_several_learning_rates_are_numbered():
    tx = optax.chain(TX, optax.inject_hyperparams(optax.sgd)(learning_rate=0.25))
    state = tx.init({"w": jnp.ones(3)})
    assert optim.learning_rates(state) == {
        "learning_rate/0": 0,
        "learning_rate/1": 0.25,
    }
    assert optim.learning_rates({"w": jnp.ones(3)}) == {}


def test_speeds_lie_beside_the_metrics_and_not_in_them(tmp_path):
    with training.observing(loggers=(), costs=True):
        fit(tmp_path)
    assert not (tmp_path / "tensorboard").exists()
    assert set(metrics.read(tmp_path)[-1]) == {"step", "loss", "learning_rate"}
    first, *_, last = speeds(tmp_path)
    assert "step_seconds" not in first and first["compile_seconds"] > 0
    assert last["step"] == 10 and last["peak_bytes"] > 1e6
    seconds = last["step_seconds"]
    assert last["examples_per_second"] == pytest.approx(4 / seconds)
    assert last["operations_per_second"] * seconds >= 2 * 4 * 3  # the product
    share = last["operations_per_second"] / observe.product_rate() / jax.device_count()
    assert last["share_of_products"] == pytest.approx(share)


@pytest.mark.parametrize("mapper", ["pmap", "shard_map", "jit"])
def test_operations_are_those_of_all_devices(mapper):
    batch = {"x": np.ones((64, 3), np.float32)}
    found = [
        parallel.data_parallel(make_step, mapper, devices=n).operations(init(), batch)
        for n in (1, 8)
    ]
    # What does not split, the update of the parameters, is done by every device.
    assert found[0] <= found[1] < 2 * found[0]


def test_evaluation_is_no_part_of_a_step(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 1))
    monkeypatch.setattr(observe.time, "monotonic", lambda: float(next(clock)))
    meter = observe.Meter(0, tmp_path)  # 0
    meter.after(1, jnp.ones(()))  # the first step, until 1
    meter.after(2, jnp.ones(()))
    assert meter.measure(8)["step_seconds"] == 1.0  # 2
    for _ in range(100):
        next(clock)
    meter.mark()
    meter.after(3, jnp.ones(()))
    assert meter.measure(8)["examples_per_second"] == 8.0


def test_a_trace_of_some_steps(tmp_path, capsys):
    with training.observing(profile=(2, 3)):
        fit(tmp_path)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert "trace: " in capsys.readouterr().out


def test_a_trace_that_the_run_ends_in_is_written(tmp_path):
    with training.observing(profile=(9, 20)):
        fit(tmp_path)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


class Kept:
    """A logger that keeps what it gets."""

    def __init__(self, workdir, start_step):
        self.start, self.lines, self.closed = start_step, {}, False

    def write(self, step, values):
        self.lines[step] = dict(values)

    def close(self):
        self.closed = True


def test_a_logger_of_ones_own(tmp_path):
    made = []

    def make(workdir, start_step):
        made.append(Kept(workdir, start_step))
        return made[-1]

    with training.observing(loggers=(make,)):
        fit(tmp_path, num_steps=5)
        fit(tmp_path)
    assert [x.start for x in made] == [0, 5] and all(x.closed for x in made)
    assert set(made[1].lines) == set(range(6, 11))
    assert {"loss", "learning_rate", "examples_per_second"} <= set(made[1].lines[10])


def test_a_logger_that_fails_is_a_warning(tmp_path, capsys):
    class Full(Kept):
        def write(self, step, values):
            raise OSError("no space left")

    with training.observing(loggers=(Full,)):
        fit(tmp_path)
    assert len(metrics.read(tmp_path)) == 10
    assert "warning: not logged at step 1: no space left" in capsys.readouterr().err


def test_wandb_is_one_run_after_a_restart(tmp_path, monkeypatch):
    runs = []

    class Run(Kept):
        def __init__(self, **options):
            super().__init__(None, 0)
            self.options = options
            runs.append(self)

        def log(self, values, step):
            self.write(step, values)

        finish = Kept.close

    fake = types.ModuleType("wandb")
    fake.init = Run
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with training.observing(loggers=("wandb",)):
        fit(tmp_path, num_steps=5)
        fit(tmp_path)
    assert runs[0].options == runs[1].options and runs[0].options["resume"] == "allow"
    assert list(runs[1].lines) == list(range(6, 11)) and runs[1].closed


def test_unknown_and_missing_loggers(monkeypatch):
    with pytest.raises(ValueError, match="expected one of tensorboard, wandb, got 'x'"):
        loggers.check("x")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match="pip install wandb"):
        loggers.check("wandb")
