"""cDPO: closed forms of the score, the weights, the loss and the search."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses
from contrastive_jax.methods import cdpo
from tests.losses.cases import Case

AXES = {
    "chosen": "n t",
    "rejected": "n t",
    "reference_chosen": "n t",
    "reference_rejected": "n t",
    "rejected_weights": "n t",
}


def weighted(rng, n):
    given = {name: -3 * rng.random((n, 4)) for name in AXES}
    return given | {"rejected_weights": rng.random((n, 4))}


def case(**options):
    return Case(
        cdpo.cdpo,
        AXES,
        weighted,
        ("chosen", "rejected"),
        where="n",
        options=options,
        corners=({"beta": 1e-3}, {"beta": 1e3}),
    )


CASES = {
    "cdpo": case(label_smoothing=0.1),
    "cdpo/token": case(form="token"),
}
HELPERS = tuple(name for name in cdpo.__all__ if name != "cdpo")

CHOSEN = jnp.array([[-1.0, -2.0, -3.0]])
REJECTED = jnp.array([[-2.0, -1.0, -4.0]])
REFERENCE = dict(
    reference_chosen=jnp.array([[-2.0, -2.0, -2.0]]),
    reference_rejected=jnp.array([[-1.0, -1.0, -2.0]]),
)
WEIGHTS = jnp.array([[0.5, 1.0, 0.25]])
# Log-ratios 1, 0, -1 and (-1, 0, -2) times the weights.
C, R = np.array([1.0, 0.0, -1.0]), np.array([-0.5, 0.0, -0.5])


def close(got, want, rtol=1e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)


def softplus(x):
    return np.log1p(np.exp(x))


def test_sequence_form_by_hand(transform):
    options = dict(REFERENCE, rejected_weights=WEIGHTS, beta=0.5)
    run = transform(lambda x: cdpo.cdpo(x, REJECTED, **options))
    gap = C.sum() - R.sum()
    close(run(CHOSEN), softplus(-0.5 * gap))
    got = cdpo.cdpo(CHOSEN, REJECTED, **options, label_smoothing=0.2)
    close(got, 0.8 * softplus(-0.5 * gap) + 0.2 * softplus(0.5 * gap))


def test_token_form_by_hand():
    options = dict(REFERENCE, rejected_weights=WEIGHTS, beta=0.5, form="token")
    each = softplus(-0.5 * (C - R))
    close(cdpo.cdpo(CHOSEN, REJECTED, **options), each.mean())
    close(cdpo.cdpo(CHOSEN, REJECTED, **options, reduce_fn=None), [each.sum()])
    # Places that do not count are log 2 and stay in the mean.
    tokens = jnp.array([[False, True, True]])
    masks = dict(chosen_tokens=tokens, rejected_tokens=tokens)
    got = cdpo.cdpo(CHOSEN, REJECTED, **options, **masks)
    close(got, (np.log(2) + each[1:].sum()) / 3)
    pair = [jnp.concatenate([x, x - 5]) for x in (CHOSEN, REJECTED)]
    twice = {k: jnp.concatenate([x, x]) for k, x in REFERENCE.items()}
    got = cdpo.cdpo(
        *pair,
        **twice,
        rejected_weights=jnp.concatenate([WEIGHTS, WEIGHTS]),
        beta=0.5,
        form="token",
        where=jnp.array([True, False]),
    )
    close(got, each.mean())


def test_with_all_weights_one_it_is_dpo_and_with_none_the_rejected_side_is_gone():
    one = cdpo.cdpo(CHOSEN, REJECTED, **REFERENCE, rejected_weights=jnp.ones((1, 3)))
    sums = {k: jnp.sum(x, axis=1) for k, x in REFERENCE.items()}
    close(one, losses.dpo(CHOSEN.sum(axis=1), REJECTED.sum(axis=1), **sums))
    none = jax.value_and_grad(
        lambda x: cdpo.cdpo(CHOSEN, x, **REFERENCE, rejected_weights=jnp.zeros((1, 3)))
    )
    value, grad = none(REJECTED)
    close(value, softplus(-0.1 * C.sum()))
    assert not np.any(grad)


def test_weights_of_the_chosen_side_and_of_other_lengths():
    got = cdpo.cdpo(
        CHOSEN,
        REJECTED[:, :2],
        reference_chosen=REFERENCE["reference_chosen"],
        reference_rejected=REFERENCE["reference_rejected"][:, :2],
        rejected_weights=WEIGHTS[:, :2],
        chosen_weights=jnp.array([[0.5, 1.0, 0.0]]),
        beta=1.0,
    )
    close(got, softplus(-(0.5 - R[:2].sum())))


def test_an_empty_response_is_log_2_and_what_is_outside_leaves_no_trace():
    nothing = jnp.zeros((1, 3), bool)
    masks = dict(chosen_tokens=nothing, rejected_tokens=nothing)
    run = jax.value_and_grad(
        lambda x: cdpo.cdpo(x, REJECTED, **REFERENCE, **masks, rejected_weights=WEIGHTS)
    )
    value, grad = run(CHOSEN.at[0, 1].set(jnp.nan))
    close(value, np.log(2))
    assert not np.any(grad)


def test_reference_and_weights_carry_no_gradient():
    given = dict(REFERENCE, rejected_weights=WEIGHTS)
    grads = jax.grad(lambda given: cdpo.cdpo(CHOSEN, REJECTED, **given))(given)
    assert all(not np.any(x) for x in grads.values())


def test_wrong_arguments_are_named(without_type_hooks):
    with pytest.raises(ValueError, match=r"^form: expected "):
        cdpo.cdpo(CHOSEN, REJECTED, **REFERENCE, rejected_weights=WEIGHTS, form="pair")
    short = dict(REFERENCE, rejected_weights=WEIGHTS[:, :2])
    short["reference_rejected"] = short["reference_rejected"][:, :2]
    with pytest.raises(ValueError, match=r"^rejected: expected 3 tokens"):
        cdpo.cdpo(CHOSEN, REJECTED[:, :2], **short, form="token")
    with pytest.raises(ValueError, match=r"^rejected_weights: expected shape"):
        cdpo.cdpo(CHOSEN, REJECTED, **REFERENCE, rejected_weights=WEIGHTS[:, :2])


P = np.array([[[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]])
Q = np.array([[[0.2, 0.2, 0.6], [0.1, 0.6, 0.3]]])
LABELS = jnp.array([[2, 1]])


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_score_by_hand(beta, transform):
    """p^(1 + beta) / q^beta, normalised over the vocabulary; one label is left out."""
    run = transform(
        lambda p, q: cdpo.contrastive_estimation_score(p, q, LABELS, beta=beta)
    )
    logits = [jnp.log(jnp.asarray(x)) + 7.0 for x in (P, Q)]  # raw, not normalised
    s = P ** (1 + beta) * Q**-beta
    s = s / s.sum(axis=-1, keepdims=True)
    close(run(*logits), [[s[0, 0, 2], s[0, 1, 1]]])
    ignored = cdpo.contrastive_estimation_score(*logits, LABELS.at[0, 1].set(-100))
    assert ignored[0, 1] == 0 and ignored[0, 0] > 0


def test_score_from_hidden_states_equals_that_of_logits():
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 5, 4))
    heads = rng.normal(size=(7, 3)), rng.normal(size=(7, 4))
    labels = jnp.asarray(rng.integers(7, size=(2, 5)))
    where = jnp.ones((2, 5), bool).at[0, 1].set(False)
    p, q, *heads = (jnp.asarray(x, jnp.float32) for x in (p, q, *heads))
    options = dict(beta=0.7, where=where)
    got = cdpo.linear_contrastive_estimation_score(
        p, q, *heads, labels, **options, chunk=4
    )
    logits = [x @ w.T for x, w in zip((p, q), heads, strict=True)]
    want = cdpo.contrastive_estimation_score(*logits, labels, **options)
    close(got, want, rtol=1e-4)
    assert got[0, 1] == 0


def test_weights_are_for_the_token_that_is_scored():
    """A hand-made trace: prompt a, answer b c end, padded; critical is c."""
    tokens = jnp.array([[0, 1, 2, 3, 0]])
    positive = jnp.log(jnp.full((1, 5, 4), 0.1).at[0, [0, 1, 2], [1, 1, 3]].set(0.7))
    negative = jnp.log(jnp.full((1, 5, 4), 0.1).at[0, [0, 1, 2], [1, 2, 3]].set(0.7))
    s = cdpo.contrastive_estimation_score(
        positive[:, :-1], negative[:, :-1], tokens[:, 1:]
    )
    response = jnp.array([[True, True, True, False]])
    weights = cdpo.cdpo_weights(s, response, ends=tokens[:, 1:] == 3)
    # p = q where both say b (0.7); p = .1, q = .7 at c; the end; padding.
    rest = np.array([0.49 / 0.1, 0.1, 0.1, 0.1**2 / 0.7])
    close(weights, [[0.3, 1 - rest[3] / rest.sum(), 1.0, 0.0]], rtol=1e-4)


@pytest.mark.parametrize(
    ("counts", "want"),
    [
        ([5, 0, 3, 0], 1),  # three right answers later are few
        ([5, 0, 4, 1], 1),  # none found after the fourth: the last found stands
        ([5, 0, 0, 9, 2, 0, 0], 5),
        ([0, 9, 0, 9, 1], 2),
        ([2, 1, 3], -1),
    ],
)
def test_find_critical_token(counts, want):
    assert cdpo.find_critical_token(np.array(counts)) == want
    assert released_search(counts) == want


def released_search(counts):
    """The same search as a loop over prefixes."""
    now = last = -1
    for place, right in enumerate(counts):
        if right == 0 and now < 0:
            now = place
        if now >= 0 and right > 3:
            now, last = -1, now
    return now if now >= 0 else last


def test_find_critical_token_equals_the_loop_on_random_counts():
    rng = np.random.default_rng(0)
    for counts in rng.integers(0, 6, size=(200, 9)):
        assert cdpo.find_critical_token(counts) == released_search(counts)
