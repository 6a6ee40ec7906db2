"""SepCLR: the joint entropy pair by pair, every part by hand, sets that are missing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.methods import sepclr
from tests.losses.cases import Case, unit


def both(rng, n):
    return {"common": rng.normal(size=(n, 3)), "salient": rng.normal(size=(n, 2))}


def labeled(rng, n):
    return {"x": rng.normal(size=n), "labels": rng.uniform(size=n)}


CASES = {
    "joint_entropy": Case(
        sepclr.joint_entropy,
        {"common": "n d", "salient": "n e"},
        both,
        ("common", "salient"),
        where="n",
        reduces=False,
        gathered=lambda a, b, gather, rows: {
            "common": gather(a),
            "salient": gather(b),
        },
    ),
    "label_alignment": Case(
        sepclr.label_alignment,
        {"x": "n", "labels": "n"},
        labeled,
        ("x",),
        where="n",
        reduces=False,
    ),
}
HELPERS = ("sepclr",)

RNG = np.random.default_rng(0)
N = 6
COMMON = tuple(jnp.asarray(RNG.normal(size=(N, 4)), jnp.float32) for _ in range(2))
SALIENT = tuple(jnp.asarray(RNG.normal(size=(N, 3)), jnp.float32) for _ in range(2))
TARGET = jnp.asarray([True, False, True, True, False, False])
WEIGHTS = dict(salient_weight=3.0, information_less_weight=5.0, jem_weight=7.0)


def kernel(x, y, tau):
    return np.exp(-np.sum((x - y) ** 2) / (2 * tau))


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_joint_entropy_pair_by_pair(tau, transform):
    c, s = (np.asarray(x[0], float) for x in (COMMON, SALIENT))
    rows = [
        np.mean([kernel(c[i], c[j], tau) * kernel(s[i], s[j], tau) for j in range(N)])
        for i in range(N)
    ]
    got = transform(functools.partial(sepclr.joint_entropy, tau=tau))(
        COMMON[0], SALIENT[0]
    )
    close(got, np.mean(np.log(rows)))
    assert -np.log(N) <= got <= 0


def test_salient_rows_far_apart_keep_finite_gradients():
    """The kernel underflows; a row is left with itself and the loss at -log n."""
    far = 100 * SALIENT[0]
    value, grad = jax.jit(jax.value_and_grad(sepclr.joint_entropy, 1))(COMMON[0], far)
    close(value, -np.log(N))
    assert np.isfinite(grad).all()


def test_every_part_by_hand():
    loss, parts = jax.jit(functools.partial(sepclr.sepclr, tau=1.0, **WEIGHTS))(
        COMMON, SALIENT, TARGET
    )
    target = np.asarray(TARGET)
    c = [unit(np.asarray(x, float)) for x in COMMON]
    s = [np.asarray(x, float) for x in SALIENT]
    t = [x * target[:, None] for x in s]

    def spread(x):
        pairs = [kernel(x[i], x[j], 1.0) for i in range(N) for j in range(i)]
        return np.log(np.mean(pairs))

    want = {
        "common_align": np.mean(np.sum((c[0] - c[1]) ** 2, axis=1)) / 2,
        "common_uniform": np.mean([spread(x) for x in c]),
        "salient_align": np.mean(np.sum((s[0] - s[1]) ** 2, axis=1)[target]) / 2,
        "salient_uniform": np.mean([spread(x) for x in t]),
        "information_less": np.mean([np.sum(x[~target] ** 2) / 3 for x in s]),
        "joint_entropy": np.mean(
            [
                sepclr.joint_entropy(*map(jnp.asarray, x), tau=1.0)
                for x in zip(c, t, strict=True)
            ]
        ),
    }
    assert parts.keys() == want.keys()
    for name, x in want.items():
        close(parts[name], x)
    close(
        loss,
        want["common_align"]
        + 2 * want["common_uniform"]
        + 3 * (want["salient_align"] + 2 * want["salient_uniform"])
        + 5 * want["information_less"]
        + 7 * want["joint_entropy"],
    )


@pytest.mark.parametrize("targets", [0, N])
def test_a_set_that_is_missing_leaves_its_parts_at_zero(targets):
    f = functools.partial(sepclr.sepclr, **WEIGHTS)
    grad = jax.jit(jax.value_and_grad(f, argnums=(0, 1), has_aux=True))
    (loss, parts), grads = grad(COMMON, SALIENT, jnp.arange(N) < targets)
    missing = "information_less" if targets else "salient_align"
    assert parts[missing] == 0 and np.isfinite(loss)
    for x in jax.tree.leaves(grads):
        assert np.isfinite(x).all()
    if not targets:  # then t is 0 everywhere: nothing but the length of s is left
        close(grads[1][0], 5 * SALIENT[0] / N)


def test_common_heads_do_not_feel_the_salient_weights():
    def common(c, weight):
        return sepclr.sepclr(
            c, SALIENT, TARGET, **WEIGHTS | {"salient_weight": weight}
        )[0]

    grad = jax.jit(jax.grad(common))
    jax.tree.map(close, grad(COMMON, 1.0), grad(COMMON, 1000.0))


def test_label_alignment_pair_by_pair(transform):
    x, y = (np.asarray(z[0][:, 0], float) for z in (COMMON, SALIENT))
    for tau in (0.1, 5e-6):
        want = [
            kernel(y[i], y[j], tau) * (x[i] - x[j]) ** 2
            for i in range(N)
            for j in range(i)
        ]
        f = transform(functools.partial(sepclr.label_alignment, tau=tau))
        close(f(COMMON[0][:, 0], SALIENT[0][:, 0]), np.mean(want))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": 0.0}, "^tau: expected a finite number > 0, got 0.0"),
        ({"jem_weight": -1.0}, "^jem_weight: expected a finite number >= 0"),
    ],
)
def test_wrong_input_is_named(change, message, without_type_hooks):
    with pytest.raises(ValueError, match=message):
        sepclr.sepclr(COMMON, SALIENT, TARGET, **change)
    with pytest.raises(TypeError, match=r"^is_target: expected booleans"):
        sepclr.sepclr(COMMON, SALIENT, TARGET.astype(int))
