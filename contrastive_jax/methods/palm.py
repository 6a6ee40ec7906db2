"""PALM (Lu et al. 2024): each class is a mixture of prototypes on the sphere.

Samples are assigned softly to the prototypes of their class (`losses.sinkhorn`), these
follow the features assigned to them (`states.prototypes_update`), and outsiders are
found by their distance from the features (`evaluation.mahalanobis_scores`).
Prototype m belongs to class m modulo the number of classes.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import losses, numerics, pairs, similarity, states

__all__ = [
    "mixture_assignment",
    "near_prototypes",
    "palm",
    "prototype_contrast",
    "prototype_likelihood",
]

# Least sum that the released code divides by.
EPS = 1e-12


def mixture_assignment(
    assignments: Float[Array, "n k"], allowed: Bool[Array, "n k"], *, topk: int = 0
) -> tuple[Float[Array, "n k"], Bool[Array, "n k"]]:
    """Weights of each sample's nearest allowed prototypes, which sum to 1.

        w_im proportional to q_im at the topk largest of the allowed m, 0 elsewhere

    Args:
      assignments: q, of n samples to k prototypes, by `losses.sinkhorn`.
      allowed: prototypes that a sample may have: those of its class.
      topk: how many of them a sample keeps; 0 for all.

    Returns:
      the weights, 0 for a sample without a prototype, and which prototypes were kept.

    Raises:
      ValueError: a negative topk.

    References:
      Lu et al. 2024, arXiv:2402.02653, section 3 (assignment weights).

    Examples:
      >>> q = jnp.array([[0.5, 0.25, 0.125, 0.125]])
      >>> of_class = jnp.array([[False, True, True, True]])
      >>> mixture_assignment(q, of_class, topk=2)[0].round(4)
      Array([[0.    , 0.6667, 0.3333, 0.    ]], dtype=float32)
    """
    k = numerics.check_shapes(
        assignments=(assignments, "n k"), allowed=(allowed, "n k")
    )["k"]
    numerics.check_nonnegative(topk=topk)
    assignments = numerics.at_least_f32(assignments, "assignments")
    kept = numerics.check_mask(allowed, "allowed")
    weights = jnp.where(kept, assignments, 0)
    if 0 < topk < k:
        _, columns = jax.lax.top_k(jnp.where(kept, weights, -1), topk)
        rows = jnp.arange(len(weights))[:, None]
        kept = kept & jnp.zeros_like(kept).at[rows, columns].set(True)
    weights = jnp.where(kept, weights, 0)
    total = jnp.sum(weights, axis=1, keepdims=True)
    return weights / jnp.maximum(total, EPS), kept


def prototype_likelihood(
    features: Float[Array, "n d"],
    prototypes: Float[Array, "k d"],
    mixture: Float[Array, "n k"],
    *,
    temperature: numerics.Number = 0.1,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Negative log-likelihood of samples under their prototypes, against all.

        loss_i = logsumexp_m z_i.p_m / temperature
                 - sum_m mixture[i, m] z_i.p_m / temperature             (nats)

    z_i.p_m are inner products; features and prototypes have length 1. Neither the
    prototypes nor the mixture carry a gradient.

    Args:
      features: z, one per view of a sample.
      prototypes: p, those of all classes.
      mixture: weights of each feature's own prototypes, by `mixture_assignment`.
      temperature: > 0.
      where: features that count.
      weights: one non-negative weight per feature.
      reduce_fn: `jnp.mean` or `jnp.sum` over features that count; None gives [n].

    References:
      Lu et al. 2024, arXiv:2402.02653, section 3 (MLE loss).

    Examples:
      >>> p = jnp.array([[1.0, 0.0], [0.0, 1.0]])
      >>> mixture = jnp.array([[1.0, 0.0]])
      >>> f"{prototype_likelihood(p[:1], p, mixture, temperature=1.0):.4f}"
      '0.3133'
    """
    numerics.check_shapes(
        features=(features, "n d"),
        prototypes=(prototypes, "k d"),
        mixture=(mixture, "n k"),
        where=(where, "n"),
        weights=(weights, "n"),
    )
    numerics.check_positive(temperature=temperature)
    features = numerics.at_least_f32(features, "features")
    where = numerics.mask_or_all(where, features.shape[:1])
    features = jnp.where(where[:, None], features, 0)
    mixture = numerics.at_least_f32(mixture, "mixture").astype(features.dtype)
    prototypes = numerics.at_least_f32(prototypes, "prototypes")
    prototypes, mixture = jax.lax.stop_gradient((prototypes, mixture))
    logits = similarity.dot(features, prototypes) / temperature
    # A weight of 0 leaves nothing of its logit, whatever that is.
    own = jnp.sum(jnp.where(mixture == 0, 0, mixture * logits), axis=1)
    return numerics.safe_reduce(
        jax.nn.logsumexp(logits, axis=1) - own,
        where=where,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def prototype_contrast(
    prototypes: Float[Array, "k d"],
    positives: Bool[Array, "k k"],
    *,
    temperature: numerics.Number = 0.5,
) -> Float[Array, ""]:
    """Prototypes of a class attract each other and repel those of other classes.

        s_ma = (cos(p_m, p_a) - 1) / temperature
        loss = mean_m ( logsumexp_{a != m} s_ma - mean_{a in P(m)} s_ma )    (nats)

    With one prototype per class only the repulsion remains: an empty mean is 0. A loss
    of prototypes, which are the same on all devices.

    Args:
      prototypes: p, of any length.
      positives: P, the prototypes of the same class; a prototype itself never counts.
      temperature: > 0.

    References:
      Lu et al. 2024, arXiv:2402.02653, section 3 (prototype contrastive loss).

    Examples:
      >>> p, same = jnp.eye(2), jnp.zeros((2, 2), bool)
      >>> print(prototype_contrast(p, same))  # (0 - 1) / 0.5
      -2.0
    """
    numerics.check_shapes(prototypes=(prototypes, "k d"), positives=(positives, "k k"))
    numerics.check_positive(temperature=temperature)
    prototypes = numerics.at_least_f32(prototypes, "prototypes")
    others = ~jnp.eye(len(prototypes), dtype=bool)
    positives = numerics.check_mask(positives, "positives") & others
    scores = (similarity.cosine(prototypes, prototypes) - 1) / temperature
    repulsion = numerics.masked_logsumexp(scores, others)
    loss = repulsion - numerics.masked_mean(scores, positives, axis=1)
    return jnp.mean(jnp.where(jnp.any(others, axis=1), loss, 0))


def near_prototypes(
    prototypes: Float[Array, "k d"], *, neighbors: int
) -> Bool[Array, "k k"]:
    """Which prototypes are the nearest others of each, by cosine.

    They stand for a class where there are no labels.

    Args:
      prototypes: p, of any length.
      neighbors: how many, from 1 to all others.

    Raises:
      ValueError: more neighbors than there are others.

    Examples:
      >>> p = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
      >>> near_prototypes(p, neighbors=1).astype(int)
      Array([[0, 1, 0],
             [1, 0, 0],
             [0, 1, 0]], dtype=int32)
    """
    k = numerics.check_shapes(prototypes=(prototypes, "k d"))["k"]
    if not 1 <= neighbors < k:
        raise ValueError(f"neighbors: expected 1 to {k - 1}, got {neighbors}")
    prototypes = jax.lax.stop_gradient(numerics.at_least_f32(prototypes, "prototypes"))
    scores = similarity.cosine(prototypes, prototypes)
    scores = jnp.where(jnp.eye(k, dtype=bool), -jnp.inf, scores)
    _, columns = jax.lax.top_k(scores, neighbors)
    return jnp.zeros((k, k), bool).at[jnp.arange(k)[:, None], columns].set(True)


def palm(
    prototypes: states.Prototypes,
    features: Float[Array, "n v d"],
    labels: Integer[Array, " n"] | None = None,
    *,
    num_classes: int = 0,
    topk: int = 5,
    neighbors: int = 5,
    decay: numerics.Number = 0.999,
    temperature: numerics.Number = 0.1,
    contrast: numerics.Number = 1.0,
    contrast_temperature: numerics.Number = 0.5,
    epsilon: numerics.Number = 0.05,
    num_iterations: int = 3,
    where: Bool[Array, " n"] | None = None,
    released: bool = False,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]], states.Prototypes]:
    """Samples move to their prototypes, and these after them and apart.

        q = sinkhorn(z.p / epsilon);  w = `mixture_assignment` of q
        p <- (decay p + (1 - decay) sum_i w_im z_i / sum_i w_im), scaled to length 1
        loss = mle + contrast pcon,  mle = `prototype_likelihood`, with the weights of
               the kept prototypes assigned anew;  pcon = `prototype_contrast`   (nats)

    The gradient of pcon reaches the features through the update. A loss of the whole
    batch: gather the features of all devices before the call.

    Args:
      prototypes: p before the step, a multiple of num_classes.
      features: z, of v views of n samples, length 1.
      labels: class of each sample, in [0, num_classes). Without labels every prototype
        may take any sample, whose views share the mean of their assignments; classes
        of prototypes are their `neighbors`.
      num_classes: number of classes; unused without labels.
      topk: prototypes that a sample keeps; 0 for all.
      neighbors: see `near_prototypes`; unused with labels.
      decay: of the moving average, in [0, 1].
      temperature: of the likelihood, > 0.
      contrast: weight of the prototypes' contrast, >= 0.
      contrast_temperature: > 0.
      epsilon: of `losses.sinkhorn`, and so is num_iterations.
      num_iterations: how often the assignments are balanced.
      where: samples that count.
      released: see deviations.

    Returns:
      the loss, {"mle", "pcon"}, and the prototypes after the step, without gradient.

    Raises:
      ValueError: labels without num_classes, or prototypes that are not as many for
        each class.

    References:
      Lu et al. 2024, arXiv:2402.02653, section 3; jeff024/PALM.

    Deviations:
      The paper describes one set of weights; the released code, and so this, keeps
      the prototypes that were nearest before the update. A prototype without a sample
      keeps its value; in the released code a decay of 0 makes it 0: `released`. What
      happens without labels is ours: no code of it was released.

    Examples:
      >>> start = states.prototypes_init(jax.random.key(0), 6, 4)
      >>> z = similarity.l2_normalize(jax.random.normal(jax.random.key(1), (5, 2, 4)))
      >>> y = jnp.array([0, 1, 2, 0, 1])
      >>> loss, parts, after = palm(start, z, y, num_classes=3, topk=1)
      >>> sorted(parts), after.vectors.shape
      (['mle', 'pcon'], (6, 4))
    """
    sizes = numerics.check_shapes(
        prototypes=(prototypes.vectors, "k d"),
        features=(features, "n v d"),
        labels=(labels, "n"),
        where=(where, "n"),
    )
    n, v, k = sizes["n"], sizes["v"], sizes["k"]
    numerics.check_nonnegative(contrast=contrast)
    features = numerics.at_least_f32(features, "features")
    counts = numerics.mask_or_all(where, (n,))
    if labels is None:
        allowed = jnp.ones((n, k), bool)
        same = near_prototypes(prototypes.vectors, neighbors=neighbors)
    else:
        if num_classes < 1 or k % num_classes:
            raise ValueError(
                f"num_classes: expected a divisor of the {k} prototypes, got "
                f"{num_classes}"
            )
        labels = numerics.check_columns(labels, num_classes, "labels")
        counts = counts & (labels < num_classes)
        classes = jnp.arange(k) % num_classes
        allowed, same = pairs.same_label(labels, classes), pairs.same_label(classes)
    # One row for each view, those of a sample beside each other.
    counts, allowed = (jnp.repeat(x, v, axis=0) for x in (counts, allowed))
    allowed = allowed & counts[:, None]
    z = jnp.where(counts[:, None], features.reshape(n * v, -1), 0)

    def assign(vectors):
        q = losses.sinkhorn(
            similarity.dot(jax.lax.stop_gradient(z), jax.lax.stop_gradient(vectors)),
            epsilon=epsilon,
            num_iterations=num_iterations,
            eps=EPS,
            where=counts,
        )
        if labels is None:
            q = jnp.repeat(jnp.mean(q.reshape(n, v, k), axis=1), v, axis=0)
        return q

    mixture, kept = mixture_assignment(assign(prototypes.vectors), allowed, topk=topk)
    new = states.prototypes_update(
        prototypes, z, mixture, decay=decay, eps=EPS, stop_gradient=False
    )
    if released:
        old = jax.lax.stop_gradient(prototypes.vectors)
        empty = jnp.sum(mixture, axis=0) == 0
        averaged = similarity.l2_normalize(decay * old)
        vectors = jnp.where(empty[:, None], averaged, new.vectors)
        new = dataclasses.replace(new, vectors=vectors)
    mixture, _ = mixture_assignment(assign(new.vectors), kept)
    mle = prototype_likelihood(
        z, new.vectors, mixture, temperature=temperature, where=counts
    )
    pcon = prototype_contrast(new.vectors, same, temperature=contrast_temperature)
    new = dataclasses.replace(new, vectors=jax.lax.stop_gradient(new.vectors))
    return mle + contrast * pcon, {"mle": mle, "pcon": pcon}, new
