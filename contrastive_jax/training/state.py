"""The one pytree that is the whole truth of a run."""

import dataclasses
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key


@chex.dataclass(frozen=True)
class TrainState:
    """What survives a restart; methods extend it with what else they carry.

    Attributes:
      step: finished steps.
      rng: base key of the run; a step folds in `step` and the row of the example.
      params: learned parameters.
      opt_state: the optimiser's state.
      model_state: other variables of the model, such as batch statistics; {} if none.
      skipped: steps that changed nothing since a metric was not finite.
    """

    step: Int[Array, ""]
    rng: Key[Array, ""]
    params: chex.ArrayTree
    opt_state: chex.ArrayTree
    model_state: chex.ArrayTree
    skipped: Int[Array, ""]


def init_fields(
    seed: int,
    params: chex.ArrayTree,
    tx: optax.GradientTransformation,
    model_state: chex.ArrayTree | None = None,
) -> dict[str, Any]:
    """The fields of a `TrainState` at step 0, to be passed to it or to a subclass."""
    return dict(
        step=jnp.zeros((), jnp.int32),
        rng=jax.random.key(seed),
        params=params,
        opt_state=tx.init(params),
        model_state={} if model_state is None else model_state,
        skipped=jnp.zeros((), jnp.int32),
    )


def apply_gradients(
    state: TrainState, grads: chex.ArrayTree, tx: optax.GradientTransformation
) -> TrainState:
    """The state after one optimiser step; counts the step."""
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return dataclasses.replace(
        state, step=state.step + 1, params=params, opt_state=opt_state
    )


def apply_model(
    model: nn.Module,
    params: chex.ArrayTree,
    model_state: chex.ArrayTree,
    *inputs: chex.ArrayTree,
    **options: Any,
) -> tuple[chex.ArrayTree, chex.ArrayTree]:
    """Applies a linen module in training; returns its output and new `model_state`.

    Args:
      model: a module whose `__call__` takes `train`.
      params: its parameters.
      model_state: its batch statistics, {} if it has none.
      *inputs: what it is applied to.
      **options: more arguments of `model.apply`, such as `method` or `rngs`.
    """
    variables = {"params": params, "batch_stats": model_state}
    out, updated = model.apply(
        variables, *inputs, train=True, mutable=["batch_stats"], **options
    )
    return out, updated.get("batch_stats", {})


def global_norm(tree: chex.ArrayTree) -> Float[Array, ""]:
    """Euclidean norm of all leaves together, worth logging for gradients."""
    return optax.tree.norm(tree)
