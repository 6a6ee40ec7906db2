"""Exponential moving averages of parameter trees, and schedules of their decay.

Averages are kept in at least float32: in half precision a step of (1 - decay) of the
way is rounded off, and the average stands still.
"""

import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, PyTree

from contrastive_jax import numerics


def ema_init(online: PyTree) -> PyTree:
    """The start of a moving average of a tree: a copy in at least float32.

    Leaves that are not floating-point keep their type.

    Args:
      online: the first values.

    Examples:
      >>> ema_init({"w": jnp.ones(1, jnp.bfloat16)})
      {'w': Array([1.], dtype=float32)}
    """

    def start(x):
        floating = jnp.issubdtype(jnp.result_type(x), jnp.floating)
        return jnp.array(numerics.at_least_f32(x) if floating else x)

    return jax.tree.map(start, online)


def ema_update(target: PyTree, online: PyTree, *, decay: float | Array) -> PyTree:
    """One step of an exponential moving average of a tree.

        target <- decay target + (1 - decay) online

    Unlike `optax.incremental_update`, floating-point leaves come back in the target's
    dtype and at least float32 (begin with `ema_init`, whose types stay as they are),
    all other leaves (counters, random keys) are copied from `online`, and no gradient
    passes.

    Args:
      target: the moving average.
      online: new values, a tree of the same structure and shapes.
      decay: in [0, 1]; 1 keeps the target and 0 copies, whatever the other holds.

    Raises:
      ValueError: trees of different structure or shapes.

    Examples:
      >>> ema_update({"w": jnp.array([1.0])}, {"w": jnp.array([3.0])}, decay=0.75)
      {'w': Array([1.5], dtype=float32)}

    References:
      He et al. 2020, arXiv:1911.05722, eq. 2; Grill et al. 2020, arXiv:2006.07733,
      eq. 1.
    """
    numerics.check_fraction(decay=decay)

    def update(path, old, new):
        if jnp.shape(old) != jnp.shape(new):
            raise ValueError(
                f"online{jax.tree_util.keystr(path)}: expected shape "
                f"{list(jnp.shape(old))} as in target, got {list(jnp.shape(new))}"
            )
        if not jnp.issubdtype(jnp.result_type(old), jnp.floating):
            return jax.lax.stop_gradient(new)
        old = numerics.at_least_f32(old)
        new = jnp.asarray(new, old.dtype)
        return jax.lax.stop_gradient(blend(old, new, jnp.asarray(decay, old.dtype)))

    if jax.tree.structure(target) != jax.tree.structure(online):
        raise ValueError(
            f"online: expected the structure of target, {jax.tree.structure(target)}, "
            f"got {jax.tree.structure(online)}"
        )
    return jax.tree_util.tree_map_with_path(update, target, online)


def blend(
    old: Float[Array, "*shape"], new: Float[Array, "*shape"], decay: Array
) -> Float[Array, "*shape"]:
    """decay old + (1 - decay) new; at 1 and 0 one of them, whatever the other holds."""
    mean = decay * old + (1 - decay) * new
    return jnp.where(decay == 1, old, jnp.where(decay == 0, new, mean))


def ema_schedule(
    progress: float | Float[Array, "..."],
    *,
    base: float | Array,
    final: float | Array = 1.0,
) -> Float[Array, "..."]:
    """Cosine schedule from `base` to `final`: the EMA decay of BYOL, MoCo v3 and DINO.

        value = final - (final - base) (1 + cos(pi progress)) / 2

    Args:
      progress: fraction of the training that is done, clipped to [0, 1].
      base: value at 0.
      final: value at 1.

    Examples:
      >>> [round(float(ema_schedule(p, base=0.9)), 4) for p in (0.0, 0.5, 1.0)]
      [0.9, 0.95, 1.0]

    References:
      Grill et al. 2020, arXiv:2006.07733, section 3.2; Chen et al. 2021,
      arXiv:2104.02057; Caron et al. 2021, arXiv:2104.14294.
    """
    progress = jnp.clip(jnp.asarray(progress, float), 0, 1)
    return final - (final - base) * (1 + jnp.cos(jnp.pi * progress)) / 2


def cosine_schedule(
    step: int | Integer[Array, "..."],
    *,
    num_steps: int | Array,
    base: float | Array,
    final: float | Array = 1.0,
    warmup_steps: int | Array = 0,
    start: float | Array = 0.0,
) -> Float[Array, "..."]:
    """Linear warm-up from `start` to `base`, then a cosine schedule to `final`.

        value = start + (base - start) step / (warmup_steps - 1)    in the warm-up
                ema_schedule((step - warmup_steps) / (num_steps - warmup_steps))

    DINO's schedule of the EMA decay, the weight decay and the teacher temperature.
    Unlike optax's, it may rise, and as in DINO's code the warm-up ends one step early:
    `base` is the value of its last step and of the step after it. `final` would be the
    value at step `num_steps`.

    Args:
      step: number of the step, from 0.
      num_steps: steps of the training, warm-up included.
      base: the value after the warm-up.
      final: the value at the end.
      warmup_steps: steps of the warm-up, 0 to num_steps; a single one has `start`.
      start: the value at step 0 of a warm-up.

    Raises:
      ValueError: a number of steps out of range.

    Examples:
      >>> steps = jnp.arange(6)
      >>> options = dict(num_steps=6, base=1.0, final=0.0, warmup_steps=2)
      >>> [round(float(v), 2) for v in cosine_schedule(steps, **options)]
      [0.0, 1.0, 1.0, 0.85, 0.5, 0.15]

    References:
      Caron et al. 2021, arXiv:2104.14294, section 3.2 and its code's cosine scheduler.
    """
    numerics.check_positive(num_steps=num_steps)
    traced = any(isinstance(x, jax.core.Tracer) for x in (num_steps, warmup_steps))
    if not traced and not 0 <= warmup_steps <= num_steps:
        raise ValueError(
            f"warmup_steps: expected 0 to {num_steps} (num_steps), got {warmup_steps}"
        )
    step = jnp.asarray(step)
    progress = (step - warmup_steps) / jnp.maximum(num_steps - warmup_steps, 1)
    line = start + (base - start) * step / jnp.maximum(warmup_steps - 1, 1)
    cosine = ema_schedule(progress, base=base, final=final)
    return jnp.where(step < warmup_steps, line, cosine)
