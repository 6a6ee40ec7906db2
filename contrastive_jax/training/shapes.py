"""Looks at a step before it runs: what it returns, from shapes alone."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from contrastive_jax.training import checkpoint


def check_step(step: Callable[..., Any], state: Any, batch: Mapping[str, Any]) -> None:
    """Checks that a step returns (state, metrics), without computing anything.

    The state has to keep its structure, shapes and dtypes; metrics are real numbers
    by name.

    Args:
      step: `step(state, batch)`, not mapped over devices.
      state: the state before it, or its shapes (`jax.eval_shape`).
      batch: a batch, or its shapes.

    Raises:
      ValueError: the step returns something else; says what.

    Examples:
      >>> check_step(lambda s, batch: s, {"a": jnp.ones(2)}, {})
      Traceback (most recent call last):
        ...
      ValueError: a step returns (state, metrics), got dict
    """
    result = jax.eval_shape(step, state, batch)
    if not (isinstance(result, tuple) and len(result) == 2):
        got = type(result).__name__
        got += f" of {len(result)}" if isinstance(result, tuple) else ""
        raise ValueError(f"a step returns (state, metrics), got {got}")
    new, metrics = result
    if not isinstance(metrics, Mapping):
        raise ValueError(
            f"a step returns its metrics as a dict, got {type(metrics).__name__}"
        )
    for name, x in metrics.items():
        shape, dtype = getattr(x, "shape", None), getattr(x, "dtype", None)
        if shape != () or not is_real(dtype):
            got = type(x).__name__ if shape is None else f"{dtype}{list(shape)}"
            raise ValueError(f"metric {name!r} of a step has to be a number, got {got}")
    before, after = checkpoint.leaves(state), checkpoint.leaves(new)
    for path in {**before, **after}:
        if before.get(path) != after.get(path):
            raise ValueError(
                f"a step keeps shapes and dtypes of its state; {path} is "
                f"{before.get(path, 'absent')} before and {after.get(path, 'absent')} "
                "after it"
            )
    if jax.tree.structure(state) != jax.tree.structure(new):
        raise ValueError("a step keeps the tree structure of its state")


def is_real(dtype: Any) -> bool:
    """Whether a dtype holds real numbers or booleans."""
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    return any(jnp.issubdtype(dtype, kind) for kind in kinds)
