"""What the contract battery and the fuzz tests share: inputs, calls, comparisons."""

import inspect
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

N = 4
# Added to all scores: float32 then keeps three digits behind the point, or none.
OFFSETS = (1e4, 1e7)
SCORES = re.compile(r"(^|_)(logits|scores|cosines|energies|student)$")
# How programs are compiled outside of the tests (see `conftest.QUICK`).
AS_IN_RUNS: dict[str, Any] = {"xla_backend_optimization_level": 3}
if jax.__version_info__ < (0, 11):  # later versions do not know it
    AS_IN_RUNS["xla_cpu_use_fusion_emitters"] = True


class Out(NamedTuple):
    """What a loss returns for one set of inputs."""

    loss: Any
    each: Any
    grads: Any


def evaluate(case, each=False, **options):
    """Loss and gradients, as a function of the inputs, and losses of the anchors."""
    options, each = {**case.options, **options}, each and case.reduces

    def run(inputs):
        def of(wrt):
            return case.loss(**{**inputs, **wrt}, **options)

        wrt = {k: inputs[k] for k in case.grads}
        loss, grads = jax.value_and_grad(of)(wrt)
        every = case.loss(**inputs, **options, reduce_fn=None) if each else loss
        return Out(loss, every, grads)

    return run


def optimized_jit(f):
    return jax.jit(f, compiler_options=AS_IN_RUNS)


# Inputs, in numpy: compiling what makes them would take longer than the tests.


def variants(case):
    """Inputs of equal shape by name: usual ones, extreme ones, masked ones."""
    base = full_inputs(case)

    def floats(change):
        return {k: change(v) if k in case.grads else v for k, v in base.items()}

    n = axis_sizes(case, base).get("n", N)
    first = case.grads[0]
    out = {
        "base": base,
        "other": {**base, **make(case, seed=1)},
        "nan": {**base, first: np.full_like(base[first], np.nan)},
        "zero": floats(np.zeros_like),
        "identical": floats(lambda x: np.broadcast_to(x[:1], x.shape)),
        "large": floats(lambda x: np.float32(case.large) * x),
        "one label": {**base, **with_labels(case, base, np.zeros(n, np.int32))},
        "all labels differ": {
            **base,
            **with_labels(case, base, np.arange(n, dtype=np.int32)),
        },
    }
    if case.without_positives:
        out["no positives"] = case.without_positives(base)
    if case.where:
        where, garbage, _, _ = absent(case, make(case))
        out["masked"] = {**base, **garbage, "where": where}
        out["nothing"] = {**base, "where": np.zeros_like(where)}
    for offset in OFFSETS if offset_of(case) else ():
        out[f"offset {offset:.0e}"] = moved(case, base, offset)
    if offset_of(case):
        out["moved"] = moved(case, base, 3.0)
    for name in case.columns:
        for word, number in (("negative", -1), ("beyond", 10**6)):
            out[f"{word} {name}"] = with_column(case, base, name, number)
        out[f"without {name}"] = without_entry(case, base, name)
    if case.reduces:
        out["uneven"] = {**base, "weights": uneven_weights(case, base)}
        out["weightless"] = {**base, "weights": 0 * base["weights"]}
        picks = reorder(case, base)
        shuffled = {k: take(base[k], axes, picks) for k, axes in case.axes.items()}
        out["shuffled"] = {**base, **shuffled}
    return out


def make(case, n=N, seed=0, dtype=jnp.float32):
    """Valid inputs, floats in the given precision."""
    inputs = case.make(np.random.default_rng(seed), max(n, case.smallest))
    types = {"f": dtype, "i": np.int32, "b": np.bool_}
    return {
        k: np.asarray(v, types[np.asarray(v).dtype.kind]) for k, v in inputs.items()
    }


def full_inputs(case, n=N, seed=0, dtype=jnp.float32):
    """Valid inputs with a mask and weights under which everything counts the same."""
    inputs = make(case, n, seed, dtype)
    return {**inputs, **extras(case, inputs)}


def on_device(inputs):
    """The inputs of a loss that is called as it is."""
    return {k: jnp.asarray(v) for k, v in inputs.items()}


def fewer(case):
    """The inputs without what the mask leaves out; all where there is no mask."""
    less = absent(case, make(case))[2] if case.where else make(case)
    return {**less, **extras(case, less)}


def extras(case, inputs):
    """The mask and the weights under which everything counts the same."""
    sizes = axis_sizes(case, inputs)
    out = {}
    if case.where:
        out["where"] = np.ones([sizes[axis] for axis in case.where.split()], bool)
    if case.reduces:
        # As many as there are anchors: n, or 2n in two views.
        two_views = any("2n" in axes.split() for axes in case.axes.values())
        size = sizes["2n" if two_views else "n"]
        out["weights"] = np.ones(size, inputs[case.grads[0]].dtype)
    return out


def axis_sizes(case, inputs):
    """The size of every axis by its name."""
    sizes = {}
    for name, axes in case.axes.items():
        sizes.update(zip(axes.split(), inputs[name].shape, strict=True))
    for one, two in (("n", "2n"), ("m", "2m")):
        if one not in sizes and two in sizes:
            sizes[one] = sizes[two] // 2
        if one in sizes:
            sizes[two] = 2 * sizes[one]
    return sizes


def with_labels(case, inputs, labels):
    """The given labels in place of every argument with one integer per anchor."""
    return {
        k: labels
        for k, axes in case.axes.items()
        if axes == "n" and inputs[k].dtype.kind == "i"
    }


def numbers(case):
    """The hyperparameters of a case that are numbers: names and values."""
    given = {
        name: case.options.get(name, p.default)
        for name, p in inspect.signature(case.loss).parameters.items()
        if name not in case.axes
    }
    return {k: np.float32(v) for k, v in given.items() if isinstance(v, float)}


def offset_of(case):
    """The arguments to which a number is added: those of the case, or its scores."""
    return case.offset or tuple(k for k in case.grads if SCORES.search(k))


def moved(case, inputs, offset):
    """Inputs with a number added to all scores, as float32 holds them."""
    return {
        **inputs,
        **{k: inputs[k] + np.float32(offset) for k in offset_of(case)},
    }


def moved_back(case, inputs, offset):
    """In float64, what `moved` has left of the inputs, without the number."""
    rounded = {k: np.float32(inputs[k]) for k in offset_of(case)}
    rounded = moved(case, rounded, offset)
    return {**inputs, **{k: np.float64(v) - offset for k, v in rounded.items()}}


def with_column(case, inputs, name, number):
    """Inputs in which the second anchor has another number for its column."""
    x = inputs[name].copy()
    x[(1,) * x.ndim] = number
    return {**inputs, name: x}


def without_entry(case, inputs, name):
    """Inputs in which what that column belongs to does not count."""
    axes = case.axes[name]
    if case.where == axes:
        where = inputs["where"].copy()
        where[(1,) * where.ndim] = False
        return {**inputs, "where": where}
    if case.reduces:
        weights = inputs["weights"].copy()
        weights[1 :: inputs[name].shape[0]] = 0  # in both views
        return {**inputs, "weights": weights}
    return {**inputs, "where": inputs["where"] & (np.arange(N) != 1)[:, None]}


def uneven_weights(case, inputs):
    weights = extras(case, inputs)["weights"]
    return np.arange(1, weights.size + 1).astype(weights.dtype)


def reorder(case, inputs):
    """A permutation of the anchors, and the same of two views."""
    n = axis_sizes(case, inputs)["n"]
    order = np.random.default_rng(3).permutation(n)
    return {"n": order, "2n": np.concatenate([order, order + n])}


def absent(case, inputs):
    """One candidate (or anchor, where there are no others) left out in two ways.

    Returns:
      the mask without it; the inputs with something senseless in its place; the inputs
      without it; what is left of each axis.
    """
    sizes = axis_sizes(case, inputs)
    axis = "m" if "m" in case.where else "n"
    size = sizes[axis]
    left = np.arange(size) < size - 1
    left = {axis: left, f"2{axis}": np.tile(left, 2)}
    where = spread(left, case.where, sizes)
    garbage, less = {}, {}
    picks = {word: np.flatnonzero(kept) for word, kept in left.items()}
    for k, axes in case.axes.items():
        less[k] = take(inputs[k], axes, picks)
        if k in case.grads:
            kept = spread(left, axes, sizes)
            garbage[k] = np.where(kept, inputs[k], inputs[k].dtype.type(1e3))
    return where, garbage, less, picks


def spread(left, axes, sizes):
    """True at the entries of an array of those axes that are left."""
    words = axes.split()
    out = np.ones([sizes[word] for word in words], bool)
    for axis, word in enumerate(words):
        if word in left:
            shape = [-1 if i == axis else 1 for i in range(len(words))]
            out = out & left[word].reshape(shape)
    return out


def take(x, axes, picks):
    """The picked entries along the named axes of an array."""
    for axis, word in enumerate(axes.split()):
        if word in picks:
            x = np.take(x, picks[word], axis=axis)
    return x


def stack(trees):
    return jax.tree.map(lambda *xs: np.stack(xs), *trees)


def is_float(x):
    return jnp.issubdtype(x.dtype, jnp.floating)


def all_finite(tree):
    return all(np.isfinite(x).all() for x in jax.tree.leaves(tree))


def assert_zero(out):
    for x in jax.tree.leaves(out):
        np.testing.assert_array_equal(x, np.zeros_like(x))


def assert_close(got, want, rtol=1e-5):
    """Equal up to `rtol` of the largest entry of each array, and at least of 1."""
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(
            g, w, rtol=rtol, atol=rtol * max(np.abs(w).max(), 0.1)
        )
