"""Every loss on random inputs (see `fuzz`); some of them also run in the battery."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from . import battery, fuzz
from .cases import all_cases

CASES = all_cases()
# A program looks at so many examples at once; hypothesis draws them together.
TOGETHER, TIMES = 17, 4
SIZES = (1, 2, 5)
EXAMPLE = st.builds(
    fuzz.Example,
    seed=st.integers(0, 2**16),
    **{name: st.sampled_from(choices) for name, choices in fuzz.CHOICES.items()},
)


@functools.cache
def program(name):
    """Loss, losses of the anchors and gradients for a stack of inputs."""
    run = battery.evaluate(CASES[name], each=True)
    return jax.jit(jax.vmap(run))


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CASES)
def test_random_inputs(name, size):
    case = CASES[name]

    @settings(max_examples=TIMES, deadline=None, derandomize=True, database=None)
    @given(st.lists(EXAMPLE, min_size=TOGETHER, max_size=TOGETHER))
    def run(examples):
        made = [fuzz.inputs(case, example, size) for example in examples]
        every = battery.stack(fuzz.stacked(made))
        out = jax.tree.map(np.asarray, program(name)(every))
        fuzz.check_all(case, examples, made, out)

    run()
