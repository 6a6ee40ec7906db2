"""PALM: every step by hand in numpy, empty classes, no labels, devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import parallel, similarity, states
from contrastive_jax.methods import palm
from tests.losses.cases import Case, unit

K, C, D = 6, 3, 4


def mixed(rng, n):
    """Unit features and prototypes, and rows of weights that sum to 1."""
    mixture = rng.random((n, K)) + 0.1
    return {
        "features": unit(rng.normal(size=(n, D))),
        "prototypes": unit(rng.normal(size=(K, D))),
        "mixture": mixture / mixture.sum(axis=1, keepdims=True),
    }


def grouped(rng, n):
    same = np.arange(n)[:, None] % 2 == np.arange(n)[None, :] % 2
    return {"prototypes": rng.normal(size=(n, D)), "positives": same}


def gathered_mixture(a, b, gather, rows):
    shares = jnp.abs(gather(b)[:3, :1].T) + jnp.ones((len(a), 1))
    mixture = shares / jnp.sum(shares, axis=1, keepdims=True)
    return {"features": a, "prototypes": gather(b)[:3], "mixture": mixture}


CASES = {
    "prototype_likelihood": Case(
        palm.prototype_likelihood,
        {"features": "n d", "prototypes": "k d", "mixture": "n k"},
        mixed,
        ("features",),
        where="n",
        gathered=gathered_mixture,
    ),
    "prototype_contrast": Case(
        palm.prototype_contrast,
        {"prototypes": "n d", "positives": "n n"},
        grouped,
        ("prototypes",),
        where=None,
        reduces=False,
    ),
}
HELPERS = ("mixture_assignment", "near_prototypes", "palm")

RNG = np.random.default_rng(0)
Z = unit(RNG.normal(size=(8, 2, D))).astype(np.float32)
Y = np.array([0, 1, 0, 1, 1, 0, 0, 1])  # no sample of class 2
P = unit(RNG.normal(size=(K, D))).astype(np.float32)
OPTIONS = dict(num_classes=C, topk=1, decay=0.7, temperature=0.2, epsilon=0.1)
run_palm = jax.jit(functools.partial(palm.palm, **OPTIONS))


def prototypes(vectors=P):
    return states.Prototypes(
        vectors=jnp.asarray(vectors), used=jnp.zeros(len(vectors), bool)
    )


def rows_to_one(x):
    return x / np.maximum(x.sum(axis=1, keepdims=True), 1e-12)


def balanced(scores, epsilon, num_iterations=3):
    q = np.exp((scores - scores.max()) / epsilon)
    q /= q.sum()
    for _ in range(num_iterations):
        q /= q.sum(axis=0) * q.shape[1]
        q /= q.sum(axis=1, keepdims=True) * q.shape[0]
    return q * q.shape[0]


def by_hand(z, y, p, *, num_classes, topk, decay, temperature, epsilon):
    """Loss, its two parts and the new prototypes, in float64 and loops."""
    v = z.shape[1]
    z, y, p = z.reshape(-1, z.shape[2]).astype(float), np.repeat(y, v), p.astype(float)
    classes = np.arange(len(p)) % num_classes
    allowed = y[:, None] == classes[None, :]
    q = balanced(z @ p.T, epsilon) * allowed
    kept = np.zeros_like(allowed)
    for i, row in enumerate(q):
        kept[i, np.argsort(-row)[:topk]] = True
    w = rows_to_one(q * kept)
    new = p.copy()
    for m in range(len(p)):
        if w[:, m].sum() > 0:
            mean = w[:, m] @ z / w[:, m].sum()
            new[m] = unit(decay * p[m] + (1 - decay) * mean)
    w = rows_to_one(balanced(z @ new.T, epsilon) * allowed * kept)
    logits = z @ new.T / temperature
    mle = np.mean(np.log(np.exp(logits).sum(axis=1)) - (w * logits).sum(axis=1))
    terms = []
    for m in range(len(p)):
        others = [a for a in range(len(p)) if a != m]
        s = {a: (new[m] @ new[a] - 1) / 0.5 for a in others}
        own = [s[a] for a in others if classes[a] == classes[m]]
        terms.append(np.log(sum(np.exp(x) for x in s.values())) - np.mean(own))
    return mle, np.mean(terms), new


def test_every_step_by_hand():
    loss, parts, new = run_palm(prototypes(), jnp.asarray(Z), jnp.asarray(Y))
    mle, pcon, vectors = by_hand(Z, Y, P, **OPTIONS)
    np.testing.assert_allclose(parts["mle"], mle, rtol=1e-5)
    np.testing.assert_allclose(parts["pcon"], pcon, rtol=1e-5)
    np.testing.assert_allclose(loss, mle + pcon, rtol=1e-5)
    np.testing.assert_allclose(new.vectors, vectors, rtol=1e-4, atol=1e-6)
    # Class 2 has no sample: its prototypes keep every bit.
    np.testing.assert_array_equal(new.vectors[2::3], P[2::3])
    assert not np.any(new.used[2::3])


def test_gradients_of_the_contrast_pass_through_the_update():
    @jax.jit
    def gradients(z, decay):
        def f(z):
            options = {**OPTIONS, "decay": decay}
            parts = palm.palm(prototypes(), z, jnp.asarray(Y), **options)[1]
            return parts["pcon"], parts["mle"]

        _, pull = jax.vjp(f, z)
        return pull((1.0, 0.0))[0], pull((0.0, 1.0))[0]

    slow, _ = gradients(jnp.asarray(Z), 0.99)
    none, of_mle = gradients(jnp.asarray(Z), 1.0)
    assert np.any(np.abs(slow) > 1e-5) and not np.any(none)
    # The likelihood sees prototypes as constants: dL/dz = (softmax - w) p / T / rows.
    got = of_mle.reshape(-1, D)
    z, y = Z.reshape(-1, D).astype(float), np.repeat(Y, 2)
    allowed = y[:, None] == (np.arange(K) % C)[None, :]
    q = balanced(z @ P.T, 0.1) * allowed
    w = np.eye(K)[np.argmax(q, axis=1)]
    logits = np.exp(z @ P.T / 0.2)
    want = (logits / logits.sum(axis=1, keepdims=True) - w) @ P / 0.2 / len(z)
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-6)


def test_masked_samples_are_as_if_absent():
    where = np.array([True] * 6 + [False] * 2)
    garbage = jnp.asarray(np.where(where[:, None, None], Z, np.nan))
    got = run_palm(prototypes(), garbage, jnp.asarray(Y), where=jnp.asarray(where))
    want = run_palm(prototypes(), jnp.asarray(Z[:6]), jnp.asarray(Y[:6]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got, want
    )


@pytest.mark.parametrize("released", [False, True])
def test_without_momentum_an_empty_prototype(released):
    options = {**OPTIONS, "decay": 0.0, "released": released}
    run = jax.jit(functools.partial(palm.palm, **options))
    _, _, new = run(prototypes(), jnp.asarray(Z), jnp.asarray(Y))
    want = np.zeros((2, D)) if released else P[2::3]
    np.testing.assert_array_equal(new.vectors[2::3], want)


def test_without_labels_views_share_their_assignment():
    """Every prototype is allowed; the targets of two views are equal."""
    z = jnp.asarray(Z)
    run = jax.jit(functools.partial(palm.palm, topk=2, neighbors=2, decay=0.9))
    loss, parts, new = run(prototypes(), z)
    q = balanced(Z.reshape(-1, D).astype(float) @ P.T.astype(float), 0.05)
    q = np.repeat(q.reshape(8, 2, K).mean(axis=1), 2, axis=0)
    kept = np.argsort(-q, axis=1)[:, :2]
    w = np.zeros_like(q)
    np.put_along_axis(w, kept, np.take_along_axis(q, kept, 1), 1)
    w = rows_to_one(w)
    means = (w.T @ Z.reshape(-1, D)) / w.sum(axis=0)[:, None]
    np.testing.assert_allclose(
        new.vectors, unit(0.9 * P + 0.1 * means), rtol=1e-4, atol=1e-6
    )
    assert loss == parts["mle"] + parts["pcon"]
    # The order of the views does not matter.
    swapped, _, _ = run(prototypes(), z[:, ::-1])
    np.testing.assert_allclose(loss, swapped, rtol=1e-5)


def test_one_prototype_per_class_only_repels():
    grad = jax.jit(jax.grad(palm.prototype_contrast))(P[:2], np.eye(2, dtype=bool))
    towards = np.sum(np.asarray(grad[0]) * (P[1] - P[0] @ P[1] * P[0]))
    assert towards > 0, "descent moves away"


@pytest.mark.parametrize(
    ("mapper", "labelled"),
    [
        ("pmap", True),
        ("shard_map", False),
        pytest.param("pmap", False, marks=pytest.mark.experiments),
        pytest.param("shard_map", True, marks=pytest.mark.experiments),
    ],
)
def test_eight_devices_equal_one(mapper, labelled):
    """Masked rows too, of which one device has nothing else."""

    def make_step(axis_name=None):
        def step(state, batch):
            def loss_fn(scale):
                z = similarity.l2_normalize(batch["z"] + scale)
                z, y, where = parallel.all_gather(
                    (z, batch["y"], batch["where"]), axis_name
                )
                y = y if labelled else None
                start = state["prototypes"]
                options = dict(num_classes=C, topk=1, neighbors=2, decay=0.7)
                loss, parts, new = palm.palm(start, z, y, where=where, **options)
                return loss, (parts, new)

            run = parallel.value_and_grad(loss_fn, axis_name, has_aux=True)
            (loss, (parts, new)), grad = run(state["scale"])
            metrics = {"loss": loss, **parts, "grad": grad}
            return {"scale": state["scale"], "prototypes": new}, metrics

        return step

    batch = {"z": Z, "y": Y, "where": np.arange(8) != 3}
    state = {"scale": jnp.asarray(0.1), "prototypes": prototypes()}
    after, want = jax.jit(make_step())(state, batch)
    vectors = np.asarray(after["prototypes"].vectors)
    after, got = parallel.data_parallel(make_step, mapper, devices=8)(state, batch)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=2e-4, err_msg=name)
    np.testing.assert_allclose(after["prototypes"].vectors, vectors, atol=1e-5)


def test_half_precision_is_computed_in_float32():
    half = jnp.asarray(Z, jnp.bfloat16)
    y = jnp.asarray(Y)
    got, want = (run_palm(prototypes(), z, y) for z in (half, half.astype(jnp.float32)))
    assert got[0].dtype == jnp.float32
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6)


def test_wrong_arguments_are_named(without_type_hooks):
    z, y, same = jnp.asarray(Z), jnp.asarray(Y), np.eye(K, dtype=bool)
    with pytest.raises(ValueError, match=r"^num_classes: expected a divisor of the 6"):
        palm.palm(prototypes(), z, y, num_classes=4)
    with pytest.raises(ValueError, match=r"^num_classes: "):
        palm.palm(prototypes(), z, y)
    with pytest.raises(ValueError, match=r"^labels: expected numbers in \[0, 3\)"):
        palm.palm(prototypes(), z, y + 2, num_classes=3)
    with pytest.raises(ValueError, match=r"^features: expected shape"):
        palm.palm(prototypes(), z[..., :2], y, num_classes=3)
    with pytest.raises(ValueError, match=r"^neighbors: expected 1 to 5, got 6"):
        palm.palm(prototypes(), z, neighbors=6)
    with pytest.raises(ValueError, match=r"^topk: expected"):
        palm.palm(prototypes(), z, y, num_classes=3, topk=-1)
    with pytest.raises(TypeError, match=r"^allowed: expected booleans"):
        palm.mixture_assignment(jnp.ones((2, 3)), jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"^temperature: "):
        palm.prototype_contrast(jnp.asarray(P), jnp.asarray(same), temperature=0)
