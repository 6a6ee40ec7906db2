"""Prototypes: moving averages of the features assigned to each of k clusters."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from contrastive_jax import numerics, similarity
from contrastive_jax.states import ema


@chex.dataclass(frozen=True)
class Prototypes:
    """Cluster or class centers.

    Attributes:
      vectors: one per prototype.
      used: True at prototypes that were assigned a feature.
    """

    vectors: Float[Array, "k d"]
    used: Bool[Array, " k"]


def prototypes_init(rng: PRNGKeyArray, num_prototypes: int, dim: int) -> Prototypes:
    """Random directions as prototypes.

    Args:
      rng: random key.
      num_prototypes: number of prototypes k.
      dim: size d of each.

    Examples:
      >>> prototypes_init(jax.random.key(0), 8, 4).vectors.shape
      (8, 4)
    """
    numerics.check_positive(num_prototypes=num_prototypes, dim=dim)
    return Prototypes(
        vectors=similarity.l2_normalize(jax.random.normal(rng, (num_prototypes, dim))),
        used=jnp.zeros(num_prototypes, bool),
    )


def assigned_means(
    features: Float[Array, "n d"],
    assignments: Float[Array, "n k"] | Bool[Array, "n k"],
    *,
    eps: numerics.Number = 0.0,
) -> tuple[Float[Array, "k d"], Bool[Array, " k"]]:
    """Weighted mean of the features assigned to each of k centers.

        mean_k = sum_i a_ik x_i / max(sum_i a_ik, eps)

    With `pairs.one_column(labels, num_classes)` as assignments these are class means. A
    row that is not finite makes NaN of the means that it is assigned to, of no others.

    Args:
      features: rows to average.
      assignments: non-negative weights, or a mask.
      eps: least sum to divide by.

    Returns:
      The means, 0 where nothing was assigned, and a mask of the non-empty ones.

    Examples:
      >>> x = jnp.array([[1.0], [3.0], [5.0]])
      >>> mask = jnp.array([[True, False], [True, False], [False, False]])
      >>> assigned_means(x, mask)[0][:, 0]
      Array([2., 0.], dtype=float32)
    """
    numerics.check_shapes(features=(features, "n d"), assignments=(assignments, "n k"))
    numerics.check_nonnegative(eps=eps)
    features = numerics.at_least_f32(features, "features")
    assignments = jnp.asarray(assignments, features.dtype)
    total = jnp.sum(assignments, axis=0)
    nonempty = total > 0
    weights = assignments / jnp.where(nonempty, jnp.maximum(total, eps), 1)[None, :]
    # In a product 0 times NaN would be NaN: those are counted apart.
    finite = jnp.isfinite(features)
    means = similarity.matmul(weights.T, jnp.where(finite, features, 0).T)
    assigned, wrong = ((x != 0).astype(features.dtype) for x in (weights, ~finite))
    spoiled = similarity.matmul(assigned.T, wrong.T) > 0
    return jnp.where(spoiled, jnp.nan, means), nonempty


def prototypes_update(
    prototypes: Prototypes,
    features: Float[Array, "n d"],
    assignments: Float[Array, "n k"] | Bool[Array, "n k"],
    *,
    decay: numerics.Number,
    eps: numerics.Number = 0.0,
    normalize: bool = True,
    stop_gradient: bool = True,
) -> Prototypes:
    """Moving average of prototypes towards the mean of their assigned features.

        p_k <- decay p_k + (1 - decay) sum_i a_ik x_i / sum_i a_ik,  then p_k / ||p_k||

    A prototype with no assigned feature keeps its value.

    Args:
      prototypes: the prototypes before.
      features: features of the batch.
      assignments: non-negative weights, or a mask, of each feature for each prototype.
      decay: in [0, 1]; 1 keeps the prototypes.
      eps: least sum of assignments to divide by, see `assigned_means`.
      normalize: whether prototypes are scaled to length 1.
      stop_gradient: False lets gradients reach the features, as PALM does; never the
        prototypes from before and never the assignments.

    Examples:
      >>> start = Prototypes(vectors=jnp.array([[1.0, 0.0]]), used=jnp.array([False]))
      >>> x, mask = jnp.array([[0.0, 1.0]]), jnp.array([[True]])
      >>> prototypes_update(start, x, mask, decay=0.5).vectors.round(4)
      Array([[0.7071, 0.7071]], dtype=float32)

    References:
      Li et al. 2020, arXiv:2009.07995; Lu et al. 2024, arXiv:2402.02653.
    """
    numerics.check_shapes(
        prototypes=(prototypes.vectors, "k d"),
        features=(features, "n d"),
        assignments=(assignments, "n k"),
    )
    numerics.check_fraction(decay=decay)
    old = jax.lax.stop_gradient(numerics.at_least_f32(prototypes.vectors, "prototypes"))
    mean, nonempty = assigned_means(
        features, jax.lax.stop_gradient(assignments), eps=eps
    )
    new = ema.blend(old, mean.astype(old.dtype), jnp.asarray(decay, old.dtype))
    new = similarity.l2_normalize(new) if normalize else new
    new = jnp.where(nonempty[:, None], new, old)
    new = jax.lax.stop_gradient(new) if stop_gradient else new
    return dataclasses.replace(prototypes, vectors=new, used=prototypes.used | nonempty)
