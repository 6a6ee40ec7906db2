"""Laws of every state: averages move, rows that do not count leave no trace."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import pairs, states

HALF = jnp.bfloat16
TWO = jnp.full((1, 1), 2.0, HALF)
FILLED = jnp.ones(1, bool)
DECAY = 0.999
# Each state at 1 in half precision, and one update towards 2.
AVERAGES = {
    "tree": (
        jnp.ones((1, 1), HALF),
        lambda s: states.ema_update(s, TWO, decay=DECAY),
    ),
    "bank": (
        states.Bank(rows=jnp.ones((1, 1), HALF), filled=FILLED),
        lambda s: states.bank_update(
            s, jnp.zeros(1, int), TWO, decay=DECAY, normalize=False
        ),
    ),
    "prototypes": (
        states.Prototypes(vectors=jnp.ones((1, 1), HALF), used=FILLED),
        lambda s: states.prototypes_update(
            s, TWO, jnp.ones((1, 1), bool), decay=DECAY, normalize=False
        ),
    ),
    "center": (
        states.Center(value=jnp.ones(1, HALF)),
        lambda s: states.center_update(s, TWO[0], decay=DECAY),
    ),
    "moments": (
        states.Moments(mean=jnp.ones(1, HALF), covariance=jnp.ones((1, 1), HALF)),
        lambda s: states.moments_update(
            s, states.Moments(mean=TWO[0], covariance=TWO), decay=DECAY
        ),
    ),
}


@functools.cache
def after_10_000_updates():
    def run(start, update):
        return jax.lax.fori_loop(1, 10_000, lambda _, s: update(s), update(start))

    return jax.jit(lambda: {k: run(*value) for k, value in AVERAGES.items()})()


@pytest.mark.parametrize("name", AVERAGES)
def test_a_half_precision_state_moves(name):
    for x in jax.tree.leaves(after_10_000_updates()[name]):
        if x.dtype != jnp.bool_:
            assert x.dtype == jnp.float32
            np.testing.assert_allclose(x, 2 - DECAY**10_000, atol=1e-3)


@pytest.mark.parametrize("name", AVERAGES)
def test_a_half_precision_carry_is_refused_by_scan(name):
    start, update = AVERAGES[name]
    with pytest.raises(TypeError, match="carry"):
        jax.lax.scan(lambda s, _: (update(s), None), start, length=2)


def test_the_start_of_an_average_keeps_its_types():
    online = {"w": TWO, "step": jnp.int32(3), "rng": jax.random.key(0)}
    start = states.ema_init(online)
    assert start["w"].dtype == jnp.float32 and start["step"].dtype == jnp.int32

    def body(s, _):
        return states.ema_update(s, online, decay=0.5), None

    end, _ = jax.lax.scan(body, start, length=2)
    assert end["w"] == 2 and end["step"] == 3
    assert states.bank_init(jax.random.key(0), 2, 2, dtype=HALF).rows.dtype == (
        jnp.float32
    )


def test_a_decay_of_1_keeps_the_state_and_of_0_copies_whatever_the_other_holds(
    transform,
):
    one, nan = jnp.ones(2), jnp.full(2, jnp.nan)
    update = transform(lambda old, new, d: states.ema_update(old, new, decay=d))
    np.testing.assert_array_equal(update(one, nan, 1.0), one)
    np.testing.assert_array_equal(update(nan, one, 0.0), one)
    assert np.isnan(update(one, nan, 0.9)).all()  # not hidden
    bank = states.Bank(rows=jnp.eye(2), filled=jnp.ones(2, bool))
    kept = states.bank_update(bank, jnp.array([0]), nan[None], decay=1.0)
    np.testing.assert_array_equal(kept.rows, jnp.eye(2))
    start = states.Prototypes(vectors=jnp.eye(2), used=jnp.ones(2, bool))
    args = nan[None], jnp.ones((1, 2), bool)
    kept = states.prototypes_update(start, *args, decay=jnp.float32(1))
    np.testing.assert_array_equal(kept.vectors, jnp.eye(2))


def test_rows_that_are_assigned_to_nothing_do_not_leak(transform):
    means = transform(states.assigned_means)
    nan, inf = jnp.nan, jnp.inf
    x = jnp.array([[1.0], [nan]])
    got, nonempty = means(x, pairs.one_column(jnp.array([0, -1]), 2))
    assert got.tolist() == [[1.0], [0.0]] and nonempty.tolist() == [True, False]
    # What is assigned is seen, by its own center and channel only.
    x = jnp.array([[1.0, 2.0], [nan, 4.0], [5.0, -inf], [7.0, 8.0], [inf, nan]])
    weights = jnp.array([[1, 0, 0], [0, 3, 0], [0, 0, 1], [1, 1, 0], [0, 0, 0.0]])
    got, _ = means(x, weights)
    np.testing.assert_array_equal(got, [[4, 5], [nan, 5], [5, nan]])

    def total(x, weights):
        return jnp.sum(means(x, weights)[0][0])

    grads = jax.grad(total, (0, 1))(x, weights)
    np.testing.assert_allclose(grads[0], np.outer([0.5, 0, 0, 0.5, 0], [1, 1]))
    assert np.isfinite(grads[1]).all()


def test_a_bad_row_reaches_no_other_row_of_a_state():
    nan = jnp.nan
    x = jnp.array([[1.0, 0.0], [nan, 1.0], [0.0, 1.0]])
    bank = states.bank_init(jax.random.key(0), 3, 2)
    got = states.bank_update(bank, jnp.array([0, 2, 1]), x)
    np.testing.assert_array_equal(got.rows[:2], [[1, 0], [0, 1]])
    start = states.prototypes_init(jax.random.key(0), 3, 2)
    got = states.prototypes_update(
        start, x, pairs.one_column(jnp.array([0, -1, 1]), 3), decay=0.0
    )
    np.testing.assert_array_equal(got.vectors[:2], [[1, 0], [0, 1]])
    np.testing.assert_array_equal(got.vectors[2], start.vectors[2])
    where = jnp.array([True, False, True])
    got = states.batch_moments(x, where=where)
    np.testing.assert_allclose(got.mean, [0.5, 0.5])


@pytest.mark.parametrize("herd", [states.herd_nearest, states.herd_barycenter])
def test_a_row_that_is_not_finite_is_no_exemplar(herd):
    x = np.array([[1.0], [np.nan], [1.2], [np.inf], [3.0], [np.nan]])
    labels = np.array([0, 0, 0, 1, 1, 2])
    rows = herd(x, labels, per_class=3)
    assert sorted(rows[:2].tolist()) == [0, 2] and rows[2:].tolist() == [4]
    assert herd(x[[1]], labels[:1], per_class=3).tolist() == []


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_numbers_of_classes_and_examples_of_any_type(dtype):
    x, ids = jnp.ones((2, 1)), jnp.array([100, -1], dtype)
    bank = states.bank_init(jax.random.key(0), 300, 1)
    ring = states.class_queue_init(jax.random.key(0), 300, 2, 1)
    memory = states.rehearsal_init(300, 2, np.zeros(1, np.float32))
    for held in (
        states.bank_update(bank, ids, x).filled,
        states.class_queue_push(ring, x, ids).count,
        states.rehearsal_store(memory, x, ids).counts,
    ):
        assert np.flatnonzero(held).tolist() == [100]


def test_unsigned_and_large_numbers_do_not_wrap(without_type_hooks):
    x = jnp.ones((2, 1))
    bank = states.bank_init(jax.random.key(0), 300, 1)
    got = states.bank_update(bank, jnp.array([5, 250], jnp.uint8), x)
    assert np.flatnonzero(got.filled).tolist() == [5, 250]
    queue = states.queue_init(jax.random.key(0), 3, 1)
    with pytest.raises(ValueError, match=r"^labels: expected integers that fit"):
        states.queue_push(queue, x, jnp.array([2**32 - 1, 0], jnp.uint32))
    with pytest.raises(ValueError, match=r"^ids: expected integers that fit"):
        states.bank_update(bank, np.array([2**33, 0]), x)
    # On the host 64 bits are kept.
    labels = np.array([1, 2**33 + 1, 1])
    rows = states.herd_random(jax.random.key(0), labels, per_class=5)
    assert labels[rows].tolist() == [1, 1, 2**33 + 1]
    rows = states.herd_nearest(np.ones((3, 1)), labels, per_class=5)
    assert labels[rows].tolist() == [1, 1, 2**33 + 1]


def test_schedules_may_be_traced():
    static = states.cosine_schedule(
        5, num_steps=9, base=0.9, final=0.1, warmup_steps=2, start=0.2
    )
    traced = jax.jit(
        lambda n, b, f, w, s: states.cosine_schedule(
            5, num_steps=n, base=b, final=f, warmup_steps=w, start=s
        )
    )(9, 0.9, 0.1, 2, 0.2)
    np.testing.assert_allclose(traced, static, rtol=1e-6)
    covariance = jnp.diag(jnp.array([1.0, 3.0]))
    for f in (
        lambda eps: states.whitening_matrix(covariance, eps=eps),
        lambda d: (
            states.center_update(states.center_init(1), jnp.ones(1), decay=d).value
        ),
    ):
        np.testing.assert_allclose(jax.jit(f)(0.25), f(0.25), rtol=1e-5, atol=1e-6)
