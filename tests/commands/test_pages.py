"""The code of pages of the documentation runs and does what they say."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from contrastive_jax.training import checkpoint

DOCS = pathlib.Path(__file__).parent.parent.parent / "docs"


def run(name):
    """The names that the pieces of Python of a page define, run one after another."""
    text = (DOCS / name).read_text(encoding="utf-8")
    names = {"__name__": name}
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(code, name, "exec"), names)
    return names


def test_nnx():
    """One device and all of them lead to the same losses, which fall."""
    found = run("nnx.md")
    np.testing.assert_allclose(found["many"], found["alone"], rtol=1e-4)
    assert found["alone"][-1] < 0.5 * found["alone"][0]
    assert jax.device_count() == 8
    x = found["trained"](found["first"])
    np.testing.assert_allclose(x, found["model"](found["first"]), atol=1e-3)


def test_nnx_state_is_saved_and_restored(tmp_path):
    """As the page says of `training.fit`, by what `fit` saves with."""
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    _, params = nnx.split(model)
    state = {"params": params, "opt_state": optax.adam(1e-2).init(params)}
    manager = checkpoint.Manager(tmp_path)
    manager.save(1, state)
    manager.close()
    manager = checkpoint.Manager(tmp_path)
    found, step = manager.restore(jax.tree.map(jnp.zeros_like, state))
    manager.close()
    assert step == 1 and jax.tree.structure(found) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, found, state)
