"""The training loop: restore, step, log, evaluate, save. A function one calls."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax

from contrastive_jax.parallel import distributed
from contrastive_jax.training import (
    checkpoint,
    finite,
    metrics,
    observe,
    optim,
    progress,
    signals,
)

S = TypeVar("S")
Step = Callable[[S, dict[str, Any]], tuple[S, dict[str, Any]]]


def fit(
    step: Step,
    state: S,
    data: Callable[[int], Iterator[dict[str, Any]]],
    *,
    num_steps: int,
    log_every: int,
    save_every: int,
    max_skipped: int = 3,
    eval_every: int | None = None,
    evals: dict[str, Callable[[S], dict[str, float]]] | None = None,
    workdir: str | pathlib.Path,
) -> S:
    """Runs a mapped step from the newest checkpoint on, to `num_steps`.

    Interrupted at any instant and called again, it ends with the same bits. Metrics of
    every step are checked; those of every `log_every`-th step and of the last are
    written. Nothing is saved that is not finite.

    Args:
      step: `step(state, batch) -> (state, metrics)`, mapped over devices; consumes its
        state. `metrics` are scalars; those called "loss" are shown.
      state: the state to start from when there is no checkpoint.
      data: `data(start_step)` gives the batches from that step on.
      num_steps: steps of the whole run.
      log_every: steps between lines in `metrics.jsonl`.
      save_every: steps between checkpoints; the last step is always saved.
      max_skipped: so many steps in a row whose metrics are not finite end the run;
        they change nothing where the step is guarded, as those of `train` are.
      eval_every: steps between calls of `evals`; never when None or 0.
      evals: functions of the state whose results are logged as "name/key".
      workdir: folder of the run.

    Returns:
      the state after `num_steps` steps.

    Raises:
      finite.NonFinite: metrics are NaN or infinite, or parameters are.
      signals.Preempted: after SIGTERM or SIGINT, once the state is saved.
      checkpoint.CheckpointError: the checkpoints there belong to another run.
    """
    workdir = pathlib.Path(workdir)
    # Signals are caught until all is closed.
    with signals.Catch() as caught, contextlib.ExitStack() as stack:
        manager = stack.enter_context(
            contextlib.closing(checkpoint.Manager(workdir / "checkpoints"))
        )
        state, start = manager.restore(state)
        caught.saved = f"saved step {start} of {num_steps}"
        if start >= num_steps:
            return distributed.rejoin(state)
        if start:
            print(f"going on from step {start} of {num_steps}", flush=True)
        writer = stack.enter_context(contextlib.closing(metrics.Writer(workdir, start)))
        meter = stack.enter_context(contextlib.closing(observe.Meter(start, workdir)))
        bar = stack.enter_context(
            contextlib.closing(progress.Progress(start, num_steps))
        )
        watch = finite.Watch(data, max_skipped, start)
        pending, batches = [], distributed.checked(data(start))
        for now in range(start + 1, num_steps + 1):
            batch = next(batches)
            meter.before(step, state, batch)
            state, values = step(state, batch)
            pending.append((now, values))
            meter.after(now, values)
            bar.advance(now)
            stop = caught.stop_now()
            log = now % log_every == 0 or now == num_steps
            save = now % save_every == 0 or now == num_steps or stop
            evaluate = bool(evals and eval_every and now % eval_every == 0)
            if not (log or save or evaluate):
                continue
            values = watch.check(jax.device_get(pending))
            values |= optim.learning_rates(state)
            pending, speeds = [], meter.measure(len(next(iter(batch.values()))))
            if evals and evaluate:
                for name, function in evals.items():
                    found = function(distributed.local(state))
                    values |= {f"{name}/{key}": x for key, x in found.items()}
            if log or evaluate:
                bar.show(values, speeds)
                writer.write(now, values, speeds)
            if save:
                watch.check_params(now, state)
                manager.save(now, state)
                watch.saved, caught.saved = now, f"saved step {now} of {num_steps}"
            meter.mark()
            if stop:
                break
    return distributed.rejoin(state)
