"""What is watched of a run besides what it computes: loggers, speed, a profiler trace.

    with observe.observing(loggers=("tensorboard", "wandb"), profile=(100, 110)):
        state = training.fit(...)

It is no part of a config, since it changes no number. `launch/run --logger` and
`--profile` set it.
"""

import contextlib
import contextvars
import dataclasses
import functools
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from contrastive_jax.parallel import distributed
from contrastive_jax.training.loggers import Make

COMPILE = "/jax/core/compile/backend_compile_duration"


@dataclasses.dataclass(frozen=True)
class Observed:
    """What is watched.

    Attributes:
      loggers: names, or functions, see `loggers.open_logger`.
      profile: first and last step of a trace; None for no trace.
      costs: whether operations of a step are counted and compared with the device's
        rate for matrix products, which takes seconds once.
    """

    loggers: tuple[str | Make, ...] = ("tensorboard",)
    profile: tuple[int, int] | None = None
    costs: bool = False


CURRENT: contextvars.ContextVar[Observed] = contextvars.ContextVar("observed")


def current() -> Observed:
    """What is watched now."""
    return CURRENT.get(Observed())


@contextlib.contextmanager
def observing(**what: Any) -> Iterator[None]:
    """Within it `fit` watches this, see `Observed`."""
    token = CURRENT.set(Observed(**what))
    try:
        yield
    finally:
        CURRENT.reset(token)


class Compiled:
    """Seconds that XLA has compiled in this process, from the first use on."""

    def __init__(self):
        self.seconds = 0.0
        jax.monitoring.register_event_duration_secs_listener(self.add)

    def add(self, event: str, duration_secs: float, **_: str | int) -> None:
        """Counts one program (called by jax)."""
        if event == COMPILE:
            self.seconds += duration_secs


@functools.cache
def compiled() -> Compiled:
    """The one counter of this process."""
    return Compiled()


@functools.cache
def product_rate(side: int = 0) -> float:
    """Operations per second of a square matrix product on the first device.

    In float32 on a CPU, in bfloat16 elsewhere; the best of three.

    Args:
      side: rows of the matrices; 1,024 on a CPU and 8,192 elsewhere when 0.
    """
    cpu = jax.devices()[0].platform == "cpu"
    side = side or (1024 if cpu else 8192)
    x = jnp.ones((side, side), jnp.float32 if cpu else jnp.bfloat16)
    product = jax.jit(jnp.matmul)
    best = float("inf")
    for _ in range(4):  # the first compiles
        start = time.perf_counter()
        jax.block_until_ready(product(x, x))
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def peak_bytes() -> int:
    """Most memory held so far: of the first device, on a CPU of the process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Meter:
    """How fast a run is; steps are counted as they are told.

    Args:
      start_step: steps that are finished.
      folder: of the run; a trace goes to its `profile`.
    """

    def __init__(self, start_step: int, folder: pathlib.Path):
        self.first = self.step = self.marked_step = start_step
        self.folder, self.observed = folder, current()
        if not distributed.is_first():  # one trace is enough
            self.observed = dataclasses.replace(self.observed, profile=None)
        self.marked = time.monotonic()
        self.operations: float | None = None
        self.tracing = False
        self.compiled = compiled()

    def before(self, step: Callable[..., Any], state: Any, batch: Any) -> None:
        """To be called before every step: begins a trace, counts operations once."""
        if self.observed.costs and self.step == self.first:
            count = getattr(step, "operations", None)
            self.operations = count(state, batch) if count else None
        start, _ = self.observed.profile or (0, 0)
        if start == self.step + 1:
            jax.profiler.start_trace(str(self.folder / "profile"))
            self.tracing = True

    def after(self, step: int, values: Any) -> None:
        """To be called after every step; time counts from the end of the first."""
        _, last = self.observed.profile or (0, 0)
        if self.step == self.first or (self.tracing and step == last):
            jax.block_until_ready(values)
        if self.step == self.first:
            self.marked, self.marked_step = time.monotonic(), step
        if self.tracing and step == last:
            self.close()
        self.step = step

    def measure(self, rows: int) -> dict[str, float]:
        """Speeds since the last mark, of steps of so many rows of this process.

        Returns:
          `step_seconds`, `examples_per_second`, `compile_seconds` (of the process so
          far), `peak_bytes`, and with `costs` also `operations_per_second` (those of
          all devices that `MappedStep.operations` counts) and `share_of_products`,
          their share of what the devices reach in matrix products.
        """
        found, total = {}, rows * distributed.num_processes()
        steps = self.step - self.marked_step
        if steps:
            seconds = max(time.monotonic() - self.marked, 1e-9) / steps
            found = {"step_seconds": seconds, "examples_per_second": total / seconds}
            if self.operations:
                rate = self.operations / seconds
                most = product_rate() * jax.device_count()
                found["operations_per_second"] = rate
                found["share_of_products"] = rate / most
        found["compile_seconds"] = self.compiled.seconds
        found["peak_bytes"] = float(peak_bytes())
        return found

    def mark(self) -> None:
        """Time counts from here on: what went before was no step."""
        self.marked, self.marked_step = time.monotonic(), self.step

    def close(self) -> None:
        """Ends a trace."""
        if self.tracing:
            self.tracing = False
            jax.profiler.stop_trace()
            print(f"trace: {self.folder / 'profile'}", flush=True)
