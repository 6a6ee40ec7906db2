"""MoCo: equal to InfoNCE over a queue, and over the batch."""

import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses
from contrastive_jax.methods import moco
from tests.losses.cases import Case
from tests.losses.cases_in_batch import COLUMNS, columns, gathered_columns


def queued(rng, n):
    """A positive and n + 2 queued negatives for each anchor."""
    return {
        "positive_logits": 3 * rng.normal(size=n),
        "negative_logits": 3 * rng.normal(size=(n, n + 2)),
    }


CASES = {
    "moco": Case(
        moco.moco,
        {"positive_logits": "n", "negative_logits": "n m"},
        queued,
        ("positive_logits", "negative_logits"),
        offset=("positive_logits", "negative_logits"),
    ),
    "moco_v3": Case(
        moco.moco_v3,
        COLUMNS,
        columns,
        ("logits",),
        options={"temperature": 0.2},
        gathered=gathered_columns,
        columns=("labels",),
        offset=("logits",),
    ),
}
HELPERS = ()


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_moco_is_info_nce_with_the_positive_in_front():
    positive, negative = normal(3), normal(3, 6)
    logits = jnp.concatenate([positive[:, None], negative], axis=1)
    want = losses.info_nce(logits, jnp.zeros(3, int))
    close(moco.moco(positive, negative), want)


def test_moco_v3_is_scaled_by_twice_the_temperature():
    logits = normal(4, 4)
    want = 2 * 0.3 * losses.info_nce(logits)
    close(moco.moco_v3(logits, temperature=0.3), want)
    with pytest.raises(ValueError, match=r"^temperature: expected"):
        moco.moco_v3(logits, temperature=0.0)
