"""Hydra: gated scores by hand, pair labels, and SupCon without a gate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses, similarity
from contrastive_jax.methods import hydra
from tests.losses.cases import Case


def classed(rng, n):
    """Anchors paired with another class; the last key is nobody's only positive."""
    labels = np.arange(n) % 3
    key_labels = np.concatenate([np.arange(3), np.arange(n + 1) % 3])
    return {
        "logits": 3 * rng.normal(size=(n, n + 4)),
        "labels": labels,
        "pair_labels": (labels + 1) % 3,
        "key_labels": key_labels,
    }


def gathered(a, b, gather, rows):
    """First views against all second ones, of four classes."""
    return {
        "logits": similarity.dot(a, gather(b)),
        "labels": rows % 4,
        "pair_labels": (rows + 1) % 4,
        "key_labels": gather(rows) % 4,
    }


CASES = {
    "class_pair_contrastive": Case(
        hydra.class_pair_contrastive,
        {"logits": "n m", "labels": "n", "pair_labels": "n", "key_labels": "m"},
        classed,
        ("logits",),
        without_positives=lambda x: {**x, "pair_labels": 0 * x["pair_labels"] + 7},
        gathered=gathered,
        offset=("logits",),
    )
}
HELPERS = ("gated_similarity", "sample_pair_labels")
RNG = np.random.default_rng(0)


def close(got, want, rtol=1e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_the_loss_is_the_loop_over_pairs():
    logits = RNG.normal(size=(4, 4)).astype(np.float32)
    labels, pair_labels = np.array([0, 1, 1, 2]), np.array([1, 1, 2, 3])
    terms = []
    for i, p in np.ndindex(4, 4):
        if labels[p] != pair_labels[i]:
            continue
        negatives = [
            logits[i, m]
            for m in range(4)
            if labels[m] not in (labels[i], pair_labels[i])
        ]
        terms.append(np.log1p(np.sum(np.exp(np.array(negatives) - logits[i, p]))))
    got = hydra.class_pair_contrastive(
        *map(jnp.asarray, (logits, labels, pair_labels, labels))
    )
    assert len(terms) == 5  # the last anchor's class is absent
    close(got, np.mean(terms))


def test_identical_pairs_without_a_gate_are_supervised_contrastive():
    z = jnp.asarray(RNG.normal(size=(6, 5)), jnp.float32)
    labels, others = jnp.array([0, 0, 1, 1, 2, 2]), ~jnp.eye(6, dtype=bool)
    gate = jnp.ones((6, 5))
    same = labels[:, None] == labels[None, :]
    for normalize in ("before", "after"):
        logits = hydra.gated_similarity(z, z, gate, normalize=normalize) / 0.5
        close(logits, similarity.cosine(z, z) / 0.5)
        got = hydra.class_pair_contrastive(logits, labels, labels, labels, where=others)
        want = losses.supervised_contrastive(
            logits, same, where=others, denominator="own"
        )
        close(got, want)


def test_gated_scores_by_hand_and_with_a_closed_gate():
    a, b = RNG.normal(size=(3, 4)), RNG.normal(size=(5, 4))
    g = RNG.uniform(size=(3, 4))
    arrays = [jnp.asarray(x, jnp.float32) for x in (a, b, g)]
    for normalize in ("before", "after"):
        run = jax.jit(functools.partial(hydra.gated_similarity, normalize=normalize))
        got = run(*arrays)
        for i, j in np.ndindex(3, 5):
            if normalize == "before":
                want = np.sum(unit(a[i]) * g[i] ** 2 * unit(b[j]))
            else:
                want = unit(a[i] * g[i]) @ unit(b[j] * g[i])
            close(got[i, j], want, rtol=1e-4)
        closed = jax.jit(jax.grad(lambda g, run=run: jnp.sum(run(*arrays[:2], g))))
        assert np.isfinite(closed(jnp.zeros((3, 4)))).all()
        assert (run(*arrays[:2], jnp.zeros((3, 4))) == 0).all()


def test_pair_labels():
    labels = jnp.asarray(RNG.integers(0, 4, 400))
    rng = jax.random.key(1)

    def draw(mode):
        return np.asarray(
            hydra.sample_pair_labels(rng, labels, mode=mode, num_classes=4)
        )

    np.testing.assert_array_equal(draw("identical"), labels)
    arbitrary, distinct = draw("arbitrary"), draw("distinct")
    np.testing.assert_array_equal(np.bincount(arbitrary), np.bincount(labels))
    assert abs(np.mean(arbitrary == np.asarray(labels)) - 0.25) < 0.08
    shift = (distinct - np.asarray(labels)) % 4
    np.testing.assert_allclose(np.bincount(shift, minlength=4)[1:], 400 / 3, atol=35)
    assert (shift != 0).all()


def test_bad_arguments_are_named(without_type_hooks):
    x = jnp.ones((2, 3))
    with pytest.raises(ValueError, match="normalize: expected"):
        hydra.gated_similarity(x, x, x, normalize="never")
    labels = jnp.array([0, 1])
    with pytest.raises(ValueError, match="mode: expected"):
        hydra.sample_pair_labels(jax.random.key(0), labels, mode="any", num_classes=2)
    with pytest.raises(ValueError, match="num_classes: expected 2 or more, got 1"):
        hydra.sample_pair_labels(jax.random.key(0), 0 * labels, num_classes=1)
