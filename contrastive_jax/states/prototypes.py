"""Prototypes: k directions that follow the features assigned to them."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from contrastive_jax import numerics, similarity


@chex.dataclass(frozen=True)
class Prototypes:
    """Cluster or class centres.

    Attributes:
      vectors: one per prototype.
      used: which prototypes were ever assigned a feature.
    """

    vectors: Float[Array, "k d"]
    used: Bool[Array, " k"]


def prototypes_init(rng: PRNGKeyArray, num_prototypes: int, dim: int) -> Prototypes:
    """Random directions as prototypes.

    Args:
      rng: random key.
      num_prototypes: number of prototypes k.
      dim: size d of each.

    Raises:
      ValueError: a number below 1.

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
    features: Float[Array, "n d"], assignments: Float[Array, "n k"] | Bool[Array, "n k"]
) -> tuple[Float[Array, "k d"], Bool[Array, " k"]]:
    """Weighted mean of the features assigned to each of k centres.

        mean_k = sum_i a_ik x_i / sum_i a_ik

    With `pairs.one_column(labels, num_classes)` as assignments these are class means.

    Args:
      features: rows to average.
      assignments: non-negative weights, or a mask.

    Returns:
      The means, 0 where nothing was assigned, and a mask of the others.

    Raises:
      TypeError: features that are not floating point.
      ValueError: shapes that do not fit together.

    Examples:
      >>> x = jnp.array([[1.0], [3.0], [5.0]])
      >>> mask = jnp.array([[True, False], [True, False], [False, False]])
      >>> assigned_means(x, mask)[0][:, 0]
      Array([2., 0.], dtype=float32)
    """
    numerics.check_shapes(features=(features, "n d"), assignments=(assignments, "n k"))
    features = numerics.at_least_f32(features, "features")
    assignments = jnp.asarray(assignments, features.dtype)
    total = jnp.sum(assignments, axis=0)
    some = total > 0
    shares = assignments / jnp.where(some, total, 1)[None, :]
    return similarity.matmul(shares.T, features.T), some


def prototypes_update(
    prototypes: Prototypes,
    features: Float[Array, "n d"],
    assignments: Float[Array, "n k"] | Bool[Array, "n k"],
    *,
    decay: float | Array,
    normalize: bool = True,
    stop_gradient: bool = True,
) -> Prototypes:
    """Prototypes moved towards the mean of the features assigned to them.

        p_k <- decay p_k + (1 - decay) sum_i a_ik x_i / sum_i a_ik,  then p_k / ||p_k||

    A prototype with no assigned feature keeps its value. With data parallelism hand in
    the features and assignments of all devices.

    Args:
      prototypes: the prototypes before.
      features: rows to follow.
      assignments: non-negative weights, or a mask, of each feature for each prototype.
      decay: in [0, 1].
      normalize: whether prototypes are scaled to length 1.
      stop_gradient: False lets gradients reach the features, as PALM does; never the
        prototypes from before and never the assignments.

    Raises:
      TypeError: features that are not floating point.
      ValueError: shapes that do not fit together, a decay outside of [0, 1].

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
    old = jax.lax.stop_gradient(prototypes.vectors)
    mean, some = assigned_means(features, jax.lax.stop_gradient(assignments))
    new = decay * old + (1 - decay) * mean
    new = similarity.l2_normalize(new) if normalize else new
    new = jnp.where(some[:, None], new, old)
    new = jax.lax.stop_gradient(new) if stop_gradient else new
    return prototypes.replace(
        vectors=new.astype(old.dtype), used=prototypes.used | some
    )
