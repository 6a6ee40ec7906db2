"""One contract for every loss of `losses`, `ebm` and `methods` (see `cases.Case`).

Compiling takes nearly all of the time. So all inputs of equal shape run as one batch,
all cases of one module are compiled together (`together`), and only one program of
each (`shorter`) is optimized as in runs; each test then looks at what came out for one
case.
"""

import functools
import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

from contrastive_jax import ebm, losses, methods, parallel

from . import fuzz
from .battery import (
    OFFSETS,
    Out,
    absent,
    all_finite,
    assert_close,
    assert_zero,
    evaluate,
    fewer,
    full_inputs,
    is_float,
    make,
    moved_back,
    numbers,
    offset_of,
    on_device,
    optimized_jit,
    reorder,
    stack,
    take,
    uneven_weights,
    variants,
    with_column,
)
from .cases import all_cases, all_groups, all_helpers

CASES = all_cases()
GROUPS = all_groups()
GATHERED = [name for name, case in CASES.items() if case.gathered]
OTHERS = [name for name in CASES if name not in GATHERED]
SPLIT = PartitionSpec("data")
FUZZED = fuzz.drawn(8)
IN_EVERY_MAPPER = [f"{__package__}.cases_{name}" for name in ("in_batch", "ebm")]
# These scale the rows of their embeddings to length 1.
OF_DIRECTIONS = (
    "byol",
    "simsiam",
    "simsiam/two_sided",
    "cosine_similarity_mse",
    "angle_loss",
)

# Numbers that may not be traced: with IPO there is no smoothing, which raises.
STATIC = {"dpo/ipo": ("label_smoothing",)}
every_loss = pytest.mark.parametrize("name", CASES)


def corners(case):
    """Options under which a loss must stay finite."""
    named = inspect.signature(case.loss).parameters
    cold = [{"temperature": 1e-3}] if "temperature" in named else []
    return [*case.corners, *cold]


def test_every_exported_loss_has_a_case():
    listed = {name.split("/")[0] for name in CASES} | all_helpers()
    estimators = {entry.name for entry in losses.catalogue.entries(ebm)}
    of_methods = {name for method in methods.modules() for name in method.__all__}
    assert listed == set(losses.__all__) | estimators | of_methods


def test_every_case_names_its_loss():
    for name, case in CASES.items():
        assert case.loss.__name__ == name.split("/")[0]


@every_loss
def test_eager_equals_jit_and_vmap(name):
    case, results = CASES[name], results_of(name)
    eager = case.loss(**on_device(make(case, seed=1)), **case.options)
    assert eager.dtype == jnp.float32
    assert_close(results.other.loss, eager)
    # Without vmap: the inputs less one candidate where that can be compared.
    same = results.masked if case.where else results.base
    assert_close(result(shorter, name).loss, same.loss)
    assert results.base.loss != results.other.loss, "the two batches do not differ"


def in_mappers(names, usual=()):
    """Each loss in the usual mappers, of a few modules in both; the rest on demand."""
    both = {name for group in IN_EVERY_MAPPER for name in GROUPS[group]}
    on_demand = pytest.mark.experiments
    cases = [
        pytest.param(
            name, mapper, marks=() if name in both or mapper in usual else on_demand
        )
        for mapper in ("pmap", "shard_map")
        for name in names
    ]
    return pytest.mark.parametrize(("name", "mapper"), cases)


@in_mappers(OTHERS, usual=("pmap",))
def test_separate_batches_in_a_mapper(name, mapper):
    # The losses with a global form run in the test below.
    results = results_of(name)
    want = [results.base.loss, results.other.loss]
    assert_close(list(result(separate, name, mapper)), want)


@in_mappers(GATHERED)
def test_global_form_on_eight_devices_equals_one_device(name, mapper):
    # With weights and masks: test_devices.
    want = result(in_common, name, "jit")
    assert np.abs(want[1]).max() > 0
    assert_close(result(in_common, name, mapper), want, rtol=1e-4)


@every_loss
def test_gradient_equals_finite_differences_and_float64_is_kept(name):
    case, (out, directions, step) = CASES[name], result(in_float64, name)
    assert out.loss.dtype == jnp.float64
    np.testing.assert_allclose(
        out.loss[0], results_of(name).base.loss, rtol=2e-4, atol=2e-5
    )
    for i, direction in enumerate(directions):
        got = (out.loss[2 * i + 1] - out.loss[2 * i + 2]) / (2 * step)
        want = sum(np.sum(out.grads[k][0] * direction[k]) for k in case.grads)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)


@every_loss
def test_extreme_inputs_are_finite_and_nan_is_not_hidden(name):
    results = results_of(name)
    for what, out in results.extremes.items():
        assert all_finite(out), f"{what}: {out}"
    if CASES[name].without_positives:
        assert_zero(results.extremes["no positives"])
    assert np.isnan(results.nan.loss), "a NaN in the input is hidden"
    first = CASES[name].grads[0]
    assert np.isnan(results.nan.grads[first]).any(), (
        "a NaN leaves no trace in gradients"
    )


@every_loss
def test_random_inputs(name):
    # More of them in test_fuzz.
    case, out = CASES[name], result(batched, name)
    first = len(variants(case))
    out = jax.tree.map(lambda x: x[first:], out)
    fuzz.check_all(case, FUZZED, fuzzed(name), out)


@pytest.mark.parametrize("name", OF_DIRECTIONS)
def test_length_of_rows_does_not_matter(name):
    case = CASES[name]
    given, rng = make(case), np.random.default_rng(5)
    scaled = {
        k: given[k] * 10 ** rng.uniform(-3, 3, (len(given[k]), 1)).astype(np.float32)
        for k in case.grads
    }
    call = functools.partial(case.loss, **case.options)
    want = call(**on_device(given))
    assert abs(want) > 0.01
    assert_close(call(**on_device({**given, **scaled})), want)


@every_loss
def test_one_anchor_is_finite(name):
    out = result(single, name)
    assert all_finite(out), out


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if corners(case)])
def test_corners_of_the_options_are_finite(name):
    for corner, out in zip(corners(CASES[name]), result(cornered, name), strict=True):
        assert all_finite(out), f"{corner}: {out}"


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.where])
def test_masked_is_as_if_absent_and_nothing_left_gives_zero(name):
    case, results = CASES[name], results_of(name)
    _, _, _, picks = absent(case, make(case))
    want = result(shorter, name)
    assert_close(results.masked.loss, want.loss)
    kept = {k: take(v, case.axes[k], picks) for k, v in results.masked.grads.items()}
    assert_close(kept, want.grads)
    for k, v in results.masked.grads.items():
        # All of the gradient is at what is left.
        np.testing.assert_allclose(np.abs(v).sum(), np.abs(kept[k]).sum(), rtol=1e-5)
    assert results.masked.loss != results.base.loss, "the mask makes no difference"
    assert_zero(results.nothing)


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.reduces])
def test_reductions_weights_and_permutation(name):
    case, results = CASES[name], results_of(name)
    inputs, each = on_device(make(case)), results.base.each
    total = case.loss(**inputs, **case.options, reduce_fn=jnp.sum)
    np.testing.assert_allclose(each.sum(), total, rtol=1e-5, atol=1e-5)
    assert_close(case.loss(**inputs, **case.options), results.base.loss)
    np.testing.assert_allclose(
        results.uneven.each,
        (uneven_weights(case, inputs) * each.T).T,
        rtol=1e-5,
        atol=1e-6,
    )
    assert_zero(results.weightless)
    if case.permutes:
        order = reorder(case, inputs)
        rows = order["n"] if len(each) == len(order["n"]) else order["2n"]
        np.testing.assert_allclose(
            results.shuffled.each, each[rows], rtol=1e-5, atol=1e-5
        )
    np.testing.assert_allclose(
        results.shuffled.loss, results.base.loss, rtol=1e-5, atol=1e-5
    )


def asked(names):
    """The cases that a law is asked of."""
    return pytest.mark.parametrize("name", names)


def integers(case):
    """The integer arguments of a case."""
    return [k for k, x in make(case).items() if x.dtype.kind == "i"]


@asked([n for n, case in CASES.items() if integers(case)])
def test_a_number_that_is_no_column_drops_its_anchor_or_raises(name):
    case, results, base = CASES[name], results_of(name), full_inputs(CASES[name])
    call = functools.partial(case.loss, **case.options)
    for k in integers(case):
        negative = on_device(with_column(case, base, k, -1))
        if k not in case.columns:
            assert np.isfinite(call(**negative)), f"{k} is a column: Case.columns"
            continue
        want = results.extremes[f"without {k}"]
        assert abs(want.loss - results.base.loss) > 1e-6
        for what in ("negative", "beyond"):
            got = results.extremes[f"{what} {k}"]
            assert_close((got.loss, got.grads), (want.loss, want.grads))
            if case.reduces:
                assert_close(got.each, want.each)
        for wrong in (negative, on_device(with_column(case, base, k, 10**6))):
            with pytest.raises(ValueError, match=rf"^{k}: "):
                call(**wrong)


@asked([n for n, case in CASES.items() if integers(case)])
def test_integers_of_any_width_are_equal_and_those_that_do_not_fit_raise(
    name, without_type_hooks
):
    case, inputs = CASES[name], make(CASES[name])
    call = functools.partial(case.loss, **case.options)
    want = call(**on_device(inputs))
    for k in integers(case):
        for dtype in (np.int8, np.uint8, np.int64):
            if np.array_equal(inputs[k].astype(dtype), inputs[k]):
                others = on_device({**inputs, k: inputs[k].astype(dtype)})
                np.testing.assert_array_equal(call(**others), want)
        wide = np.full(inputs[k].shape, 2**32, np.int64) + inputs[k]
        with pytest.raises(ValueError, match=rf"^{k}: "):
            call(**{**on_device(inputs), k: wide})


@asked([n for n, case in CASES.items() if numbers(case)])
def test_numbers_traced_equal_plain_ones_and_nan_raises(name, without_type_hooks):
    # Nearly all programs of this file trace the numbers (`batched`).
    case, results = CASES[name], results_of(name)
    inputs = on_device(make(case))
    assert_close(results.base.loss, case.loss(**inputs, **case.options))
    for k in numbers(case):
        with pytest.raises(ValueError, match=rf"^{k}: "):
            case.loss(**inputs, **{**case.options, k: np.nan})


@asked([n for n, case in CASES.items() if offset_of(case)])
def test_a_number_added_to_all_scores_costs_no_digits(name):
    case, results = CASES[name], results_of(name)
    unchanged = np.isclose(
        results.extremes["moved"].loss, results.base.loss, rtol=1e-4, atol=1e-5
    )
    if case.offset:
        assert unchanged, "changes with a number added to all scores"
    if unchanged:
        for i, offset in enumerate(OFFSETS):
            got = results.extremes[f"offset {offset:.0e}"]
            want = jax.tree.map(
                lambda x, i=i: x[i - len(OFFSETS)], result(in_float64, name)[0]
            )
            assert_close(got.loss, want.loss)
            assert_close(got.grads, want.grads)


@every_loss
def test_half_precision_is_computed_in_float32(name):
    case = CASES[name]
    for dtype in (jnp.bfloat16, jnp.float16):
        half = on_device(make(case, dtype=dtype))
        single = {
            k: v.astype(jnp.float32) if is_float(v) else v for k, v in half.items()
        }
        got = case.loss(**half, **case.options)
        assert got.dtype == jnp.float32
        want = case.loss(**single, **case.options)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@every_loss
def test_bad_input_raises_and_names_the_argument(name, without_type_hooks):
    case = CASES[name]
    loss = functools.partial(case.loss, **case.options)
    inputs, full = on_device(make(case)), on_device(full_inputs(case))
    for key, x in inputs.items():
        wrong = x.astype(jnp.int32 if is_float(x) else jnp.float32)
        with pytest.raises(TypeError, match=rf"^{key}: "):
            loss(**{**inputs, key: wrong})
        with pytest.raises(ValueError, match=rf"^{key}: "):
            loss(**{**inputs, key: x[None]})
        with pytest.raises(ValueError, match=r"^\w+: "):
            loss(**{**inputs, key: x[:0]})
    for key in set(full) - set(inputs):
        with pytest.raises(ValueError, match=rf"^{key}: "):
            loss(**{**inputs, key: full[key][None]})
    if case.where:
        with pytest.raises(TypeError, match=r"^where: "):
            loss(**{**inputs, "where": full["where"].astype(jnp.int32)})


# What the tests above compare: a loss, its anchors' losses and its gradients.


class Results(NamedTuple):
    """What a loss returns for many inputs of equal shape."""

    base: Out
    other: Out
    nan: Out
    extremes: dict[str, Out]
    masked: Out | None
    nothing: Out | None
    shuffled: Out | None
    uneven: Out | None
    weightless: Out | None


def together(names, run, inputs, mapper=jax.jit):
    """`run(case, inputs)` for many cases, compiled together.

    A case that raises has the exception for its result.
    """
    errors = {}

    def attempt(run, names):
        out = {}
        for name in names:
            try:
                out[name] = run(name)
            except Exception as error:
                errors[name] = error
        return out

    def program(given):
        return attempt(lambda name: run(CASES[name], given[name]), given)

    out = mapper(program)(attempt(lambda name: inputs(CASES[name]), names))
    return {**jax.tree.map(np.asarray, out), **errors}


def result(compute, name, *args):
    """What one of the functions below holds for one case."""
    group = next(group for group, names in GROUPS.items() if name in names)
    out = compute(group, *args)[name]
    if isinstance(out, Exception):
        raise out
    return out


@functools.cache
def fuzzed(name):
    """The random inputs of one case."""
    return [fuzz.inputs(CASES[name], example) for example in FUZZED]


@functools.cache
def batched(group):
    """All variants and random inputs of each case, as one batch, numbers traced."""

    def run(case, given):
        inputs, traced = given
        return jax.vmap(evaluate(case, each=True, **traced))(inputs)

    def inputs(case):
        name = next(name for name, other in CASES.items() if other is case)
        plain = STATIC.get(name, ())
        traced = {k: v for k, v in numbers(case).items() if k not in plain}
        every = stack([*variants(case).values(), *fuzz.stacked(fuzzed(name))])
        return every, traced

    return together(GROUPS[group], run, inputs)


def alone(case, inputs):
    return evaluate(case)(inputs)


@functools.cache
def single(group):
    """Each case with one anchor."""
    return together(GROUPS[group], alone, lambda case: full_inputs(case, n=1))


@functools.cache
def shorter(group):
    """Each case without what the mask leaves out."""
    return together(GROUPS[group], alone, fewer, optimized_jit)


@functools.cache
def cornered(group):
    """Each case under each of its corners."""

    def run(case, inputs):
        return [evaluate(case, **corner)(inputs) for corner in corners(case)]

    return together(GROUPS[group], run, full_inputs)


@functools.cache
def in_float64(group):
    """Each case at points around the inputs, the directions to them, the step.

    The last points are those that `moved` inputs stand for.
    """
    step = 1e-6

    def points(case):
        inputs, out = full_inputs(case, dtype=jnp.float64), []
        for direction in directions(case):
            for size in (step, -step):
                moved = {k: inputs[k] + size * v for k, v in direction.items()}
                out.append({**inputs, **moved})
        if offset_of(case):
            out += [moved_back(case, inputs, offset) for offset in OFFSETS]
        return stack([inputs, *out])

    def directions(case):
        rng, inputs = np.random.default_rng(7), make(case)
        shapes = {k: inputs[k].shape for k in case.grads}
        return [{k: rng.normal(size=v) for k, v in shapes.items()} for _ in range(3)]

    def run(case, inputs):
        return jax.vmap(evaluate(case))(inputs)

    with jax.enable_x64(True):
        out = together(GROUPS[group], run, points)
    return {
        name: o if isinstance(o, Exception) else (o, directions(CASES[name]), step)
        for name, o in out.items()
    }


@functools.cache
def separate(group, mapper):
    """Two batches of each case, each on its own device."""
    names = [name for name in GROUPS[group] if name in OTHERS]

    def run(case, inputs):
        return case.loss(**inputs, **case.options)

    def inputs(case):
        return stack([make(case), make(case, seed=1)])

    if mapper == "pmap":
        return together(names, run, inputs, lambda f: jax.pmap(f, devices=devices(2)))

    def local(case, inputs):
        return run(case, jax.tree.map(lambda x: x[0], inputs))[None]

    return together(names, local, inputs, lambda f: shard_map(f, 2))


@functools.cache
def in_common(group, mapper):
    """Loss and gradient of the global form of each case: 16 examples, all devices."""
    names = [name for name in GROUPS[group] if name in GATHERED]
    rng = np.random.default_rng(5)
    batch = {k: jnp.asarray(rng.normal(size=(16, 3)), jnp.float32) for k in ("a", "b")}
    params = jnp.asarray(rng.normal(size=(3, 3)), jnp.float32)
    axis_name = None if mapper == "jit" else "data"

    def run(case, batch):
        rows = parallel.global_rows(batch["a"].shape[0], axis_name)
        gather = functools.partial(parallel.all_gather, axis_name=axis_name)

        def loss_fn(params):
            a, b = (jnp.tanh(batch[k] @ params) for k in ("a", "b"))
            inputs = case.gathered(a, b, gather, rows)
            return case.loss(**inputs, **case.options)

        return parallel.value_and_grad(loss_fn, axis_name)(params)

    if mapper == "jit":
        return together(names, run, lambda case: batch)
    if mapper == "shard_map":
        return together(
            names, run, lambda case: batch, lambda f: shard_map(f, 8, PartitionSpec())
        )
    shards = jax.tree.map(lambda x: x.reshape(8, 2, 3), batch)
    return together(
        names, run, lambda case: shards, lambda f: jax.pmap(f, "data", out_axes=None)
    )


def devices(count):
    return jax.devices()[:count]


def shard_map(f, count, out_specs=SPLIT):
    mesh = Mesh(np.array(devices(count)), ("data",), axis_types=(AxisType.Auto,))
    return jax.jit(
        jax.shard_map(
            f,
            mesh=mesh,
            in_specs=SPLIT,
            out_specs=out_specs,
            check_vma=False,
        )
    )


@functools.cache
def results_of(name):
    """The results of one loss for all inputs of the usual shape."""
    out = result(batched, name)
    outs = {
        k: jax.tree.map(lambda x, i=i: x[i], out)
        for i, k in enumerate(variants(CASES[name]))
    }
    return Results(
        extremes={k: v for k, v in outs.items() if k not in Results._fields[1:]},
        **{k: outs.get(k) for k in Results._fields if k != "extremes"},
    )
