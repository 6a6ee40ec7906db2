"""SimCTG: pairs by hand, the traps of zero states, padding and no pair, devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import decoding, losses, parallel
from contrastive_jax.methods import simctg
from tests.losses.cases import Case

CASES = {
    "token_contrast": Case(
        simctg.token_contrast,
        {"hidden": "n m d"},
        lambda rng, n: {"hidden": rng.normal(size=(n, n + 2, 3)) + 0.5},
        ("hidden",),
        corners=({"margin": 0.0}, {"margin": 2.0}),
    ),
}
HELPERS = ("simctg", "token_margins")

RNG = np.random.default_rng(0)
N, T, D, V = 8, 6, 4, 7
HIDDEN = jnp.asarray(RNG.normal(size=(N, T, D)) + 0.4, jnp.float32)
LOGITS = jnp.asarray(RNG.normal(size=(N, T, V)), jnp.float32)
LENGTHS = np.array([6, 5, 1, 0, 3, 6, 2, 4])
WHERE = jnp.asarray(np.arange(T)[None, :] < LENGTHS[:, None])
LABELS = jnp.where(WHERE, jnp.asarray(RNG.integers(V, size=(N, T))), -100)


def by_hand(hidden, where, margin):
    """Sum of the pairs and their number, pair by pair."""
    total = count = 0.0
    for h, mask in zip(np.asarray(hidden, float), where, strict=True):
        for i in np.flatnonzero(mask):
            for j in np.flatnonzero(mask):
                if i != j:
                    cosine = h[i] @ h[j] / np.linalg.norm(h[i]) / np.linalg.norm(h[j])
                    total, count = total + max(0.0, margin - 1 + cosine), count + 1
    return total, count


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.5])
def test_the_mean_is_over_all_pairs_of_all_texts(margin, transform):
    f = transform(functools.partial(simctg.token_contrast, margin=margin))
    total, count = by_hand(HIDDEN, WHERE, margin)
    got = f(HIDDEN, where=WHERE)
    np.testing.assert_allclose(got, total / count, rtol=1e-5, atol=1e-7)
    if margin:
        # Not the mean of the means of the texts.
        per_text = [
            by_hand(HIDDEN[i : i + 1], WHERE[i : i + 1], margin) for i in (0, 6)
        ]
        means = np.mean([a / b for a, b in per_text])
        both = jnp.asarray([0, 6])
        assert abs(means - f(HIDDEN[both], where=WHERE[both])) > 1e-3


def test_each_part_has_its_own_mean():
    loss, parts = simctg.simctg(HIDDEN, LOGITS, LABELS, where=WHERE, margin=0.7)
    want = losses.token_cross_entropy(LOGITS, LABELS)
    np.testing.assert_allclose(parts["mle"], want, rtol=1e-6)
    total, count = by_hand(HIDDEN, WHERE, 0.7)
    np.testing.assert_allclose(parts["cl"], total / count, rtol=1e-5)
    assert loss == parts["mle"] + parts["cl"]
    # The ablation: with a margin of 0 the likelihood alone.
    alone, _ = simctg.simctg(HIDDEN, LOGITS, LABELS, where=WHERE, margin=0.0)
    np.testing.assert_allclose(alone, want, rtol=1e-6)
    sums, _ = simctg.simctg(HIDDEN, LOGITS, LABELS, where=WHERE, reduce_fn=None)
    whole, _ = simctg.simctg(HIDDEN, LOGITS, LABELS, where=WHERE, reduce_fn=jnp.sum)
    np.testing.assert_allclose(jnp.sum(sums), whole, rtol=1e-6)


def test_padding_and_zero_states_leave_no_nan():
    """States of norm 0, or garbage, at padding; and a text's own state of norm 0."""

    def loss(hidden, where=WHERE):
        return simctg.simctg(hidden, LOGITS, LABELS, where=where)[0]

    want = jax.value_and_grad(loss)(HIDDEN)
    for garbage in (0.0, 1e30, jnp.nan):
        changed = jnp.where(WHERE[..., None], HIDDEN, garbage)
        value, grad = jax.value_and_grad(loss)(changed)
        np.testing.assert_allclose(value, want[0], rtol=1e-6)
        np.testing.assert_allclose(grad, want[1], rtol=1e-5, atol=1e-7)
        assert not np.asarray(grad)[~np.asarray(WHERE)].any()
    value, grad = jax.value_and_grad(loss)(HIDDEN.at[0, 0].set(0.0))
    assert np.isfinite(value) and np.isfinite(grad).all()


@pytest.mark.parametrize("length", [0, 1])
def test_without_a_pair_the_loss_is_zero(length):
    where = jnp.arange(T)[None, :] < jnp.full((N, 1), length)
    f = functools.partial(simctg.token_contrast, where=where)
    value, grad = jax.value_and_grad(f)(HIDDEN)
    assert value == 0 and not np.any(grad)


def test_gradients_flow_through_both_tokens_of_a_pair():
    hidden = jnp.asarray([[[1.0, 0.2], [1.0, -0.2]]])
    grad = jax.grad(simctg.token_contrast)(hidden)
    assert np.all(np.abs(grad[0, :, 1]) > 0.1)
    np.testing.assert_allclose(grad[0, 0, 1], -grad[0, 1, 1], rtol=1e-5)
    assert grad[0, 0, 1] < 0 < grad[0, 1, 1], "a step apart"


def test_half_precision_is_computed_in_float32():
    half = HIDDEN.astype(jnp.bfloat16)
    got = simctg.token_contrast(half, where=WHERE)
    want = simctg.token_contrast(half.astype(jnp.float32), where=WHERE)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("mapper", ["pmap", "shard_map"])
def test_means_are_over_the_pairs_of_all_devices(mapper):
    """Texts of other lengths on every device, one device without a pair."""

    def make_step(axis_name=None):
        def step(scale, batch):
            def loss_fn(scale):
                hidden = batch["hidden"] + scale
                return simctg.simctg(
                    hidden, batch["logits"], batch["labels"], where=batch["where"]
                )

            run = parallel.value_and_grad(loss_fn, axis_name, has_aux=True)
            (loss, parts), grad = run(scale)
            return scale, {"loss": loss, **parts, "grad": grad}

        return step

    batch = dict(hidden=HIDDEN, logits=LOGITS, labels=LABELS, where=WHERE)
    start = jnp.asarray(0.3)
    _, want = make_step()(start, batch)
    step = parallel.data_parallel(make_step, mapper, devices=8)
    _, got = step(start, batch)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=2e-5, err_msg=name)
    assert abs(want["grad"]) > 1e-3 and want["cl"] > 1e-2


def test_wrong_arguments_are_named(without_type_hooks):
    with pytest.raises(ValueError, match=r"^margin: expected a finite number >= 0"):
        simctg.token_contrast(HIDDEN, margin=-0.1)
    with pytest.raises(ValueError, match=r"^logits: expected shape"):
        simctg.simctg(HIDDEN, LOGITS[:2], LABELS)
    with pytest.raises(ValueError, match=r"^where: expected shape"):
        simctg.token_contrast(HIDDEN, where=WHERE[:, :2])
    with pytest.raises(ValueError, match=r"^labels: expected numbers in"):
        simctg.simctg(HIDDEN, LOGITS, jnp.full_like(LABELS, V))
    with pytest.raises(TypeError, match=r"^hidden: "):
        simctg.token_contrast(HIDDEN.astype(int))


def test_padding_of_prompts_does_not_penalize():
    """Rows of a buffer beyond the text, even equal to a candidate, do not count."""
    candidate = jnp.asarray([[[1.0, 0.0], [0.0, 1.0]]])
    context = jnp.asarray([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    where = jnp.asarray([[False, True, False]])
    probs = jnp.asarray([[0.4, 0.5]])
    scores = decoding.contrastive_scores(probs, candidate, context, where, alpha=0.5)
    np.testing.assert_allclose(scores, [[0.2, -0.25]], atol=1e-6)
