"""Steps and parameters that are not finite: skipped, counted, named, never saved."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from contrastive_jax import parallel, training
from contrastive_jax.training import checkpoint, finite, metrics

TX = training.make_optimizer("adamw", learning_rate=0.1, num_steps=12)
NAN, INF = float("nan"), float("inf")


def init(config=None):
    params = {"w": jnp.ones(3), "b": jnp.zeros(())}
    return training.TrainState(
        **training.init_fields(0, params, TX, {"mean": jnp.zeros(3)})
    )


def make_step(config, axis_name=None):
    def step(state, batch):
        def loss_fn(params):
            return jnp.mean((batch["x"] @ params["w"] + params["b"] - 1) ** 2)

        loss, grads = parallel.value_and_grad(loss_fn, axis_name)(state.params)
        mean = parallel.pmean(batch["x"].mean(axis=0), axis_name)
        state = training.apply_gradients(state, grads, TX)
        found = {"loss": loss, "grad_norm": training.global_norm(grads)}
        return state.replace(model_state={"mean": mean}), found

    return step


def data_with(bad, value=NAN):
    """Batches of 16 rows; in those numbered in `bad`, row 5 holds a value."""

    def batches(config, start):
        t = start
        while True:
            x = np.random.default_rng(t).normal(size=(16, 3)).astype(np.float32)
            if t in bad:
                x[5, 1] = value
            yield {"x": x}
            t += 1

    return batches


def config(mapper="pmap", devices=8, **train):
    settings = dict(num_steps=12, log_every=1, save_every=3, max_skipped=3) | train
    return ml_collections.ConfigDict(
        dict(mapper=mapper, devices=devices, train=settings)
    )


def train(folder, bad, value=NAN, **changes):
    batches = data_with(bad, value)
    return training.train(config(**changes), folder, init, make_step, batches)


@pytest.mark.parametrize("mapper", [*parallel.MAPPERS, parallel.SHARDED])
@pytest.mark.parametrize("value", [NAN, INF])
def test_a_bad_row_of_one_device_skips_the_step_of_all(tmp_path, mapper, value):
    found = train(tmp_path, {6}, value, mapper=mapper)
    # The same as without that step, but for the number of steps.
    state, step = init(), jax.jit(make_step(None))
    for t, batch in zip(range(12), data_with({6})(None, 0), strict=False):
        kept = step(state, batch)[0] if t != 6 else state
        state = kept.replace(step=jnp.int32(t + 1))
    assert int(found.skipped) == 1 and int(found.step) == 12
    for a, b in zip(
        jax.tree.leaves((found.params, found.opt_state, found.model_state)),
        jax.tree.leaves((state.params, state.opt_state, state.model_state)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    lines = {line["step"]: line for line in metrics.read(tmp_path)}
    assert "loss" not in lines[7] and lines[7]["skipped"] == 1
    assert np.isfinite(lines[8]["loss"]) and lines[12]["skipped"] == 1
    assert lines[6]["skipped"] == 0


def test_a_guarded_step_without_bad_rows_changes_nothing(tmp_path):
    found = train(tmp_path, {}, devices=1)
    state, step = init(), jax.jit(make_step(None))
    for _, batch in zip(range(12), data_with({})(None, 0), strict=False):
        state, _ = step(state, batch)
    pairs = zip(*map(jax.tree.leaves, (found.params, state.params)), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("log_every", [1, 5])
def test_too_many_in_a_row_end_the_run(tmp_path, log_every):
    with pytest.raises(
        training.NonFinite,
        match=r"step 9: grad_norm is nan \(3 steps in a row\); not finite in "
        r"batch\['x'\] at rows 5; stopped \(checkpoints: the newest is that of step 6",
    ):
        train(tmp_path, set(range(6, 99)), log_every=log_every)
    manager = checkpoint.Manager(tmp_path / "checkpoints")
    state, step = manager.restore(init())
    manager.close()
    assert step == 6 and not finite.bad_leaves(state)


def test_a_good_step_between_bad_ones_starts_the_count_again(tmp_path):
    found = train(tmp_path, {2, 3, 5, 6, 8, 9})
    assert int(found.skipped) == 6


@pytest.mark.parametrize("most", [0, 1])
def test_the_first_may_end_the_run(tmp_path, most):
    with pytest.raises(training.NonFinite, match="step 3: grad_norm is nan; not"):
        train(tmp_path, {2}, max_skipped=most)


def test_the_count_survives_a_restart(tmp_path):
    whole = train(tmp_path / "whole", {1, 7})
    train(tmp_path / "cut", {1, 7}, num_steps=5)
    cut = train(tmp_path / "cut", {1, 7})
    assert int(cut.skipped) == int(whole.skipped) == 2
    files = [(tmp_path / x / metrics.FILE).read_bytes() for x in ("whole", "cut")]
    assert files[0] == files[1]


def test_parameters_that_overflow_in_the_update_are_not_saved(tmp_path):
    def overflowing(config, axis_name=None):
        step = make_step(config, axis_name)

        def run(state, batch):
            state, found = step(state, batch)
            b = jnp.where(state.step == 8, INF, state.params["b"])
            return state.replace(params=state.params | {"b": b}), found

        return run

    with pytest.raises(training.NonFinite, match=r"step 8: params/b is not finite"):
        training.train(config(save_every=2), tmp_path, init, overflowing, data_with({}))
    manager = checkpoint.Manager(tmp_path / "checkpoints")
    state, step = manager.restore(init())
    manager.close()
    assert step == 6 and not finite.bad_leaves(state)


def test_rows_that_are_not_finite_are_named():
    x = np.ones((9, 2), np.float32)
    x[[1, 2, 4, 5, 6, 8], 0] = np.inf
    assert finite.bad_rows({"x": x, "label": np.arange(9)}) == [
        "batch['x'] at rows 1, 2, 4, 5, 6, ..."
    ]
