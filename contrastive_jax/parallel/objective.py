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

Any other number is taken as a mean over as many rows as the other devices have (a sum
over rows is summed over devices by `parallel.psum`); one that divides by a number that
may differ between devices is refused.
"""

import dataclasses
from collections.abc import Callable, Iterable
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
# What a value comes from, as far as that may differ between devices (`Run`).
SAME, UNKNOWN, OWN = 0, 1, 2
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
        `Mean` is counted as in the loss, and arrays remain this device's own: average
        them by `parallel.pmean` where that is meant.

    Returns:
      function returning ((loss, aux) or loss, gradients): loss, gradients and numbers
      in aux equal on every device.

    A loss inside of `jax.vmap` is the mean of each of its batches on this device.

    Raises:
      ValueError: (when called, on devices) a division by a number that may differ
        between devices, such as a masked mean by hand: by one computed from arrays, or
        of such a number by one from outside of `loss_fn`; a loss inside of a loop, a
        branch or a function with a rule of its own, where its count is not at hand.

    Examples:
      >>> from contrastive_jax import losses
      >>> def loss_fn(w, x, weights):
      ...     return losses.info_nce(w * x, weights=weights)
      >>> x = jnp.stack([jnp.eye(2), 2 * jnp.eye(2)])  # two devices
      >>> weights = jnp.array([[1.0, 0.0], [1.0, 1.0]])
      >>> run = value_and_grad(loss_fn, "data")
      >>> run = jax.vmap(run, (None, 0, 0), axis_name="data")
      >>> loss, grad = run(1.0, x, weights)
      >>> print(f"{loss[0]:.4f} {grad[0]:.4f}")  # of all three rows
      0.1890 -0.2486
    """

    def objective(params, *args):
        if axis_name is None:
            loss, aux = with_aux(loss_fn(params, *args), has_aux)
        else:
            loss, aux = means_over_devices(loss_fn, axis_name, has_aux, params, args)
        return pmean(reduced(loss, axis_name), axis_name), aux

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
        out = out, ()
    elif not isinstance(out, tuple) or isinstance(out, Mean) or len(out) != 2:
        raise ValueError(f"loss_fn: expected (loss, aux), got {type(out).__name__}")
    loss = out[0]
    if not (isinstance(loss, Mean) or jax.tree_util.all_leaves([loss])):
        raise ValueError(
            f"loss_fn: expected a number, one value per row or a Mean, got "
            f"{type(loss).__name__}"
        )
    return out


def reduced(loss: Any, axis_name: AxisName) -> Any:
    """One value per row, or a `Mean`, as a number; numbers as they are."""
    if not isinstance(loss, Mean):
        if jnp.ndim(loss) == 0:
            return loss
        loss = Mean(loss)
    values, weights = jnp.asarray(loss.values), loss.weights
    values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    weights = jnp.ones_like(values) if weights is None else jnp.asarray(weights)
    if weights.shape != values.shape:
        raise ValueError(
            f"weights: expected shape {list(values.shape)}, got {list(weights.shape)}"
        )
    weights = weights.astype(values.dtype)
    values = jnp.where(weights > 0, values, 0)  # a NaN of no weight leaves no trace
    return total_over_count(jnp.sum(weights * values), jnp.sum(weights), axis_name)


def shared(x: Any, axis_name: AxisName) -> Any:
    """A leaf of aux after the step, see `value_and_grad`."""
    if isinstance(x, Mean):
        return reduced(x, axis_name)
    if axis_name is None:
        return x
    kind = jax.typeof(x)
    number = kind.shape == () and jnp.issubdtype(kind.dtype, jnp.floating)
    return pmean(x, axis_name) if number else x


def means_over_devices(
    loss_fn: Callable[..., Any], axis_name: str, has_aux: bool, params: Any, args: Any
) -> tuple[Any, Any]:
    """(loss, aux) of this device, but with the means of losses over all devices.

    The loss is traced, and its program run with `numerics.mean_of` over devices in
    place of the one over this device's rows (`Run`).
    """

    def traced(params):
        return with_aux(loss_fn(params, *args), has_aux)

    program, shape = jax.make_jaxpr(traced, return_shape=True)(params)
    leaves = jax.tree.leaves(params)
    out, _ = Run(axis_name)(program, leaves, [SAME] * len(leaves))
    return jax.tree.unflatten(jax.tree.structure(shape), out)


class Run:
    """Runs a traced program, and follows what may differ between devices.

    Parameters and constants are the SAME on all devices; arrays from outside are each
    device's OWN until a collective makes them equal; of a number from outside (the
    step, a count) it is UNKNOWN.

    Args:
      axis_name: device axis.
    """

    def __init__(self, axis_name: str):
        self.axis_name = axis_name

    def __call__(
        self, program: ClosedJaxpr, inputs: list[Any], origins: list[int]
    ) -> tuple[list[Any], list[int]]:
        """The results of the program, and where they come from."""
        jaxpr, env = program.jaxpr, {}

        def read(atom):
            return (atom.val, SAME) if isinstance(atom, Literal) else env[atom]

        for var, x in zip(jaxpr.constvars, program.consts, strict=True):
            array = jnp.asarray(x) if isinstance(x, np.ndarray) else x
            env[var] = array, origin(x)
        env.update(zip(jaxpr.invars, zip(inputs, origins, strict=True), strict=True))
        for eqn in jaxpr.eqns:
            values, given = map(list, unzip(read(atom) for atom in eqn.invars))
            out, origins = self.apply(jaxpr, eqn, values, given)
            env.update(zip(eqn.outvars, zip(out, origins, strict=True), strict=True))
        return unzip(read(atom) for atom in jaxpr.outvars)

    def apply(
        self, jaxpr: Jaxpr, eqn: Any, values: list[Any], origins: list[int]
    ) -> tuple[list[Any], list[int]]:
        """The results of one equation, and where they come from."""
        name, inner = eqn.primitive.name, list(programs(eqn.params))
        if is_mean(eqn):
            if any(origins):
                total, count = values
                mean = total_over_count(total, count, self.axis_name)
                # As a type it varies, as what was traced in its place.
                return [vary_alike(mean, values)[0]], [SAME]
        elif name in ("jit", "pjit"):
            return self(inner[0], values, origins)
        elif name == "remat2" and holds_mean(inner[0]):
            return self.checkpointed(eqn, values, origins)
        elif any(map(holds_mean, inner)):
            raise ValueError(
                f"loss_fn: a loss is reduced by jnp.mean inside of {name}, where its "
                f"count is not at hand; {MEND}"
            )
        elif divides(eqn, origins):
            raise ValueError(
                f"loss_fn: divides by a number that may differ between devices, so "
                f"that a mean over devices would be another loss; {MEND}"
            )
        out = evaluate(jaxpr, eqn, values)
        return out, [self.origin(eqn, origins)] * len(out)

    def checkpointed(
        self, eqn: Any, values: list[Any], origins: list[int]
    ) -> tuple[list[Any], list[int]]:
        """`apply` of a `jax.checkpoint`."""
        found = []

        def run(*values):
            program = ClosedJaxpr(eqn.params["jaxpr"], ())
            out, found[:] = self(program, list(values), origins)
            return out

        options = {name: eqn.params[name] for name in ("policy", "prevent_cse")}
        return jax.checkpoint(run, **options)(*values), found

    def origin(self, eqn: Any, origins: list[int]) -> int:
        """Where the results of an equation come from."""
        axes = eqn.params.get("axes", eqn.params.get("axis_name", ()))
        axes = axes if isinstance(axes, tuple) else (axes,)
        if self.axis_name not in axes or eqn.primitive.name in ("pvary", "pcast"):
            return max(origins, default=SAME)  # a change of type only
        whole = eqn.params.get("axis_index_groups") is None
        return SAME if eqn.primitive.name.startswith(SHARED) and whole else OWN


def origin(x: Any) -> int:
    """Where an array comes from that a program holds."""
    if not isinstance(x, jax.core.Tracer):
        return SAME
    return OWN if jnp.ndim(x) > 0 else UNKNOWN


def divides(eqn: Any, origins: list[int]) -> bool:
    """Whether an equation divides by a number that may differ between devices."""
    if eqn.primitive.name not in ("div", "integer_pow") or eqn.invars[-1].aval.shape:
        return False
    if eqn.primitive.name == "integer_pow":
        return eqn.params["y"] < 0 and origins[0] == OWN
    own = eqn.invars[0].aval.shape == () and origins[0] == OWN
    return origins[1] == OWN or (own and origins[1] == UNKNOWN)


def unzip(both: Iterable[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    """Two lists of a list of pairs."""
    both = list(both)
    return [x for x, _ in both], [y for _, y in both]


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
    """Whether an equation is `numerics.mean_of` two numbers.

    The programs that its derivative is made of have its name, but do not compare.
    """
    if eqn.params.get("name") != "mean_of":
        return False
    shapes = [v.aval.shape for v in (*eqn.invars, *eqn.outvars)]
    steps = [inner.primitive.name for inner in eqn.params["jaxpr"].eqns]
    return shapes == [()] * 3 and "gt" in steps


def holds_mean(program: Any) -> bool:
    """Whether there is a mean of numbers anywhere inside of a program."""
    return any(
        is_mean(eqn) or any(map(holds_mean, programs(eqn.params)))
        for eqn in getattr(program, "jaxpr", program).eqns
    )
