"""Memory bank: one representation per training example, read and updated by its id."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray

from contrastive_jax import numerics, similarity
from contrastive_jax.states import ema
from contrastive_jax.states.prototypes import assigned_means


@chex.dataclass(frozen=True)
class Bank:
    """The last representation of each of n examples.

    Attributes:
      rows: one per example id.
      filled: True at rows that were updated, False at random initial ones.
    """

    rows: Float[Array, "n d"]
    filled: Bool[Array, " n"]


def bank_init(rng: PRNGKeyArray, size: int, dim: int, *, dtype=jnp.float32) -> Bank:
    """A bank of random directions.

    Args:
      rng: random key.
      size: number of examples n.
      dim: size d of a row.
      dtype: type of the rows; half precision comes up to float32.

    Examples:
      >>> bank_init(jax.random.key(0), 8, 4).rows.shape
      (8, 4)

    References:
      Wu et al. 2018, arXiv:1805.01978, section 3.1.
    """
    numerics.check_positive(size=size, dim=dim)
    rows = similarity.l2_normalize(jax.random.normal(rng, (size, dim)))
    dtype = jnp.promote_types(dtype, jnp.float32)
    return Bank(rows=rows.astype(dtype), filled=jnp.zeros(size, bool))


def bank_update(
    bank: Bank,
    ids: Integer[Array, " b"],
    features: Float[Array, "b d"],
    *,
    decay: float | Array = 0.0,
    normalize: bool = True,
) -> Bank:
    """Moving average of the bank's rows towards the features of a batch.

        row <- decay row + (1 - decay) feature,  then row / ||row||

    An id that occurs several times in the batch gets the mean of its features, so the
    result does not depend on the order of the batch. Ids outside of the bank are
    dropped. A row's first feature replaces its random start whatever the decay. Rows
    come back in at least float32.

    Args:
      bank: the bank before.
      ids: example of each feature, 0 to n - 1.
      features: their representations.
      decay: in [0, 1]; 0 keeps the newest feature only, 1 what is there.
      normalize: whether rows are scaled to length 1.

    Examples:
      >>> bank = bank_init(jax.random.key(0), 3, 2)
      >>> ids, features = jnp.array([2, 2]), jnp.array([[1.0, 0.0], [0.0, 1.0]])
      >>> bank_update(bank, ids, features, normalize=False).rows[2]
      Array([0.5, 0.5], dtype=float32)

    References:
      Wu et al. 2018, arXiv:1805.01978, section 3.1.
    """
    sizes = numerics.check_shapes(
        bank=(bank.rows, "n d"), ids=(ids, "b"), features=(features, "b d")
    )
    numerics.check_fraction(decay=decay)
    ids = numerics.check_signed(ids, "ids")
    features = jax.lax.stop_gradient(numerics.at_least_f32(features, "features"))
    # Every occurrence of an id writes the same row: their order cannot matter.
    inside = (ids >= 0) & (ids < sizes["n"])
    same = (ids[:, None] == ids[None, :]) & inside[:, None]
    mean, _ = assigned_means(features, same)
    rows = numerics.at_least_f32(bank.rows, "bank")
    decay = jnp.where(bank.filled[ids], decay, 0)[:, None].astype(rows.dtype)
    new = ema.blend(rows[ids], mean.astype(rows.dtype), decay)
    new = similarity.l2_normalize(new) if normalize else new
    targets = jnp.where(inside, ids, sizes["n"])
    return dataclasses.replace(
        bank,
        rows=rows.at[targets].set(new, mode="drop"),
        filled=bank.filled.at[targets].set(True, mode="drop"),
    )
