"""The loop: resumes to the same bits, refuses what is wrong, stops before damage."""

import errno
import json
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import training
from contrastive_jax.training import checkpoint, digests, metrics

TX = training.make_optimizer("adamw", learning_rate=0.1, num_steps=30)
SETTINGS = dict(num_steps=30, log_every=4, save_every=7)


def init(width=3):
    return training.TrainState(**training.init_fields(0, {"w": jnp.ones(width)}, TX))


@jax.jit
def jitted(state, batch):
    noise = jax.random.normal(jax.random.fold_in(state.rng, state.step), (3,))

    def loss_fn(params):
        return jnp.sum((params["w"] - batch["x"].mean() * noise) ** 2)

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    return training.apply_gradients(state, grads, TX), {"loss": loss}


def data(start):
    """Batch t is a function of t."""
    t = start
    while True:
        yield {"x": np.random.default_rng(t).normal(size=4).astype(np.float32)}
        t += 1


class Killed(BaseException):
    """Stands for a process that ends between two steps."""


def killed_at(number, step=jitted):
    """The step, until its `number`-th call."""
    calls = 0

    def run(state, batch):
        nonlocal calls
        calls += 1
        if calls == number:
            raise Killed
        return step(state, batch)

    return run


def assert_same_bits(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_interrupted_equals_whole_bit_for_bit(tmp_path):
    whole = training.fit(jitted, init(), data, **SETTINGS, workdir=tmp_path / "whole")
    assert not np.array_equal(whole.params["w"], init().params["w"])
    for number in (3, 9, 12):
        with pytest.raises(Killed):
            step = killed_at(number)
            training.fit(step, init(), data, **SETTINGS, workdir=tmp_path / "cut")
    cut = training.fit(jitted, init(), data, **SETTINGS, workdir=tmp_path / "cut")
    assert_same_bits(cut, whole)
    lines = [(tmp_path / d / metrics.FILE).read_bytes() for d in ("whole", "cut")]
    assert lines[0] == lines[1]
    steps = [line["step"] for line in metrics.read(tmp_path / "cut")]
    assert steps == [4, 8, 12, 16, 20, 24, 28, 30]


def test_a_finished_run_is_left_alone(tmp_path):
    first = training.fit(jitted, init(), data, **SETTINGS, workdir=tmp_path)
    before = (tmp_path / metrics.FILE).read_bytes()
    again = training.fit(killed_at(1), init(), data, **SETTINGS, workdir=tmp_path)
    assert_same_bits(again, first)
    assert (tmp_path / metrics.FILE).read_bytes() == before


def test_every_checkpoint_holds_the_state_of_its_step(tmp_path):
    """The state is donated while it is saved in the background; no bit may leak."""
    width = 200_000
    tx = training.make_optimizer("sgd", learning_rate=0.1, num_steps=12)
    fields = training.init_fields(0, {"w": jnp.ones(width)}, tx)
    step = jax.jit(
        lambda s, b: (
            training.apply_gradients(s, {"w": s.params["w"] * b["x"].mean()}, tx),
            {"loss": s.params["w"].sum()},
        ),
        donate_argnums=0,
    )
    manager = checkpoint.Manager(tmp_path, keep=100)
    state, seen, batches = training.TrainState(**fields), {}, data(0)
    for t in range(1, 13):
        state, _ = step(state, next(batches))
        seen[t] = np.array(state.params["w"])
        manager.save(t, state)
    manager.orbax.wait_until_finished()
    for t, want in seen.items():
        like = training.TrainState(
            **training.init_fields(0, {"w": jnp.ones(width)}, tx)
        )
        found = manager.orbax.restore(
            t,
            args=checkpoint.ocp.args.Composite(
                state=checkpoint.ocp.args.StandardRestore(like)
            ),
        )["state"]
        np.testing.assert_array_equal(found.params["w"], want)
    manager.close()


def cut_in_half(folder):
    for file in folder.rglob("*"):
        if file.is_file() and file.stat().st_size > 1 and "ocdbt" in str(file):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_damaged_newest_falls_back_and_says_so(tmp_path, capsys):
    with pytest.raises(Killed):
        training.fit(killed_at(17), init(), data, **SETTINGS, workdir=tmp_path)
    folder = tmp_path / "checkpoints"
    assert {"7", "14"} <= {p.name for p in folder.iterdir()}
    cut_in_half(folder / "14")
    got = training.fit(jitted, init(), data, **SETTINGS, workdir=tmp_path)
    message = capsys.readouterr().err
    assert f"checkpoint {folder / '14'} is damaged and set aside" in message
    assert (folder / "14.damaged").exists()
    whole = training.fit(jitted, init(), data, **SETTINGS, workdir=tmp_path / "whole")
    assert_same_bits(got, whole)


def test_empty_and_unfinished_folders_are_no_checkpoints(tmp_path):
    with pytest.raises(Killed):
        training.fit(killed_at(10), init(), data, **SETTINGS, workdir=tmp_path)
    folder = tmp_path / "checkpoints"
    (folder / "21").mkdir()
    (folder / "28.orbax-checkpoint-tmp").mkdir()
    manager = checkpoint.Manager(folder)
    assert manager.restore(init())[1] == 7
    manager.close()
    training.fit(jitted, init(), data, **SETTINGS, workdir=tmp_path)
    manager = checkpoint.Manager(folder)
    assert manager.restore(init())[1] == 30
    manager.close()


def test_late_callbacks_of_a_failed_read_are_hidden(monkeypatch):
    """What tensorstore's threads report once Orbax has closed its loop."""
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    with checkpoint.without_late_callbacks():
        pass
    assert sys.unraisablehook == seen.append  # as before
    with pytest.raises(OSError), checkpoint.without_late_callbacks():
        raise OSError
    late, other = (
        types.SimpleNamespace(exc_value=RuntimeError(text))
        for text in ("Event loop is closed", "something else")
    )
    sys.unraisablehook(late)
    sys.unraisablehook(other)
    assert seen == [other]


def test_all_damaged_is_an_error_again_and_again(tmp_path):
    with pytest.raises(Killed):
        training.fit(killed_at(10), init(), data, **SETTINGS, workdir=tmp_path)
    cut_in_half(tmp_path / "checkpoints" / "7")
    for _ in range(2):
        with pytest.raises(training.CheckpointError, match="all checkpoints in"):
            training.fit(jitted, init(), data, **SETTINGS, workdir=tmp_path)


def flip(file, rng):
    """Flips one bit of a file."""
    content = bytearray(file.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    file.write_bytes(content)


def files_of(folder):
    return sorted(x for x in folder.rglob("*") if x.is_file() and x.stat().st_size)


def test_every_flipped_bit_is_seen(tmp_path):
    training.fit(jitted, init(), data, **SETTINGS, workdir=tmp_path)
    folder, rng = tmp_path / "checkpoints" / "30", np.random.default_rng(0)
    files = files_of(folder)
    assert len(files) > 5 and digests.mismatch(folder) == ""
    for i in range(200):
        file = files[i % len(files)]
        good = file.read_bytes()
        flip(file, rng)
        name = file.relative_to(folder.parent).as_posix()
        assert digests.mismatch(folder) == f"{name} is not what was written"
        file.write_bytes(good)
    assert digests.mismatch(folder) == ""
    command = ["sha256sum", "-c", "--quiet", "30.sha256"]
    subprocess.run(command, cwd=folder.parent, check=True)


def test_a_flipped_bit_in_an_array_falls_back(tmp_path, capsys):
    with pytest.raises(Killed):
        training.fit(killed_at(17), init(), data, **SETTINGS, workdir=tmp_path)
    folder = tmp_path / "checkpoints" / "14"
    file = max(files_of(folder / "state"), key=lambda x: x.stat().st_size)
    flip(file, np.random.default_rng(1))
    assert checkpoint.read(folder.parent, init())[1] == 7  # readers too
    got = training.fit(jitted, init(), data, **SETTINGS, workdir=tmp_path)
    assert f"14/{file.relative_to(folder).as_posix()} is not what was written" in (
        capsys.readouterr().err
    )
    whole = training.fit(jitted, init(), data, **SETTINGS, workdir=tmp_path / "whole")
    assert_same_bits(got, whole)


def test_a_missing_commit_file_is_damage(tmp_path, capsys):
    with pytest.raises(Killed):
        training.fit(killed_at(17), init(), data, **SETTINGS, workdir=tmp_path)
    folder = tmp_path / "checkpoints"
    for step, left in ((14, 7), (7, None)):
        (folder / str(step) / checkpoint.COMMITTED).unlink()
        manager = checkpoint.Manager(folder)
        if left:
            assert manager.restore(init())[1] == left
        else:  # never from the beginning over what was there
            with pytest.raises(training.CheckpointError, match="all checkpoints in"):
                manager.restore(init())
        manager.close()
        err = capsys.readouterr().err
        said = f"{step} is damaged and left out: {checkpoint.COMMITTED} is missing"
        assert said in err


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "denied"), MemoryError(), ValueError("x")]
)
def test_a_good_checkpoint_that_cannot_be_read_is_left(tmp_path, monkeypatch, error):
    with pytest.raises(Killed):
        training.fit(killed_at(17), init(), data, **SETTINGS, workdir=tmp_path)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(checkpoint.ocp.CheckpointManager, "restore", fail)
    with pytest.raises(
        training.CheckpointError, match="14 cannot be read, and is left"
    ):
        training.fit(jitted, init(), data, **SETTINGS, workdir=tmp_path)
    monkeypatch.undo()
    got = training.fit(jitted, init(), data, **SETTINGS, workdir=tmp_path)
    whole = training.fit(jitted, init(), data, **SETTINGS, workdir=tmp_path / "whole")
    assert_same_bits(got, whole)


def test_state_of_another_config_or_version_is_refused(tmp_path, monkeypatch):
    training.fit(jitted, init(), data, **SETTINGS, workdir=tmp_path)
    with pytest.raises(
        training.CheckpointError,
        match=r"another config or version: .*/w is float32\[3\] there, float32\[4\]",
    ):
        training.fit(jitted, init(width=4), data, **SETTINGS, workdir=tmp_path)
    half = init()
    half = half.replace(params={"w": half.params["w"].astype(jnp.bfloat16)})
    with pytest.raises(training.CheckpointError, match=r"bfloat16\[3\] here"):
        training.fit(jitted, half, data, **SETTINGS, workdir=tmp_path)
    monkeypatch.setattr(checkpoint, "FORMAT", 99)
    with pytest.raises(training.CheckpointError, match="this version reads format 99"):
        training.fit(jitted, init(), data, **SETTINGS, workdir=tmp_path)


def test_non_finite_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    def poisoned(state, batch):
        state, values = jitted(state, batch)
        bad = {"zeta": values["loss"], "loss": values["loss"] / (state.step != 11)}
        return state, bad | {"fine": jnp.float32(1)}

    with pytest.raises(training.NonFinite, match=r"step 11: loss is inf.*step 7"):
        training.fit(poisoned, init(), data, **SETTINGS, workdir=tmp_path)
    manager = checkpoint.Manager(tmp_path / "checkpoints")
    state, step = manager.restore(init())
    manager.close()
    assert step == 7
    assert np.isfinite(state.params["w"]).all()
    assert all(line["step"] <= 8 for line in metrics.read(tmp_path))


def test_evals_are_logged_by_name(tmp_path):
    evals = {"probe": lambda s: {"norm": float(jnp.linalg.norm(s.params["w"]))}}
    training.fit(
        jitted,
        init(),
        data,
        **SETTINGS,
        eval_every=10,
        evals=evals,
        workdir=tmp_path,
    )
    lines = {line["step"]: line for line in metrics.read(tmp_path)}
    assert [t for t, line in lines.items() if "probe/norm" in line] == [10, 20, 30]


def test_half_a_line_is_dropped_on_resume(tmp_path):
    file = tmp_path / metrics.FILE
    file.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    writer = metrics.Writer(tmp_path, start_step=5)
    writer.write(6, {"loss": 1.0})
    writer.close()
    assert [json.loads(x)["step"] for x in file.read_text().splitlines()] == [1, 6]


def test_event_files_can_be_read_back(tmp_path):
    training.fit(jitted, init(), data, **SETTINGS, workdir=tmp_path)
    files = list((tmp_path / "tensorboard").iterdir())
    assert files and b"examples_per_second" in b"".join(f.read_bytes() for f in files)
