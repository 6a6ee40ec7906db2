"""Estimation of energy-based models by contrast with noise or other examples.

Scores of one positive, [n], and of k negatives, [n, k], per example; scores are
unnormalised log-probabilities, energies their negatives. `where` marks examples,
`negatives` the negatives that count.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import numerics, pairs


def binary_nce(
    positive_scores: Float[Array, " n"],
    negative_scores: Float[Array, "n k"],
    *,
    shift: numerics.Number = 0.0,
    positive_log_noise: Float[Array, " n"] | None = None,
    negative_log_noise: Float[Array, "n k"] | None = None,
    where: Bool[Array, " n"] | None = None,
    negatives: Bool[Array, "n k"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Noise-contrastive estimation: tell data from k samples of noise.

        s'(x) = s(x) - shift, less log(k q(x)) with noise probabilities q
        loss_i = softplus(-s'(x_i)) + sum_k softplus(s'(y_ik))           (nats)

    Also known as NCE.

    Args:
      positive_scores: log-probabilities of the data, up to a constant that the model
        learns.
      negative_scores: those of the samples of noise; k may be 0.
      shift: taken off all scores.
      positive_log_noise: log-probability of each positive under the noise.
      negative_log_noise: log-probability of each negative under the noise.
      where: examples that count.
      negatives: negatives that count; k is their number.
      weights: one non-negative weight per example.
      reduce_fn: `jnp.mean` or `jnp.sum` over examples that count; None gives [n].

    Raises:
      ValueError: one noise probability without the other.

    References:
      Gutmann and Hyvärinen 2010, Noise-contrastive estimation. Ma and Collins
      2018, arXiv:1809.01812.

    Examples:
      >>> loss = binary_nce(jnp.array([0.0]), jnp.array([[0.0, 0.0]]))
      >>> f"{loss:.4f}"
      '2.0794'
    """
    numerics.check_finite(shift=shift)
    positive_scores, negative_scores, where, negatives = checked(
        positive_scores,
        negative_scores,
        positive_log_noise,
        negative_log_noise,
        where,
        negatives,
        weights,
    )
    if positive_log_noise is not None and negative_log_noise is not None:
        number = jnp.sum(negatives, axis=-1, dtype=positive_scores.dtype)
        log_number = jnp.log(jnp.maximum(number, 1))
        positive_scores = positive_scores - log_number
        negative_scores = negative_scores - log_number[:, None]
    noise = jax.nn.softplus(negative_scores - shift)
    loss = jax.nn.softplus(shift - positive_scores)
    return numerics.safe_reduce(
        loss + jnp.sum(jnp.where(negatives, noise, 0), axis=-1),
        where=where,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def negative_sampling(
    positive_scores: Float[Array, " n"],
    negative_scores: Float[Array, "n k"],
    *,
    where: Bool[Array, " n"] | None = None,
    negatives: Bool[Array, "n k"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Binary contrast without noise probabilities.

        loss_i = softplus(-s(x_i)) + sum_k softplus(s(y_ik))             (nats)

    Also known as skip-gram negative sampling, SGNS and word2vec.

    Args:
      positive_scores: scores of the positives.
      negative_scores: scores of the negatives; k may be 0.
      where: examples that count.
      negatives: negatives that count.
      weights: one non-negative weight per example.
      reduce_fn: `jnp.mean` or `jnp.sum` over examples that count; None gives [n].

    References:
      Mikolov et al. 2013, arXiv:1310.4546, eq. 4.

    Examples:
      >>> loss = negative_sampling(jnp.array([0.0]), jnp.array([[0.0]]))
      >>> f"{loss:.4f}"
      '1.3863'
    """
    return binary_nce(
        positive_scores,
        negative_scores,
        where=where,
        negatives=negatives,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def ranking_nce(
    positive_scores: Float[Array, " n"],
    negative_scores: Float[Array, "n k"],
    *,
    positive_log_noise: Float[Array, " n"] | None = None,
    negative_log_noise: Float[Array, "n k"] | None = None,
    where: Bool[Array, " n"] | None = None,
    negatives: Bool[Array, "n k"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Cross entropy of the positive among itself and k negatives.

        s'(x) = s(x) - log q(x) with noise probabilities q, else s(x)
        loss_i = log(1 + sum_k exp(s'(y_ik) - s'(x_i)))                  (nats)

    Unlike `binary_nce` it is consistent for models that are not normalised.

    Also known as sampled softmax.

    Args:
      positive_scores: scores of the positives.
      negative_scores: scores of the negatives; with k = 0 the loss is 0.
      positive_log_noise: log-probability of each positive under the noise.
      negative_log_noise: log-probability of each negative under the noise.
      where: examples that count.
      negatives: negatives that count.
      weights: one non-negative weight per example.
      reduce_fn: `jnp.mean` or `jnp.sum` over examples that count; None gives [n].

    Raises:
      ValueError: one noise probability without the other.

    References:
      Ma and Collins 2018, arXiv:1809.01812. Jozefowicz et al. 2016,
      arXiv:1602.02410 (importance sampling).

    Examples:
      >>> loss = ranking_nce(jnp.array([2.0]), jnp.array([[0.0, 0.0]]))
      >>> f"{loss:.4f}"
      '0.2395'
    """
    positive_scores, negative_scores, where, negatives = checked(
        positive_scores,
        negative_scores,
        positive_log_noise,
        negative_log_noise,
        where,
        negatives,
        weights,
        relative=True,
    )
    gaps = negative_scores - positive_scores[:, None]
    return numerics.safe_reduce(
        jax.nn.softplus(numerics.masked_logsumexp(gaps, negatives)),
        where=where,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def input_label_matching(
    scores: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Binary contrast over pairs of an input and a label's embedding.

        loss_i = sum_j softplus(-y_ij scores[i, j]),  y = 1 for positives, else -1
                                                                         (nats)

    `jnp.mean` divides by the number of pairs that count.

    Args:
      scores: scores of n inputs against m labels.
      positives: the labels of each input.
      where: pairs that count: the labels of the input and the sampled others.
      weights: one non-negative weight per input.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs; None gives the sums of the
        inputs, [n].

    References:
      Pappas and Henderson 2019, arXiv:1806.06219.

    Examples:
      >>> positives = jnp.array([[True, False]])
      >>> f"{input_label_matching(jnp.array([[2.0, -2.0]]), positives):.4f}"
      '0.1269'
    """
    numerics.check_shapes(
        scores=(scores, "n m"),
        positives=(positives, "n m"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    scores, where = numerics.masked_logits(scores, where, "scores")
    positives = numerics.check_mask(positives, "positives")
    loss = jax.nn.softplus(jnp.where(positives, -scores, scores))
    return numerics.reduce_terms(
        loss, where=where, weights=weights, reduce_fn=reduce_fn
    )


def energy_hinge(
    positive_energies: Float[Array, " n"],
    negative_energies: Float[Array, "n k"],
    *,
    margin: numerics.Number = 1.0,
    where: Bool[Array, " n"] | None = None,
    negatives: Bool[Array, "n k"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Hinge against the most offending negative, the one of lowest energy.

        loss_i = max(0, margin + E(x_i) - min_k E(y_ik))

    Args:
      positive_energies: energies of the positives; low is compatible.
      negative_energies: energies of the negatives.
      margin: by how much negatives should lie above.
      where: examples that count.
      negatives: negatives that count; an example with none drops out.
      weights: one non-negative weight per example.
      reduce_fn: `jnp.mean` or `jnp.sum` over examples that count; None gives [n].

    References:
      LeCun et al. 2006, A tutorial on energy-based learning (hinge loss).

    Examples:
      >>> f"{energy_hinge(jnp.array([1.0]), jnp.array([[3.0, 1.5]])):.1f}"
      '0.5'
    """
    numerics.check_finite(margin=margin)
    numerics.check_shapes(
        positive_energies=(positive_energies, "n"),
        negative_energies=(negative_energies, "n k*"),
        where=(where, "n"),
        negatives=(negatives, "n k*"),
        weights=(weights, "n"),
    )
    positive_energies = numerics.at_least_f32(positive_energies, "positive_energies")
    negative_energies = numerics.at_least_f32(negative_energies, "negative_energies")
    where = numerics.mask_or_all(where, positive_energies.shape)
    negatives = numerics.mask_or_all(negatives, negative_energies.shape, "negatives")
    has_negative = where & jnp.any(negatives, axis=-1)
    lowest = numerics.masked_min(negative_energies, negatives & has_negative[:, None])
    gaps = jnp.where(has_negative, margin + positive_energies - lowest, 0)
    return numerics.safe_reduce(
        numerics.hinge(gaps),
        where=has_negative,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def info_nce_bound(
    scores: Float[Array, "n m"],
    labels: Integer[Array, " n"] | None = None,
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Lower bound of the mutual information, at most log m; to be maximised.

        bound_i = log m + scores[i, labels[i]] - logsumexp_j scores[i, j]    (nats)

    Args:
      scores: critic's scores of n samples against m samples of the other variable.
      labels: column of the jointly drawn sample; the diagonal when None.
      where: pairs that count; m is their number. A row whose joint sample is masked
        drops out.
      weights: one non-negative weight per row.
      reduce_fn: `jnp.mean` or `jnp.sum` over rows that count; None gives [n].

    References:
      van den Oord et al. 2018, arXiv:1807.03748, section 2.3. Poole et al. 2019,
      arXiv:1905.06922 (InfoNCE bound).

    Examples:
      >>> f"{info_nce_bound(jnp.zeros((4, 4))):.4f}"
      '0.0000'
    """
    numerics.check_shapes(
        scores=(scores, "n m"),
        labels=(labels, "n"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    scores, where = numerics.masked_logits(scores, where, "scores")
    labels = pairs.positive_columns(labels, scores.shape)
    scores, where, counts = numerics.labeled_rows(scores, labels, where)
    number = jnp.maximum(jnp.sum(where, axis=-1, dtype=scores.dtype), 1)
    return numerics.safe_reduce(
        jnp.log(number) - numerics.negative_log_softmax(scores, labels, where),
        where=counts,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def checked(
    positive_scores: Array,
    negative_scores: Array,
    positive_log_noise: Array | None,
    negative_log_noise: Array | None,
    where: Array | None,
    negatives: Array | None,
    weights: Array | None,
    *,
    relative: bool = False,
) -> tuple[
    Float[Array, " n"], Float[Array, "n k"], Bool[Array, " n"], Bool[Array, "n k"]
]:
    """Scores in at least float32, less the log-noise, and what counts.

    `relative` scores are less the positive's, before anything else is taken off: a
    number that all have in common then costs no digits.
    """
    numerics.check_shapes(
        positive_scores=(positive_scores, "n"),
        negative_scores=(negative_scores, "n k*"),
        positive_log_noise=(positive_log_noise, "n"),
        negative_log_noise=(negative_log_noise, "n k*"),
        where=(where, "n"),
        negatives=(negatives, "n k*"),
        weights=(weights, "n"),
    )
    positive_scores = numerics.at_least_f32(positive_scores, "positive_scores")
    negative_scores = numerics.at_least_f32(negative_scores, "negative_scores")
    if relative:
        negative_scores = negative_scores - positive_scores[:, None]
        positive_scores = jnp.zeros_like(positive_scores)
    if (positive_log_noise is None) != (negative_log_noise is None):
        raise ValueError(
            "negative_log_noise: expected together with positive_log_noise, got one"
        )
    if positive_log_noise is not None and negative_log_noise is not None:
        positive_log_noise = numerics.at_least_f32(
            positive_log_noise, "positive_log_noise"
        )
        negative_log_noise = numerics.at_least_f32(
            negative_log_noise, "negative_log_noise"
        )
        positive_scores = positive_scores - positive_log_noise
        negative_scores = negative_scores - negative_log_noise
    where = numerics.mask_or_all(where, positive_scores.shape)
    negatives = numerics.mask_or_all(negatives, negative_scores.shape, "negatives")
    negatives = negatives & where[:, None]
    positive_scores = jnp.where(where, positive_scores, 0)
    negative_scores, negatives = numerics.masked_logits(negative_scores, negatives)
    negative_scores = jnp.where(negatives, negative_scores, 0)
    return positive_scores, negative_scores, where, negatives
