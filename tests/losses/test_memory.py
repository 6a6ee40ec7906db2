"""Scratch of every loss with its gradient: a small multiple of what it is given.

Nothing is computed: programs are compiled for shapes alone. "Given" are the arrays of
the call and, of a loss that compares n rows with each other, n * n numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses, similarity

from . import battery
from .cases import all_cases

CASES = all_cases()
# Losses of triples by definition, as their docstrings say: n * m * m.
LARGER = {
    "triplet_batch_all": "triplets of a batch",
    "approx_ndcg": "each place is a sum over all candidates",
    "lambda_loss": "pairs of the candidates of each anchor",
    "neural_ndcg": "a permutation matrix for each anchor",
    "supremix": "a mixture of any two candidates for each anchor",
}
# These compare n pairs, or n numbers, with each other.
OF_PAIRS = ("cosent", "label_alignment")
MULTIPLE = 20
# The others run on demand: compiling takes seconds.
QUICK = ("uniformity", "relational_distance", "angular_loss", "fast_ap")


def wide(case, n, d):
    """Shapes of the inputs of n anchors, with embeddings of width d."""
    inputs = battery.make(case, n)
    out = {}
    for name, x in inputs.items():
        shape = [
            d if word == "d" else size
            for word, size in zip(case.axes[name].split(), x.shape, strict=True)
        ]
        out[name] = jax.ShapeDtypeStruct(tuple(shape), x.dtype)
    return out


def scratch(f, *args):
    """Bytes that a compiled program needs besides arguments and results."""
    program = jax.jit(f).lower(*args).compile()
    return program.memory_analysis().temp_size_in_bytes


def of_loss(name, n, d=512):
    """Scratch of value and gradient, and how many bytes are given."""
    case = CASES[name]
    shapes = wide(case, n, d)
    given = sum(np.prod(x.shape) for x in shapes.values())
    embeddings = any("d" in case.axes[k].split() for k in case.grads)
    if embeddings or name in OF_PAIRS:
        given += n * n
    return scratch(battery.evaluate(case), shapes), 4 * given


def on_demand(names):
    mark = pytest.mark.experiments
    marks = [() if name in QUICK else mark for name in names]
    return [pytest.param(n, marks=m) for n, m in zip(names, marks, strict=True)]


@pytest.mark.parametrize("name", on_demand(sorted(set(CASES) - set(LARGER))))
def test_scratch_is_a_small_multiple_of_what_is_given(name):
    # One number too many per entry of [n, m] would make it 256.
    needed, given = of_loss(name, 256)
    assert needed <= MULTIPLE * given + 2**16


@pytest.mark.parametrize("name", LARGER)
def test_docstrings_say_where_it_is_more(name):
    assert "n * m * m" in CASES[name].loss.__doc__


@pytest.mark.experiments
@pytest.mark.parametrize(
    "metric",
    [similarity.euclidean_distance, similarity.manhattan_distance],
    ids=lambda metric: metric.__name__,
)
def test_4096_rows_of_width_512_take_less_than_a_gigabyte(metric):
    n = 4096

    def loss(x, labels):
        same = labels[:, None] == labels[None, :]
        others = labels[:, None] >= 0
        return losses.triplet_batch_hard(metric(x, x), same, where=same | others)

    x = jax.ShapeDtypeStruct((n, 512), jnp.float32)
    labels = jax.ShapeDtypeStruct((n,), jnp.int32)
    assert scratch(jax.value_and_grad(loss), x, labels) < 2**30
