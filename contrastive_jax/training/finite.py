"""What is NaN or infinite: such a step is skipped, such parameters are not saved.

`guarded` has a step leave the state as it was where one of its metrics (the loss, the
norm of the gradients) is not finite; metrics are the same on all devices, and so is the
choice. `Watch` counts on the host, and ends a run after too many of them in a row.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.parallel.mapper import MakeStep

Step = Callable[[Any, Any], tuple[Any, dict[str, Any]]]
# Of a guarded step: how many steps were skipped so far.
SKIPPED = "skipped"


class NonFinite(Exception):
    """A metric or a parameter became NaN or infinite; the message names it."""


def guarded(make_step: MakeStep) -> MakeStep:
    """Builds steps that leave the state as it was where a metric is not finite.

    The number of steps goes on, and `state.skipped` counts; it becomes a metric.
    """

    def make(*, axis_name: str | None) -> Step:
        step = make_step(axis_name=axis_name)

        def guarded_step(state, batch):
            new, metrics = step(state, batch)
            good = jnp.all(jnp.stack([jnp.isfinite(x) for x in metrics.values()]))
            old = dataclasses.replace(state, step=new.step, skipped=state.skipped + 1)
            new = jax.tree.map(functools.partial(choose, good), new, old)
            return new, metrics | {SKIPPED: new.skipped}

        return guarded_step

    return make


def choose(condition: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """One of two arrays, random keys too."""
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        data = jnp.where(condition, *map(jax.random.key_data, (a, b)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(a))
    return jnp.where(condition, a, b)


def bad_metrics(values: Mapping[str, Any]) -> list[str]:
    """The names of those that are NaN or infinite."""
    return [name for name, x in values.items() if not np.all(np.isfinite(x))]


def bad_leaves(tree: Any) -> list[str]:
    """The paths of the arrays of a tree that hold a NaN or an infinite number.

    Examples:
      >>> bad_leaves({"a": jnp.ones(2), "b": {"c": jnp.array([1.0, jnp.inf])}})
      ['b/c']
    """
    found = jax.device_get(finite_leaves(tree))
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, good in jax.tree_util.tree_leaves_with_path(found)
        if not good
    ]


@jax.jit
def finite_leaves(tree: Any) -> Any:
    """Whether each array of a tree is finite."""

    def one(x):
        inexact = jnp.issubdtype(x.dtype, jnp.inexact)
        return jnp.all(jnp.isfinite(x)) if inexact else jnp.asarray(True)

    return jax.tree.map(one, tree)


def bad_rows(batch: Mapping[str, np.ndarray]) -> list[str]:
    """Which rows of which arrays of a batch are not finite, a text for each array."""
    found = []
    for name, x in batch.items():
        if np.issubdtype(np.asarray(x).dtype, np.inexact):
            flat = np.asarray(x).reshape(len(x), -1)
            rows = np.flatnonzero(~np.isfinite(flat).all(axis=1))
            if len(rows):
                shown = ", ".join(map(str, rows[:5])) + ", ..." * (len(rows) > 5)
                found.append(f"batch[{name!r}] at rows {shown}")
    return found


class Watch:
    """Looks at metrics on the host and at what is saved.

    Args:
      data: `data(start_step)`, to look at the batch of a step once more.
      max_skipped: so many guarded steps skipped in a row end the run; 0 as 1.
      saved: step of the newest checkpoint, 0 for none.
    """

    def __init__(
        self, data: Callable[[int], Iterator[Any]], max_skipped: int, saved: int
    ):
        self.data, self.most, self.saved = data, max(max_skipped, 1), saved
        self.in_row = 0

    def newest(self) -> str:
        """What is left when the run ends here."""
        kept = f"the newest is that of step {self.saved}" if self.saved else "none yet"
        return f"stopped (checkpoints: {kept})"

    def check(self, pending: list[tuple[int, dict[str, Any]]]) -> dict[str, float]:
        """Looks at the metrics of every step since the last look.

        Returns:
          the metrics of the newest, without those that are not finite.

        Raises:
          NonFinite: a step that is not guarded has one that is not finite, or as many
            guarded ones in a row as are allowed; names step, metric, rows of the batch.
        """
        for step, values in pending:
            bad = bad_metrics(values)
            self.in_row = self.in_row + 1 if bad else 0
            if bad and (SKIPPED not in values or self.in_row >= self.most):
                x = float(np.asarray(values[bad[0]]))
                times = f" ({self.in_row} steps in a row)" if self.in_row > 1 else ""
                rows = "; ".join(bad_rows(next(self.data(step - 1))))
                rows = f"not finite in {rows}; " if rows else ""
                raise NonFinite(
                    f"step {step}: {bad[0]} is {x}{times}; {rows}{self.newest()}"
                )
        _, values = pending[-1]
        bad = bad_metrics(values)
        return {name: float(x) for name, x in values.items() if name not in bad}

    def check_params(self, step: int, state: Any) -> None:
        """Looks at the parameters before they are saved.

        Raises:
          NonFinite: one is not finite, though every metric was.
        """
        bad = bad_leaves(getattr(state, "params", {}))
        if bad:
            raise NonFinite(
                f"step {step}: params/{bad[0]} is not finite after the update, though "
                f"the metrics are; not saved, {self.newest()}"
            )
