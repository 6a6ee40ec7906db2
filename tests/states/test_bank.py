"""Rows by example id."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import states


def test_momentum_and_normalization(transform):
    bank = states.bank_init(jax.random.key(0), 4, 2)
    update = transform(lambda b, i, x: states.bank_update(b, i, x, decay=0.5))
    ids = jnp.array([2, 0])
    bank = update(bank, ids, jnp.array([[3.0, 0.0], [0.0, 2.0]]))
    # The first feature replaces the random start: only its direction is left.
    np.testing.assert_allclose(bank.rows[ids], [[1, 0], [0, 1]], atol=1e-6)
    assert bank.filled.tolist() == [True, False, True, False]
    bank = update(bank, ids[:1], jnp.array([[0.0, 1.0]]))
    half = np.array([0.5, 0.5]) / np.sqrt(0.5)
    np.testing.assert_allclose(bank.rows[2], half, rtol=1e-6)


def test_other_rows_stay():
    bank = states.bank_init(jax.random.key(0), 5, 3)
    got = states.bank_update(bank, jnp.array([1]), jnp.ones((1, 3)))
    others = jnp.array([0, 2, 3, 4])
    np.testing.assert_array_equal(got.rows[others], bank.rows[others])


def test_duplicates_are_averaged_in_any_order():
    bank = states.bank_init(jax.random.key(0), 3, 2)
    ids = jnp.array([1, 0, 1, 1])
    x = jnp.array([[3.0, 0.0], [1.0, 1.0], [0.0, 3.0], [0.0, 0.0]])
    got = states.bank_update(bank, ids, x, normalize=False)
    np.testing.assert_allclose(got.rows[1], [1.0, 1.0], rtol=1e-6)
    flipped = states.bank_update(bank, ids[::-1], x[::-1], normalize=False)
    np.testing.assert_allclose(got.rows, flipped.rows, rtol=1e-6)


def test_ids_outside_are_dropped():
    bank = states.bank_init(jax.random.key(0), 3, 2)
    got = states.bank_update(bank, jnp.array([-1, 3]), jnp.ones((2, 2)))
    np.testing.assert_array_equal(got.rows, bank.rows)
    assert not jnp.any(got.filled)
    # What was in them reaches no other row.
    x = jnp.array([[1.0, 0.0], [jnp.nan, jnp.inf]])
    got = states.bank_update(bank, jnp.array([1, 3]), x)
    np.testing.assert_array_equal(got.rows[1], x[0])


def test_no_gradient():
    bank = states.bank_init(jax.random.key(0), 3, 2)
    grad = jax.grad(lambda x: jnp.sum(states.bank_update(bank, jnp.array([1]), x).rows))
    assert jnp.all(grad(jnp.ones((1, 2))) == 0)


def test_wrong_input_is_named():
    bank = states.bank_init(jax.random.key(0), 3, 2)
    with pytest.raises(ValueError, match=r"features: expected shape \[b, d\]"):
        states.bank_update(bank, jnp.array([1]), jnp.ones((1, 5)))
    with pytest.raises(ValueError, match="decay"):
        states.bank_update(bank, jnp.array([1]), jnp.ones((1, 2)), decay=-0.1)
