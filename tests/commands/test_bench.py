"""The benchmark command: what is compared, kept, and drawn. Measures nothing large."""

import argparse
import json

import pytest

from launch.bench import __main__ as bench
from launch.bench import losses, measure, tables


def row(method, rows=64, loss=1.0, **fields):
    result = dict(task="clip", method=method, rows=rows, width=8, loss=loss)
    return result | dict(grad_norm=0.5, seconds=0.1, rise=1.0) | fields


def test_a_method_that_disagrees_is_named():
    ours = row("ours/tiled")
    assert tables.check_agreement([ours, row("open_clip", loss=1.001)]) == []
    problems = tables.check_agreement([ours, row("open_clip", loss=1.01)])
    assert problems == ["clip 64: loss of open_clip is 1.01, of ours/tiled 1"]
    # Another size or width is another problem, and half precision has its own limit.
    assert tables.check_agreement([ours, row("open_clip", rows=128, loss=2.0)]) == []
    assert tables.check_agreement([ours, row("open_clip", width=16, loss=2.0)]) == []
    assert tables.check_agreement([ours, row("ours/bf16", loss=1.01)]) == []
    assert tables.check_agreement([ours, row("ours/bf16", grad_norm=0.6)]) != []


def test_results_are_kept_and_replaced(tmp_path):
    file = tmp_path / "bench_losses.json"
    tables.save(file, row("ours/tiled"))
    tables.save(file, row("open_clip"))
    results = tables.save(file, row("ours/tiled", seconds=0.2))
    report = json.loads(file.read_text())
    assert report["results"] == results and "jax" in report["versions"]
    found = {r["method"]: r["seconds"] for r in results}
    assert found == {"open_clip": 0.1, "ours/tiled": 0.2}
    table = tables.markdown(results).splitlines()
    assert table[2].startswith("| 64 x 8 | ours/tiled | 0.2 |")
    assert table[3].startswith("| 64 x 8 | open_clip | 0.1 (x0.50) |")
    tables.plot(results, file.with_suffix(".png"))
    assert file.with_suffix(".png").stat().st_size > 1000
    assert len(list(tmp_path.iterdir())) == 2


def test_of_several_rounds_the_least_time_and_memory_count(tmp_path, monkeypatch):
    times = {"ours/tiled": [3.0, 1.0, 2.0], "jax/plain": [4.0, 6.0, 5.0]}
    turns = []

    def child(name, case, env, core):
        seconds = times[case[1]][turns.count(case[1])]
        turns.append(case[1])
        rise = 9.0 - seconds
        return {"seconds": seconds, "rise": rise, "loss": 1.0, "grad_norm": 1.0}

    monkeypatch.setattr(measure, "child", child)
    given = ["losses", "--tasks", "clip", "--sizes", "64", "--rounds", "3"]
    given += ["--methods", *times, "--runs", str(tmp_path)]
    assert bench.main(given) == 0
    assert turns == [*times] * 3
    found = json.loads((tmp_path / "bench_losses.json").read_text())["results"]
    assert {r["method"]: (r["seconds"], r["rise"]) for r in found} == {
        "ours/tiled": (1.0, 6.0),
        "jax/plain": (4.0, 3.0),
    }


def test_quadratic_peers_stop_where_memory_would():
    options = dict(tasks=["supcon"], sizes=[8192, 16384], width=8)
    args = argparse.Namespace(**options, stretch=1)
    found = {(m, n) for _, m, n, _ in bench.cases("losses", args)}
    assert ("ours/tiled", 16384) in found and ("torch", 8192) in found
    assert ("torch", 16384) not in found
    args.stretch = 2
    found = {(m, n) for _, m, n, _ in bench.cases("losses", args)}
    assert ("torch", 16384) in found


@pytest.mark.parametrize("rows", (100, 512, 1200))
def test_blocks_of_the_sigmoid_loss_are_the_whole(rows):
    torch = pytest.importorskip("torch")
    a, b = (torch.tensor(x) for x in losses.data("siglip", rows, 8))
    loss, jax = losses.jax_loss("siglip", "jax/plain", rows)
    want = float(loss(*(jax.numpy.asarray(x.numpy()) for x in (a, b))))
    assert abs(float(losses.chunked_sigmoid(a, b)) - want) < 1e-5 * want


TASKS = losses.LOSSES | losses.DISTANCES


@pytest.mark.parametrize("task", TASKS)
def test_methods_of_ours_and_of_plain_jax_exist(task):
    for method in TASKS[task]:
        if method.startswith(("ours", "jax/", "optax")):
            loss, _ = losses.jax_loss(task, method, 8)
            assert callable(loss)


def test_accuracy_of_a_saturated_batch():
    """Plain float32 loses the gradient, ours keeps it; both measured in float64."""
    ours, naive = (
        measure.child("accuracy", ["clip", method, 128, 128], measure.ONE_THREAD)
        for method in ("ours/tiled", "jax/naive")
    )
    assert ours["exact_loss"] < 1e-10 and ours["grad_error"] < 5e-3
    assert naive["grad_error"] > 0.1
