"""Optimisers with the schedule and weight-decay mask that contrastive papers use."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax


def warmup_cosine(
    peak: float, num_steps: int, warmup_steps: int = 0, final: float = 0.0
) -> optax.Schedule:
    """Linear from 0 to `peak` over the warm-up, then half a cosine down to `final`.

    Raises:
      ValueError: a warm-up that is longer than the run.
    """
    if not 0 <= warmup_steps < num_steps:
        raise ValueError(
            f"warmup_steps: expected 0 to {num_steps - 1} (num_steps - 1), got "
            f"{warmup_steps}"
        )
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup_steps else peak,
        peak_value=peak,
        warmup_steps=warmup_steps,
        decay_steps=num_steps,
        end_value=final,
    )


def matrices_only(params: chex.ArrayTree) -> chex.ArrayTree:
    """True at kernels, False at biases and normalisation scales (one axis or none)."""
    return jax.tree.map(lambda p: jnp.ndim(p) > 1, params)


class RateState(NamedTuple):
    """The learning rate of the newest step, for logs."""

    count: jax.Array
    learning_rate: jax.Array


def record_rate(schedule: optax.Schedule) -> optax.GradientTransformation:
    """Changes nothing; keeps a schedule's value in the state for `learning_rates`."""

    def init(params):
        del params
        return RateState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32))

    def update(updates, state, params=None):
        del params
        rate = jnp.asarray(schedule(state.count), jnp.float32)
        return updates, RateState(state.count + 1, rate)

    return optax.GradientTransformation(init, update)


def learning_rates(state: Any) -> dict[str, float]:
    """The learning rates that a state holds under this name, for logs.

    Optimisers of `make_optimizer` and of `optax.inject_hyperparams` hold them.

    Returns:
      {"learning_rate": ...}, with the number of each where there are several.
    """
    found = [x for _, x in optax.tree.get_all_with_path(state, "learning_rate")]
    found = [float(x) for x in jax.device_get(found) if jnp.ndim(x) == 0]
    if len(found) == 1:
        return {"learning_rate": found[0]}
    return {f"learning_rate/{i}": x for i, x in enumerate(found)}


def make_optimizer(
    name: str,
    *,
    learning_rate: float,
    num_steps: int,
    warmup_steps: int = 0,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """An optimiser with warm-up, cosine decay and weight decay on kernels only.

    Args:
      name: "sgd" (Nesterov off, decay added to the gradient), "adamw" (decay
        decoupled) or "lars" (trust ratio 0.001, biases and norms left out of both
        decay and adaptation).
      learning_rate: peak of the schedule.
      num_steps: length of the schedule.
      warmup_steps: linear warm-up.
      weight_decay: strength of the decay.
      momentum: of "sgd" and "lars".
      b1: decay of the first moment of "adamw".
      b2: decay of the second moment of "adamw".
      eps: added to the root of the second moment of "adamw".

    Raises:
      ValueError: an unknown name, a warm-up that is longer than the run.

    References:
      You et al. 2017, arXiv:1708.03888 (LARS); Chen et al. 2020, arXiv:2002.05709,
      appendix B.
    """
    schedule = warmup_cosine(learning_rate, num_steps, warmup_steps)
    if name == "sgd":
        tx = optax.chain(
            optax.add_decayed_weights(weight_decay, matrices_only),
            optax.sgd(schedule, momentum=momentum),
        )
    elif name == "adamw":
        tx = optax.adamw(
            schedule,
            b1=b1,
            b2=b2,
            eps=eps,
            weight_decay=weight_decay,
            mask=matrices_only,
        )
    elif name == "lars":
        tx = optax.lars(
            schedule,
            weight_decay=weight_decay,
            weight_decay_mask=matrices_only,
            trust_coefficient=0.001,
            trust_ratio_mask=matrices_only,
            momentum=momentum,
        )
    else:
        raise ValueError(f"optim.name: expected sgd, adamw or lars, got {name!r}")
    return optax.chain(tx, record_rate(schedule))
