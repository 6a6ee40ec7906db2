"""AMCL: the plain losses at constant temperature; temperatures; stationary points."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses
from contrastive_jax.methods import amcl
from tests.losses.cases import Case


def temperatures(rng, *shape):
    return rng.uniform(0.2, 1.5, size=shape)


def queued(rng, n):
    """A positive and n + 2 negatives for each anchor, the last the first's hardest."""
    negatives = rng.uniform(-1, 1, size=(n, n + 2))
    negatives[0, -1] = 1.1
    return {
        "positive_cosines": rng.uniform(-1, 1, size=n),
        "positive_temperatures": temperatures(rng, n),
        "negative_cosines": negatives,
        "negative_temperatures": temperatures(rng, n, n + 2),
    }


def predicted(rng, n):
    views = {k: rng.normal(size=(n, 3)) for k in ("predictions", "targets")}
    return {**views, "temperatures": temperatures(rng, n)}


def two_views(rng, n):
    views = {k: rng.normal(size=(n, 2)) for k in "ab"}
    return {**views, "temperatures": temperatures(rng, 2, 2)}


PAIRS = {
    "positive_cosines": "n",
    "positive_temperatures": "n",
    "negative_cosines": "n m",
    "negative_temperatures": "n m",
}
EVERY = tuple(sorted(PAIRS, reverse=True))
CASES = {
    "amcl_info_nce": Case(
        amcl.amcl_info_nce, PAIRS, queued, EVERY, options={"feature_dim": 3.0}
    ),
    "amcl_info_nce/logsumexp": Case(
        amcl.amcl_info_nce,
        PAIRS,
        queued,
        EVERY,
        options={"feature_dim": 3.0, "aggregation": "logsumexp"},
    ),
    "amcl_simsiam": Case(
        amcl.amcl_simsiam,
        {"predictions": "n d", "targets": "n d", "temperatures": "n"},
        predicted,
        ("predictions", "temperatures"),
        options={"feature_dim": 3.0},
        where="n",
    ),
    "amcl_barlow_twins": Case(
        amcl.amcl_barlow_twins,
        {"a": "n d", "b": "n d", "temperatures": "d d"},
        two_views,
        ("a", "b", "temperatures"),
        options={"feature_dim": 2.0, "off_diagonal": 0.3},
        where="n",
        reduces=False,
    ),
}
HELPERS = (
    "pair_temperatures_concat",
    "pair_temperatures_dot",
    "temperature_regularizer",
)
RNG = np.random.default_rng(0)


def close(got, want, rtol=1e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)


def test_constant_temperature_and_no_regularizer_give_the_plain_losses():
    cosines = jnp.asarray(RNG.uniform(-1, 1, size=(4, 4)), jnp.float32)
    others = ~jnp.eye(4, dtype=bool)
    t = jnp.full((4, 4), 0.5)

    @functools.partial(jax.jit, static_argnums=0)
    def adapted(aggregation):
        own = jnp.diagonal(cosines), jnp.diagonal(t)
        options = dict(feature_dim=8.0, beta=0.0, aggregation=aggregation)
        return amcl.amcl_info_nce(*own, cosines, t, where=others, **options)

    close(adapted("logsumexp"), losses.info_nce(cosines / 0.5))
    hardest = np.where(others, cosines, -2).max(axis=1)
    close(adapted("max"), np.mean(hardest - np.diagonal(cosines)) / 0.5)
    a, b = (jnp.asarray(RNG.normal(size=(6, 3)), jnp.float32) for _ in range(2))
    options = dict(feature_dim=8.0, beta=0.0)
    close(amcl.amcl_simsiam(a, b, jnp.ones(6), **options), losses.simsiam(a, b) / 2)
    twins = amcl.amcl_barlow_twins(a, b, jnp.ones((3, 3)), eps=0.0, **options)
    correlation = np.corrcoef(a.T, b.T)[:3, 3:] * 5 / 6  # divided by n, not by n - 1
    eye = np.eye(3)
    close(twins, np.sum(np.where(eye, (1 - correlation) ** 2, 0.0051 * correlation**2)))


@pytest.mark.parametrize("cosine", [-0.4, 0.05])
def test_the_best_temperature_of_a_pair(cosine):
    """d/dt of the positive term vanishes at 2 (beta - s) / (beta d); else it falls."""
    d, beta = 16.0, 0.1

    @jax.jit
    @jax.vmap
    @jax.grad
    def slope(t):
        options = dict(feature_dim=d, beta=beta)
        negative = jnp.zeros((1, 1)), jnp.ones((1, 1))
        s = jnp.array([cosine])
        return amcl.amcl_info_nce(s, t[None], *negative, **options)

    best = 2 * (beta - cosine) / (beta * d)
    below, at, above = slope(jnp.array([0.8 * best, best, 1.2 * best]))
    assert below < 0 < above and abs(at) < 1e-3 * abs(below)


def test_temperatures_of_pairs():
    """Bounded, and as the loop over the formula; the weights get gradients."""
    a, b = RNG.normal(size=(3, 2)), RNG.normal(size=(4, 2))
    w, bias, c = RNG.normal(size=(4, 5)), RNG.normal(size=5), 0.3
    last, wide = RNG.normal(size=5), RNG.normal(size=(5, 6))
    bounds = dict(lower=0.1, upper=2.0)

    def sigmoid(s):
        return 0.1 + 1.9 / (1 + np.exp(-s))

    params = dict(hidden_kernel=w, hidden_bias=bias, kernel=last, bias=c)
    params = {k: jnp.asarray(x, jnp.float32) for k, x in params.items()}
    run = jax.jit(functools.partial(amcl.pair_temperatures_concat, **bounds))
    got = run(params, jnp.asarray(a), jnp.asarray(b))
    for i, j in np.ndindex(3, 4):
        hidden = np.maximum(np.concatenate([a[i], b[j]]) @ w + bias, 0)
        close(got[i, j], sigmoid(hidden @ last + c))
    params |= dict(hidden_kernel=params["hidden_kernel"][:2], kernel=jnp.asarray(wide))
    run = jax.jit(functools.partial(amcl.pair_temperatures_dot, **bounds))
    got = run(params, jnp.asarray(a), jnp.asarray(b))

    def embed(x):
        return np.maximum(x @ w[:2] + bias, 0) @ wide

    close(got, sigmoid(embed(a) @ embed(b).T + c), rtol=1e-4)
    grads = jax.jit(jax.grad(lambda p: jnp.sum(run(p, jnp.asarray(a), jnp.asarray(b)))))
    assert all(jnp.any(x != 0) for x in grads(params).values())


def test_bad_arguments_are_named(without_type_hooks):
    inputs = {k: jnp.asarray(v) for k, v in queued(RNG, 2).items()}
    for changes, message in (
        ({"feature_dim": 0.0}, "feature_dim: expected a finite number > 0"),
        ({"beta": -1.0}, "beta: expected a finite number >= 0"),
        ({"aggregation": "mean"}, 'aggregation: expected "max" or "logsumexp"'),
        ({"positive_temperatures": jnp.zeros(2)}, "positive_temperatures: expected"),
    ):
        with pytest.raises(ValueError, match=message):
            amcl.amcl_info_nce(**(inputs | {"feature_dim": 3.0} | changes))
