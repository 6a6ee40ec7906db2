"""The training loop: restore, step, log, evaluate, save. A function one calls."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

from contrastive_jax.parallel import distributed
from contrastive_jax.training import checkpoint, metrics, progress, signals

S = TypeVar("S")
Step = Callable[[S, dict[str, Any]], tuple[S, dict[str, Any]]]


class NonFinite(Exception):
    """A metric became NaN or infinite; the message names step and metric."""


def check_finite(pending: list[tuple[int, dict[str, Any]]], saved: int) -> None:
    """Checks the metrics of every step since the last look.

    Raises:
      NonFinite: naming the first step and, of that step, the first metric.
    """
    for step, values in pending:
        for name, x in values.items():
            if not np.all(np.isfinite(x)):
                kept = f"the newest is that of step {saved}" if saved else "none yet"
                raise NonFinite(
                    f"step {step}: {name} is {float(np.asarray(x))}; stopped "
                    f"(checkpoints: {kept})"
                )


def fit(
    step: Step,
    state: S,
    data: Callable[[int], Iterator[dict[str, Any]]],
    *,
    num_steps: int,
    log_every: int,
    save_every: int,
    eval_every: int | None = None,
    evals: dict[str, Callable[[S], dict[str, float]]] | None = None,
    workdir: str | pathlib.Path,
) -> S:
    """Runs a mapped step from the newest checkpoint on, to `num_steps`.

    Interrupted at any instant and called again, it ends with the same bits. Metrics of
    every step are checked; those of every `log_every`-th step and of the last are
    written. Nothing is saved before all metrics up to it were found finite.

    Args:
      step: `step(state, batch) -> (state, metrics)`, mapped over devices; consumes its
        state. `metrics` are scalars; those called "loss" are shown.
      state: the state to start from when there is no checkpoint.
      data: `data(start_step)` gives the batches from that step on.
      num_steps: steps of the whole run.
      log_every: steps between lines in `metrics.jsonl`.
      save_every: steps between checkpoints; the last step is always saved.
      eval_every: steps between calls of `evals`; never when None or 0.
      evals: functions of the state whose results are logged as "name/key".
      workdir: folder of the run.

    Returns:
      the state after `num_steps` steps.

    Raises:
      NonFinite: a metric is NaN or infinite.
      signals.Preempted: after SIGTERM or SIGINT, once the state is saved.
      checkpoint.CheckpointError: the checkpoints there belong to another run.
    """
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(
            contextlib.closing(checkpoint.Manager(pathlib.Path(workdir, "checkpoints")))
        )
        state, start = manager.restore(state)
        if start >= num_steps:
            return distributed.rejoin(state)
        if start:
            print(f"going on from step {start} of {num_steps}", flush=True)
        writer = stack.enter_context(contextlib.closing(metrics.Writer(workdir, start)))
        bar = stack.enter_context(
            contextlib.closing(progress.Progress(start, num_steps))
        )
        caught = stack.enter_context(signals.Catch())
        saved, pending, batches = start, [], distributed.checked(data(start))
        for now in range(start + 1, num_steps + 1):
            batch = next(batches)
            state, values = step(state, batch)
            pending.append((now, values))
            bar.advance(now, values)
            stop = caught.stop_now()
            log = now % log_every == 0 or now == num_steps
            save = now % save_every == 0 or now == num_steps or stop
            evaluate = bool(evals and eval_every and now % eval_every == 0)
            if not (log or save or evaluate):
                continue
            pending = jax.device_get(pending)
            check_finite(pending, saved)
            values = {name: float(x) for name, x in pending[-1][1].items()}
            pending = []
            if evals and evaluate:
                for name, function in evals.items():
                    found = function(distributed.local(state))
                    values |= {f"{name}/{key}": x for key, x in found.items()}
            if log or evaluate:
                speed = bar.show(values, len(next(iter(batch.values()))))
                writer.write(now, values, only_events={"examples_per_second": speed})
            if save:
                manager.save(now, state)
                saved = now
            if stop:
                break
    if stop or caught.caught:
        raise signals.Preempted(f"{caught.caught}: saved step {saved} of {num_steps}")
    return distributed.rejoin(state)
