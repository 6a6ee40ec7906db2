"""Outputs and gradients of the reference implementations (`golden/*.json`, `*.npz`).

The adapters only rename and compose. The first cases of one function are compiled
together, and with --experiments the others.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden_adapters

GOLDEN = pathlib.Path(__file__).parent / "golden"


@functools.cache
def load(slug):
    """The cases of one collection by function, and its arrays."""
    functions = {}
    for case in json.loads((GOLDEN / f"{slug}.json").read_text())["cases"]:
        functions.setdefault(case["function"], []).append(case)
    return functions, np.load(GOLDEN / f"{slug}.npz", allow_pickle=False)


SLUGS = sorted(path.stem for path in GOLDEN.glob("*.json"))
FUNCTIONS = [(slug, function) for slug in SLUGS for function in load(slug)[0]]
FIRST = 2
PARTS = {"first": slice(FIRST), "others": slice(FIRST, None)}
RUNS = [
    pytest.param(
        slug, function, part, marks=pytest.mark.experiments if part == "others" else ()
    )
    for slug, function in FUNCTIONS
    for part, rows in PARTS.items()
    if load(slug)[0][function][rows]
]


@pytest.fixture
def double():
    """Reference values are mostly in float64."""
    with jax.enable_x64(True):
        yield


def inputs_of(case, arrays):
    """The inputs of a case; an argument it is differentiated by comes as an array."""
    inputs = {k: jnp.asarray(arrays[f"{case['name']}.in.{k}"]) for k in case["inputs"]}
    for k in set(case["grads"]) - set(inputs):
        shape = arrays[f"{case['name']}.grad.{k}"].shape
        inputs[k] = jnp.full(shape, float(case["args"][k]))
    if case["dtype"] == "float32":
        inputs = {
            k: v.astype(jnp.float32) if v.dtype == jnp.float64 else v
            for k, v in inputs.items()
        }
    return inputs


def evaluate(adapter, case, inputs):
    """The outputs of a case, and its gradients."""
    constant = {k: v for k, v in inputs.items() if k not in case["grads"]}

    def run(varied):
        out = adapter({**constant, **varied}, case["args"])
        out = {k: jnp.asarray(out[k]) for k in case["outputs"]}
        if not case["grads"]:
            return 0.0, out
        if case["grad_of"] == "cotangent":
            cotangent = inputs["cotangent"]
            first = next(x for x in out.values() if x.shape == cotangent.shape)
            return jnp.sum(cotangent * first), out
        return jnp.sum(out[case["grad_of"]]), out

    varied = {k: inputs[k] for k in case["grads"]}
    grads, out = jax.grad(run, has_aux=True)(varied)
    return out, grads


def assert_close(got, want, rtol, what):
    got, want = np.asarray(got), np.asarray(want)
    if got.size == want.size and got.squeeze().shape == want.squeeze().shape:
        got = got.reshape(want.shape)
    assert got.shape == want.shape, what
    if want.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want, what)
        return
    scale = np.abs(want[np.isfinite(want)]).max(initial=1e-3)
    np.testing.assert_allclose(
        got, want, rtol=0, atol=10 * rtol * scale, equal_nan=True, err_msg=what
    )


@pytest.mark.parametrize(("slug", "function", "part"), RUNS)
def test_equals_the_reference(slug, function, part, double):
    functions, arrays = load(slug)
    cases = functions[function][PARTS[part]]
    adapter = golden_adapters.ADAPTERS[slug][function]
    inputs = [inputs_of(case, arrays) for case in cases]

    # Inputs without gradient are constants: some adapters look at them.
    def program(varied):
        return [
            evaluate(adapter, case, {**given, **some})
            for case, given, some in zip(cases, inputs, varied, strict=True)
        ]

    varied = [
        {k: given[k] for k in case["grads"]}
        for case, given in zip(cases, inputs, strict=True)
    ]
    for case, (out, grads) in zip(cases, jax.jit(program)(varied), strict=True):
        name, rtol = case["name"], case["rtol"]
        for k in case["outputs"]:
            assert_close(out[k], arrays[f"{name}.out.{k}"], rtol, f"{name}: {k}")
        for k in case["grads"]:
            want = arrays[f"{name}.grad.{k}"]
            assert_close(grads[k], want, 10 * rtol, f"{name}: gradient by {k}")


def test_every_function_has_an_adapter():
    for slug, function in FUNCTIONS:
        assert function in golden_adapters.ADAPTERS[slug], f"{slug}.{function}"
