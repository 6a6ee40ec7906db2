"""The objective of a step on many devices, and its gradient.

One convention: the objective is a sum over the rows that count of all devices, divided
by how many those are (or by the sum of their weights). So it is the same number, with
the same gradient, however a batch is split, also where devices have unequally many rows
that count: weights, masks, anchors without a positive. A mean over devices of each
one's mean would be another number.

`value_and_grad` takes care of it for what a step usually returns:

- a loss of this package, reduced by `jnp.mean` as by default: its sum and its count are
  added up over devices, each for itself;
- one reduced by `mean(axis_name)`, which says the same in the loss itself and so works
  anywhere, also for a number that is only looked at;
- one value per row, which all count; or `Mean(values, weights)`;
- a number that is the same on every device, as the losses of `parallel` return.

Any other number is taken as a mean over as many rows as the other devices have; one
that divides by something that may differ between devices is refused.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import Array

from contrastive_jax import numerics
from contrastive_jax.parallel.collectives import AxisName, pmean, psum
from contrastive_jax.parallel.tiles import vary_alike

# Collectives whose result is the same on every device.
SHARED = ("psum", "pmax", "pmin", "all_gather")
MEND = (
    "reduce with parallel.mean(axis_name), return parallel.Mean(values, weights) or "
    "one value per row, or sum over devices before dividing (parallel.psum)"
)


class Mean(NamedTuple):
    """What a step may return in place of a number: a mean that is yet to be taken.

        sum over devices of sum(weights * values) / sum over devices of sum(weights)

    0 where all weights are 0.

    Attributes:
      values: one per row, or this device's mean.
      weights: of the same shape: weights of the rows, a mask of those that count, or
        how many (or how much weight) the mean is taken over. 1 when None.

    Examples:
      >>> values, counts = jnp.array([1.0, 4.0]), jnp.array([1, 2])  # two devices
      >>> f = lambda w, *x: Mean(w * x[0], x[1])
      >>> run = jax.vmap(value_and_grad(f, "data"), (None, 0, 0), axis_name="data")
      >>> loss, grad = run(1.0, values, counts)
      >>> print(loss, grad)  # (1 + 2 * 4) / 3 on both
      [3. 3.] [3. 3.]
    """

    values: Array
    weights: Any = None


def mean(axis_name: AxisName) -> numerics.ReduceFn:
    """The reduction by which a loss is a mean over what counts of all devices.

    For the `reduce_fn` of any loss; `jnp.mean` without a device axis. It is weighted
    where the loss has weights. The result is the same on every device; its gradient is
    taken with `parallel.value_and_grad`.

    Examples:
      >>> x, where = jnp.array([[1.0, 9.0], [2.0, 3.0]]), jnp.array([[1, 0], [1, 1]])
      >>> run = lambda x, where: mean("data")(x, where=where)  # two devices
      >>> print(jax.vmap(run, axis_name="data")(x, where))  # (1 + 2 + 3) / 3
      [2. 2.]
    """
    return jnp.mean if axis_name is None else CountingMean(axis_name)


@dataclasses.dataclass(frozen=True)
class CountingMean:
    """`mean` over the devices of an axis.

    Attributes:
      axis_name: device axis.
      takes_weights: tells `numerics.safe_reduce` that there is `weights=`.
    """

    axis_name: str
    takes_weights: ClassVar[bool] = True

    def __call__(self, values: Any, *, where: Any = None, weights: Any = None) -> Array:
        """The mean of the values that count, by their weights."""
        values = numerics.at_least_f32(values, "values")
        counts = jnp.ones_like(values)
        if where is not None:
            where = jnp.asarray(where, bool)
            counts, values = where.astype(values.dtype), jnp.where(where, values, 0)
        if weights is not None:
            counts = jnp.where(counts > 0, jnp.asarray(weights, values.dtype), 0)
        return total_over_count(
            jnp.sum(counts * values), jnp.sum(counts), self.axis_name
        )


def total_over_count(total: Array, count: Array, axis_name: AxisName) -> Array:
    """Quotient of sums over devices; 0 where nothing counts."""
    return numerics.mean_of(*psum((total, count), axis_name))


def value_and_grad(
    loss_fn: Callable[..., Any], axis_name: AxisName, *, has_aux: bool = False
) -> Callable[..., Any]:
    """Like `jax.value_and_grad`, of the objective over the rows of all devices.

    Value and gradient are those of one device that sees all rows, under `pmap`, `vmap`
    and `shard_map` with and without `check_vma`: the mean over devices is taken of the
    loss inside of the differentiated function, and of the gradients after it.

    Args:
      loss_fn: function of (params, ...) that returns the loss, or (loss, aux). The loss
        is a number, one value per row, or a `Mean` (see the top of this module).
      axis_name: device axis, or None.
      has_aux: whether `loss_fn` returns aux besides the loss. A number in aux is
        averaged over devices (floating point) or taken as equal on all of them, a
        `Mean` is counted as in the loss, and arrays remain this device's own: what they
        hold one row each of is not mixed up, and what shall be averaged is handed
        through `parallel.pmean`.

    Returns:
      function returning ((loss, aux) or loss, gradients): loss, gradients and numbers
      in aux equal on every device.

    Raises:
      ValueError: (when called, on devices) a loss that is a quotient by a number that
        may differ between devices, such as a masked mean by hand; a mean over rows
        inside of a loop, a branch or `jax.checkpoint`. What the loss holds that is no
        argument and no number counts as different on each device.

    Examples:
      >>> from contrastive_jax import losses
      >>> def loss_fn(w, x, weights):
      ...     return losses.info_nce(w * x, weights=weights)
      >>> x = jnp.stack([jnp.eye(2), 2 * jnp.eye(2)])  # two devices
      >>> weights = jnp.array([[1.0, 0.0], [1.0, 1.0]])
      >>> run = value_and_grad(loss_fn, "data")
      >>> run = jax.vmap(run, (None, 0, 0), axis_name="data")
      >>> loss, grad = run(1.0, x, weights)
      >>> print(loss[0].round(4), grad[0].round(4))  # of all three rows
      0.189 -0.2486
    """

    def objective(params, *args):
        if axis_name is None:
            loss, aux = with_aux(loss_fn(params, *args), has_aux)
        else:
            loss, aux = means_over_devices(loss_fn, axis_name, has_aux, params, args)
        loss = reduced(loss, axis_name)
        if jnp.ndim(loss) != 0:
            raise ValueError(f"loss_fn: expected a number, got {type(loss).__name__}")
        return pmean(loss, axis_name), aux

    def run(params, *args):
        out, grads = jax.value_and_grad(objective, has_aux=True)(params, *args)
        loss, aux = out
        aux = jax.tree.map(
            lambda x: shared(x, axis_name), aux, is_leaf=lambda x: isinstance(x, Mean)
        )
        return (loss, aux) if has_aux else loss, pmean(grads, axis_name)

    return run


def with_aux(out: Any, has_aux: bool) -> tuple[Any, Any]:
    """(loss, aux) of what a `loss_fn` returns."""
    if not has_aux:
        return out, ()
    if not isinstance(out, tuple) or isinstance(out, Mean) or len(out) != 2:
        raise ValueError(f"loss_fn: expected (loss, aux), got {type(out).__name__}")
    return out


def reduced(loss: Any, axis_name: AxisName) -> Any:
    """One value per row, or a `Mean`, as a number; numbers as they are."""
    if not isinstance(loss, Mean):
        if jnp.ndim(loss) == 0:
            return loss
        loss = Mean(loss)
    values, weights = loss
    weights = jnp.ones_like(values) if weights is None else jnp.asarray(weights)
    if weights.shape != jnp.shape(values):
        raise ValueError(
            f"weights: expected shape {list(jnp.shape(values))}, got "
            f"{list(weights.shape)}"
        )
    weights = weights.astype(values.dtype)
    values = jnp.where(weights > 0, values, 0)  # a NaN of no weight leaves no trace
    return total_over_count(jnp.sum(weights * values), jnp.sum(weights), axis_name)


def shared(x: Any, axis_name: AxisName) -> Any:
    """A leaf of aux after the step, see `value_and_grad`."""
    if isinstance(x, Mean):
        return reduced(x, axis_name)
    number = jnp.ndim(x) == 0 and jnp.issubdtype(jnp.result_type(x), jnp.floating)
    return pmean(x, axis_name) if number else x


def means_over_devices(
    loss_fn: Callable[..., Any], axis_name: str, has_aux: bool, params: Any, args: Any
) -> tuple[Any, Any]:
    """(loss, aux) of this device, but with the means of losses over all devices.

    The loss is traced, and its program run with `numerics.mean_of` over devices in
    place of the one over this device's rows (`Run`).
    """

    def traced(params, args):
        return with_aux(loss_fn(params, *args), has_aux)

    program, shape = jax.make_jaxpr(traced, return_shape=True)(params, args)
    leaves, split = jax.tree.leaves((params, args)), jax.tree.leaves(args)
    differs = [False] * (len(leaves) - len(split)) + [jnp.ndim(x) > 0 for x in split]
    out, _ = Run(axis_name)(program, leaves, differs)
    return jax.tree.unflatten(jax.tree.structure(shape), out)


class Run:
    """Runs a traced program, and follows what may differ between devices.

    Parameters, numbers and constants are the same on all; other arrays differ until a
    collective makes them equal.

    Args:
      axis_name: device axis.
    """

    def __init__(self, axis_name: str):
        self.axis_name = axis_name

    def __call__(
        self, program: ClosedJaxpr, inputs: list[Any], differs: list[bool]
    ) -> tuple[list[Any], list[bool]]:
        """The results of the program, and whether they may differ."""
        jaxpr, env = program.jaxpr, {}

        def read(atom):
            return (atom.val, False) if isinstance(atom, Literal) else env[atom]

        for var, x in zip(jaxpr.constvars, program.consts, strict=True):
            array = jnp.asarray(x) if isinstance(x, np.ndarray) else x
            env[var] = array, isinstance(x, jax.core.Tracer) and jnp.ndim(x) > 0
        env.update(zip(jaxpr.invars, zip(inputs, differs, strict=True), strict=True))
        for eqn in jaxpr.eqns:
            read_in = [read(atom) for atom in eqn.invars]
            values, differ = [x for x, _ in read_in], [flag for _, flag in read_in]
            out, flags = self.apply(jaxpr, eqn, values, differ)
            env.update(zip(eqn.outvars, zip(out, flags, strict=True), strict=True))
        out = [read(atom) for atom in jaxpr.outvars]
        return [x for x, _ in out], [flag for _, flag in out]

    def apply(
        self, jaxpr: Jaxpr, eqn: Any, values: list[Any], differ: list[bool]
    ) -> tuple[list[Any], list[bool]]:
        """The results of one equation, and whether they may differ."""
        name, numbers = eqn.primitive.name, [v.aval.shape == () for v in eqn.outvars]
        inner = list(programs(eqn.params))
        if is_mean(eqn):
            if any(differ):
                total, count = values
                mean = total_over_count(total, count, self.axis_name)
                # As a type it varies, as what was traced in its place.
                return [vary_alike(mean, values)[0]], [False]
        elif name in ("jit", "pjit") and any(numbers):
            return self(inner[0], values, differ)
        elif any(map(holds_mean, inner)):
            raise ValueError(
                f"loss_fn: a loss is reduced by jnp.mean inside of {name}, where its "
                f"count is not at hand; {MEND}"
            )
        elif name == "div" and all(numbers) and differ[1]:
            raise ValueError(
                f"loss_fn: divides by a number that may differ between devices, so "
                f"that a mean over devices would be another loss; {MEND}"
            )
        out = evaluate(jaxpr, eqn, values)
        return out, [self.differs(eqn, differ)] * len(out)

    def differs(self, eqn: Any, differ: list[bool]) -> bool:
        """Whether the results of an equation may differ between devices."""
        axes = eqn.params.get("axes", eqn.params.get("axis_name", ()))
        axes = axes if isinstance(axes, tuple) else (axes,)
        if self.axis_name not in axes or eqn.primitive.name in ("pvary", "pcast"):
            return any(differ)  # a change of type only
        whole = eqn.params.get("axis_index_groups") is None
        return not (eqn.primitive.name.startswith(SHARED) and whole)


def evaluate(jaxpr: Jaxpr, eqn: Any, values: list[Any]) -> list[Any]:
    """The results of one equation of a program, run as a program of its own."""
    given = {
        v: x
        for v, x in zip(eqn.invars, values, strict=True)
        if not isinstance(v, Literal)
    }
    names = jaxpr.debug_info._replace(
        arg_names=("",) * len(given), result_paths=("",) * len(eqn.outvars)
    )
    alone = jaxpr.replace(
        constvars=[],
        invars=list(given),
        outvars=list(eqn.outvars),
        eqns=[eqn],
        effects=eqn.effects,
        debug_info=names,
    )
    return jax.core.eval_jaxpr(alone, [], *given.values())


def programs(params: dict[str, Any]) -> Any:
    """The programs inside of an equation: of a call, a loop, the branches."""
    for value in params.values():
        for x in value if isinstance(value, tuple | list) else (value,):
            if hasattr(x, "eqns") or hasattr(x, "jaxpr"):
                yield x


def is_mean(eqn: Any) -> bool:
    """Whether an equation is `numerics.mean_of` two numbers."""
    shapes = [v.aval.shape for v in (*eqn.invars, *eqn.outvars)]
    return eqn.params.get("name") == "mean_of" and shapes == [()] * 3


def holds_mean(program: Any) -> bool:
    """Whether there is a mean of numbers anywhere inside of a program."""
    return any(
        is_mean(eqn) or any(map(holds_mean, programs(eqn.params)))
        for eqn in getattr(program, "jaxpr", program).eqns
    )
