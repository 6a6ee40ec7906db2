"""DefSent+: entries by hand, softmax over them, sampling, components, devices."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from contrastive_jax import evaluation, parallel
from contrastive_jax.methods import defsent
from tests.losses.cases import Case


def definitions(rng, n):
    """n definitions against n + 2 entries, of which the last is nobody's."""
    return {
        "vectors": np.tanh(rng.normal(size=(n, 3))),
        "entries": 2 * rng.normal(size=(n + 2, 3)),
        "labels": rng.integers(0, n + 1, n),
    }


CASES = {
    "definition_loss": Case(
        defsent.definition_loss,
        {"vectors": "n d", "entries": "m d", "labels": "n"},
        definitions,
        ("vectors",),
        columns=("labels",),
    ),
}
HELPERS = (
    "definition_vectors",
    "entry_embeddings",
    "isotropic_entries",
    "warmup_constant",
)

RNG = np.random.default_rng(0)
N, M, D = 8, 12, 4
Z = jnp.asarray(np.tanh(RNG.normal(size=(N, D))), jnp.float32)
E = jnp.asarray(2 * RNG.normal(size=(M, D)), jnp.float32)
LABELS = jnp.asarray(RNG.integers(0, M, N), jnp.int32)
EACH = jax.jit(functools.partial(defsent.definition_loss, reduce_fn=None))


def by_hand(z, entries, labels):
    logits = np.asarray(z, float) @ np.asarray(entries, float).T
    total = np.log(np.sum(np.exp(logits), axis=1))
    return total - logits[np.arange(len(labels)), labels]


def test_the_softmax_is_over_all_entries():
    got = EACH(Z, E, LABELS)
    np.testing.assert_allclose(got, by_hand(Z, E, LABELS), rtol=1e-5)
    # The scale of the entries is an inverse temperature.
    got = EACH(Z, 100 * E, LABELS)
    np.testing.assert_allclose(got, by_hand(Z, 100 * E, LABELS), rtol=1e-5, atol=1e-4)


def test_gradients_reach_the_definitions_and_not_the_entries():
    run = jax.jit(jax.grad(lambda z, e: defsent.definition_loss(z, e, LABELS), (0, 1)))
    to_z, to_e = run(Z, E)
    z, e = np.asarray(Z), np.asarray(E)
    logits = z @ e.T
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    p[np.arange(N), np.asarray(LABELS)] -= 1
    np.testing.assert_allclose(to_z, p @ e / N, rtol=1e-4, atol=1e-6)
    assert not np.any(to_e)


def test_one_entry_alone_is_no_task():
    labels = jnp.zeros(N, jnp.int32)
    run = jax.value_and_grad(lambda z: defsent.definition_loss(z, E[:1], labels))
    value, grad = jax.jit(run)(Z)
    assert value == 0 and not np.any(grad)


def test_contradictory_and_equal_entries_stay_finite():
    """One definition of two entries; two entries with one vector."""
    z, entries = jnp.stack([Z[0], Z[0]]), jnp.asarray(np.asarray(E)[[0, 0, 2, 3]])
    labels, where = jnp.array([0, 1]), jnp.asarray([[1, 0, 1, 1], [0, 1, 1, 1]], bool)
    loss = EACH(z, entries, labels)
    np.testing.assert_allclose(loss[0], loss[1], rtol=1e-6)
    assert loss[0] > np.log(2)
    # Masked, the twin is no rival.
    assert np.all(EACH(z, entries, labels, where=where) < loss)


def test_sampled_entries_estimate_the_sum_over_all():
    """exp(loss) - 1, a sum over the others, is right in the mean over draws."""

    def sums(keys):
        def one(rng):
            loss = defsent.definition_loss(
                Z, E, LABELS, num_sampled=5, rng=rng, reduce_fn=None
            )
            return jnp.expm1(loss)

        return jax.vmap(one)(keys)

    found = np.asarray(jax.jit(sums)(jax.random.split(jax.random.key(0), 4000)))
    want = np.expm1(by_hand(Z, E, LABELS))
    error = found.std(axis=0) / len(found) ** 0.5
    assert np.all(np.abs(found.mean(axis=0) - want) < 4 * error)
    assert np.all(error < 0.1 * want)


def test_entries_are_means_of_definitions():
    vectors = RNG.normal(size=(6, D)).astype(np.float32)
    ids, where = np.array([2, 0, 2, 0, 0, 3]), np.array([1, 1, 1, 1, 0, 0], bool)
    garbage = np.where(where[:, None], vectors, np.nan)
    got = defsent.entry_embeddings(garbage, ids, num_entries=4, where=where)
    want = np.zeros((4, D))
    want[2], want[0] = vectors[[0, 2]].mean(0), vectors[[1, 3]].mean(0)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_layer_of_definitions_by_hand():
    kernel, bias = RNG.normal(size=(D, 3)), RNG.normal(size=3)
    kernel, bias = kernel.astype(np.float32), bias.astype(np.float32)
    x, layer = np.asarray(Z) @ kernel + bias, (jnp.asarray(kernel), jnp.asarray(bias))
    got = defsent.definition_vectors(Z, *layer)
    np.testing.assert_allclose(got, np.tanh(x), rtol=1e-5, atol=1e-6)
    got = defsent.definition_vectors(Z, *layer, activation="gelu")
    cdf = 0.5 * (1 + scipy.special.erf(x / 2**0.5))
    np.testing.assert_allclose(got, x * cdf, rtol=1e-4, atol=1e-6)


def test_components_are_isotropic_and_constant_columns_stay():
    """Rows in a narrow cone, one column constant."""
    sources = RNG.laplace(size=(2000, 3))
    x = np.concatenate([sources @ RNG.normal(size=(3, 3)) + 9, np.ones((2000, 1))], 1)
    assert evaluation.average_cosine(jnp.asarray(x, jnp.float32)) > 0.8
    y = defsent.isotropic_entries(x, seed=0, scale=10.0)
    np.testing.assert_allclose(
        y.T @ y / len(y), np.diag([100.0, 100.0, 100.0, 0.0]), atol=1e-6
    )
    assert abs(evaluation.average_cosine(jnp.asarray(y, jnp.float32))) < 0.01
    # Not only white: each component is one of the sources.
    found = np.abs(np.corrcoef(sources.T, y[:, :3].T)[:3, 3:])
    assert np.all(found.max(axis=0) > 0.99)
    # Fewer of them, by another contrast: white.
    y = defsent.isotropic_entries(
        x[:, :3], seed=0, scale=2.0, num_components=2, contrast="cube"
    )
    np.testing.assert_allclose(y.T @ y / len(y), 4 * np.eye(2), atol=1e-6)


@pytest.mark.parametrize("mapper", ["pmap", "shard_map"])
def test_the_mean_is_over_the_definitions_of_all_devices(mapper):
    """Also sampled: all devices draw the same entries; one device's rows are masked."""
    weights = np.array([1, 2, 0, 1, 1, 3, 1, 1], np.float32)

    def make_step(axis_name=None):
        def step(state, batch):
            def loss_fn(kernel):
                z = defsent.definition_vectors(batch["z"], kernel, jnp.zeros(D))
                options: Any = dict(
                    weights=batch["weights"], reduce_fn=parallel.mean(axis_name)
                )
                own = z, state["entries"], batch["labels"]
                rng = jax.random.key(3)
                sampled: Any = dict(num_sampled=5, rng=rng)
                full = defsent.definition_loss(*own, **options)
                return full + defsent.definition_loss(*own, **sampled, **options)

            run = parallel.value_and_grad(loss_fn, axis_name)
            loss, grad = run(state["kernel"])
            return state, {"loss": loss, "grad": grad}

        return step

    state = {"kernel": jnp.eye(D), "entries": 1.0 * E}  # donated
    batch = {"z": Z, "labels": LABELS, "weights": jnp.asarray(weights)}
    _, want = jax.jit(make_step())(state, batch)
    step = parallel.data_parallel(make_step, mapper, devices=8)
    _, got = step(state, batch)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert np.abs(want["grad"]).max() > 1e-2


def test_wrong_arguments_are_named(without_type_hooks):
    with pytest.raises(ValueError, match=r"^labels: expected numbers in \[0, 12\)"):
        defsent.definition_loss(Z, E, LABELS + M)
    with pytest.raises(ValueError, match=r"^rng: expected a key"):
        defsent.definition_loss(Z, E, LABELS, num_sampled=3)
    with pytest.raises(ValueError, match=r"^num_sampled: "):
        rng = jax.random.key(0)
        defsent.definition_loss(Z, E, LABELS, num_sampled=0, rng=rng)
    with pytest.raises(ValueError, match=r"^entries: expected shape"):
        defsent.definition_loss(Z, E[:, :2], LABELS)
    with pytest.raises(ValueError, match=r"^entry_ids: expected numbers in \[0, 3\)"):
        defsent.entry_embeddings(Z, np.arange(N), num_entries=3)
    with pytest.raises(ValueError, match=r"^activation: expected"):
        layer: Any = dict(kernel=jnp.eye(D), bias=jnp.zeros(D), activation="relu")
        defsent.definition_vectors(Z, **layer)
    with pytest.raises(ValueError, match=r"^entries: expected a column that varies"):
        defsent.isotropic_entries(np.ones((9, 2)), seed=0)
    with pytest.raises(ValueError, match=r"^num_components: expected 1 to 3, got 4"):
        x = np.random.default_rng(0).normal(size=(9, 3))[:, [0, 1, 2, 2]]
        defsent.isotropic_entries(x, seed=0, num_components=4)
    with pytest.raises(ValueError, match=r"^num_warmup_steps: "):
        defsent.warmup_constant(3, num_warmup_steps=-1)


def test_warm_up_ends_at_one():
    assert defsent.warmup_constant(0, num_warmup_steps=0) == 1
    assert defsent.warmup_constant(7, num_warmup_steps=4) == 1
    assert defsent.warmup_constant(1, num_warmup_steps=4) == 0.25
