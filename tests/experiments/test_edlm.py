"""What experiments on diffusion language models share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import models
from experiments.edlm import measure
from experiments.edlm.model import SequenceEnergy

LENGTH, MASK = 7, 5


@pytest.fixture(scope="module")
def nets():
    settings = dict(vocab_size=MASK + 1, width=8, depth=1, heads=2)
    parts = {
        "mdlm": models.LanguageModel(**settings, causal=False),
        "ar": models.LanguageModel(**settings, causal=True),
        "nce": SequenceEnergy(**settings),
        "judge": models.LanguageModel(**settings, causal=True),
    }
    tokens = jnp.zeros((1, LENGTH), jnp.int32)
    params = {}
    for i, (name, model) in enumerate(parts.items()):
        inputs = (tokens, tokens) if name == "nce" else (tokens,)
        init = jax.jit(functools.partial(model.init, train=False))
        start = init(jax.random.key(i), *inputs)["params"]
        flat, tree = jax.tree.flatten(start)
        keys = jax.random.split(jax.random.key(9 + i), len(flat))
        moved = [
            x + 0.3 * jax.random.normal(k, x.shape)
            for x, k in zip(flat, keys, strict=True)
        ]
        params[name] = jax.tree.unflatten(tree, moved)
    # A language model of clean text never predicts the mask.
    bias = params["ar"]["Dense_0"]["bias"]
    params["ar"]["Dense_0"]["bias"] = bias.at[MASK].set(-50.0)
    return measure.Networks(params=params, **parts, mask_id=MASK)


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).integers(0, MASK, (6, LENGTH)).astype(np.int32)


def bounds(nets, tokens, **changes):
    options = dict(steps=(1, 3), times=4, min_t=1e-3, eps=0.0, num_proposals=2, seed=0)
    return measure.likelihood_bounds(nets, tokens, **options | changes)[0]


def test_one_step_masks_all_tokens_and_is_exact(nets, tokens):
    found = bounds(nets, tokens)
    start = jnp.asarray(tokens).at[:, 1:].set(MASK)
    log_probs = np.asarray(jax.jit(measure.Networks.denoise)(nets, start))
    own = np.take_along_axis(log_probs, tokens[..., None], -1)[:, 1:]
    bits = -np.mean(own) / np.log(2)
    np.testing.assert_allclose(found["mdlm_1/bits"], bits, rtol=1e-5)
    # All tokens are masked: the language model scores the whole sequence.
    np.testing.assert_allclose(found["edlm_coar_1/bits"], found["ar/bits"], rtol=1e-5)


@pytest.mark.experiments
def test_more_random_times_come_near_the_language_model_at_any_number_of_steps(
    nets, tokens
):
    found = bounds(nets, tokens, times=512, min_t=0.02)
    assert abs(found["edlm_coar_3/bits"] / found["ar/bits"] - 1) < 0.02
    assert abs(found["edlm_coar/bits"] / found["ar/bits"] - 1) < 0.05
    # A shorter chain has the looser bound.
    assert found["mdlm_1/bits"] > found["mdlm_3/bits"] > found["mdlm/bits"]


def test_log_z_from_below_gives_the_smaller_figure(nets, tokens):
    found = bounds(nets, tokens)
    for name in ("ar", "nce"):
        for of in ("", "_1", "_3"):
            assert found[f"edlm_{name}{of}/bits"] < found[f"edlm_{name}_upper{of}/bits"]


def test_speed_up_by_hand():
    found = {
        f"{name}_{k}/{measure}": x
        for name, values in {
            "plain": {1: (30.0, 1.0), 2: (20.0, 2.0), 4: (22.0, 4.0)},
            "quick": {1: (24.0, 1.5), 2: (21.0, 2.5), 4: (19.0, 8.0)},
        }.items()
        for k, pair in values.items()
        for measure, x in zip(("perplexity", "seconds"), pair, strict=True)
    }
    found |= {f"slow_{k}/perplexity": 10.0 * k for k in (1, 2, 4)}
    found |= {f"slow_{k}/seconds": 16.0 for k in (1, 2, 4)}
    got = measure.speed_up(found, "plain", ["quick", "slow"], (1, 2, 4))
    assert got == {
        "speed_up/of_most_steps/quick": 4 / 2.5,
        "speed_up/of_most_steps/slow": 4 / 16,
        "speed_up/of_most_steps": 4 / 2.5,
        "speed_up/of_best_steps/quick": 2 / 8,
        "speed_up/of_best_steps/slow": 2 / 16,
        "speed_up/of_best_steps": 2 / 8,
    }
    found["quick_4/perplexity"] = 20.5
    got = measure.speed_up(found, "plain", ["quick"], (1, 2, 4))
    assert got["speed_up/of_best_steps"] == 0
