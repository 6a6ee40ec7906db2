"""Losses and measures stay in the range their docstrings name, on hostile inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import evaluation, similarity

from . import battery
from .cases import all_cases

CASES = all_cases()
# Least and largest value of an anchor; by default a loss is at least 0.
RANGES = {
    "simsiam": (-1, 1),
    "byol": (0, 4),
    "cosine_similarity_mse": (0, 4),
    "fast_ap": (0, 1),
    "w_mse": (0, 4),
    "w_mse/plain": (0, np.inf),
    "koleo": (-np.log(2) - 1e-7, np.inf),
    "uniformity": (-np.inf, 0),
}
MODULES = ("metric", "graded", "noncontrastive")
NAMES = [
    name
    for name, case in CASES.items()
    if case.loss.__module__.rpartition(".")[2] in MODULES
]
# Below 0 by definition: pairs with weights less than 1 in the denominator.
UNBOUNDED = ("weighted_supervised_contrastive",)


def hostile(case, rng):
    """Inputs at which rounding could leave the range: equal, opposite, huge, tiny."""
    base = battery.make(case, n=6)
    rows = case.axes[case.grads[0]].split()[-1] == "d"
    for size in (1e-20, 1.0, 1e4):
        yield {
            k: np.float32(size) * v if k in case.grads and rows else v
            for k, v in base.items()
        }
    if rows:
        for sign in (1, -1):
            x = np.float32(rng.normal(size=base[case.grads[0]].shape))
            yield {
                **base,
                **{
                    k: np.float32(sign**i) * np.resize(x, base[k].shape)
                    for i, k in enumerate(case.grads)
                },
            }
        same = {k: np.broadcast_to(v[:1], v.shape) for k, v in base.items()}
        yield {k: same[k] if k in case.grads else v for k, v in base.items()}
    elif "scores" in base:
        for value in (-1.0, 1.0):
            yield {**base, "scores": np.full_like(base["scores"], value)}
    else:
        for value in (0.0, 1e6):
            changed = {k: np.full_like(base[k], value) for k in case.grads}
            yield {**base, **changed}


@pytest.mark.parametrize("name", [n for n in NAMES if n not in UNBOUNDED])
def test_losses_stay_in_their_range(name):
    case = CASES[name]
    low, high = RANGES.get(name, RANGES.get(name.split("/")[0], (0, np.inf)))
    inputs = list(hostile(case, np.random.default_rng(0)))
    reduction = {"reduce_fn": None} if case.reduces else {}

    def each(given):
        return case.loss(**given, **case.options, **reduction)

    out = np.asarray(jax.jit(jax.vmap(each))(battery.stack(inputs)))
    assert np.isfinite(out).all()
    assert out.min() >= low and out.max() <= high, (out.min(), out.max())


@pytest.mark.parametrize(
    ("metric", "low", "high"),
    [
        (similarity.cosine, -1, 1),
        (similarity.cosine_distance, 0, 2),
        (similarity.euclidean_distance, 0, np.inf),
        (similarity.squared_euclidean_distance, 0, np.inf),
        (similarity.manhattan_distance, 0, np.inf),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_similarities_stay_in_their_range(metric, low, high):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(90, 5)).astype(np.float32)
    x[30:60], x[60:] = x[:30] * (1 + 1e-6), -3 * x[:30]
    out = np.asarray(jax.jit(metric)(x, x))
    assert np.isfinite(out).all() and out.min() >= low and out.max() <= high
    if metric is not similarity.cosine:
        assert out.min() == 0


def test_measures_of_embeddings_stay_in_their_range():
    rng = np.random.default_rng(2)
    for d in (3,):
        x = jnp.asarray(np.tile(rng.normal(size=(1, d)), (40, 1)), jnp.float32)
        assert evaluation.uniformity(x) <= 0 <= evaluation.alignment(x, x)
        assert 1 <= evaluation.effective_rank(x) <= d
