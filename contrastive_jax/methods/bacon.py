"""BaCon (Bai et al. 2023): two branches that find new classes of a long-tailed set.

A classifier (pseudo-label branch) is held to the class frequencies that clusters of the
features show; its soft labels, debiased by these frequencies and drawn so that frequent
classes do not crowd out rare ones, are the positives of the contrastive branch. Classes
are numbered with the known ones first.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Key, Real
from scipy.optimize import linear_sum_assignment

from contrastive_jax import losses, numerics, randomness

__all__ = [
    "class_distribution",
    "confident_rows",
    "debiased_labels",
    "distribution_regularizer",
    "drawn_counts",
    "sampling_rates",
    "soft_contrastive",
    "soft_label_weights",
    "teacher_temperature",
]


def distribution_regularizer(
    logits: Float[Array, "n k"],
    class_counts: Float[Array, " k"],
    *,
    power: numerics.Number = 1.1,
    temperature: numerics.Number = 0.1,
    where: Bool[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Holds the mean prediction of a batch to the estimated class frequencies.

        p = mean_i softmax(logits_i / temperature)
        q = p / class_counts^power, scaled to sum 1
        loss = sum_k q_k log q_k + log k                                 (nats)

    0 where p is in proportion to class_counts^power; with a power of 0 where it is
    uniform. A loss of the whole batch: gather the logits of all devices before the
    call.

    Args:
      logits: class scores of n rows, in [-1, 1] in the paper.
      class_counts: examples of each class, or anything in proportion; > 0.
      power: >= 0.
      temperature: > 0.
      where: rows that count.

    Raises:
      ValueError: a count that is not above 0.

    References:
      Bai et al. 2023, arXiv:2310.01376, section 3 (pseudo-labeling branch).

    Examples:
      >>> logits = jnp.log(jnp.array([[0.75, 0.25]]))
      >>> counts = jnp.array([3.0, 1.0])
      >>> options = dict(power=1.0, temperature=1.0)
      >>> print(f"{distribution_regularizer(logits, counts, **options):.4f}")
      0.0000
    """
    k = numerics.check_shapes(
        logits=(logits, "n k"), class_counts=(class_counts, "k"), where=(where, "n")
    )["k"]
    numerics.check_positive(temperature=temperature)
    numerics.check_nonnegative(power=power)
    logits = numerics.at_least_f32(logits, "logits")
    where = numerics.mask_or_all(where, logits.shape[:1])
    mask = jnp.broadcast_to(where[:, None], logits.shape)
    log_p = numerics.masked_log_softmax(logits, mask, temperature=temperature)
    log_p = numerics.masked_logsumexp(log_p, mask, axis=0)
    counts = numerics.at_least_f32(class_counts, "class_counts").astype(logits.dtype)
    numerics.check_positive(class_counts=counts)
    log_q = log_p - power * jnp.log(counts)
    log_q = jax.nn.log_softmax(log_q)
    loss = jnp.sum(jnp.exp(log_q) * log_q) + jnp.log(jnp.asarray(k, logits.dtype))
    return jnp.where(jnp.any(where), loss, 0)


def debiased_labels(
    logits: Float[Array, "n v k"],
    adjustment: Float[Array, " k"],
    *,
    temperature: numerics.Number = 0.1,
) -> Float[Array, "n k"]:
    """Soft labels of a classifier, as if frequent classes were less so.

        s_i = mean_v softmax(logits_iv / temperature - adjustment)

    Args:
      logits: class scores of v views of n examples.
      adjustment: kappa log class frequency, by `losses.logit_adjustment`.
      temperature: > 0.

    Returns:
      rows that sum to 1, without gradient.

    References:
      Bai et al. 2023, arXiv:2310.01376, section 3 (debiased pseudo-labels).

    Examples:
      >>> logits = jnp.zeros((1, 2, 2))
      >>> debiased_labels(logits, jnp.log(jnp.array([2.0, 1.0]))).round(4)
      Array([[0.3333, 0.6667]], dtype=float32)
    """
    numerics.check_shapes(logits=(logits, "n v k"), adjustment=(adjustment, "k"))
    numerics.check_positive(temperature=temperature)
    logits = jax.lax.stop_gradient(numerics.at_least_f32(logits, "logits"))
    adjustment = numerics.at_least_f32(adjustment, "adjustment").astype(logits.dtype)
    scores = logits / temperature - adjustment[None, None, :]
    return jnp.mean(jax.nn.softmax(scores), axis=1)


def sampling_rates(
    class_counts: Real[Array, " k"],
    known: Bool[Array, " k"],
    *,
    alpha: numerics.Number = 0.0,
    beta: numerics.Number = 0.5,
) -> Float[Array, " k"]:
    """Share of the pseudo-labelled rows of each class that the contrast should see.

        rate_c = (min of class_counts / class_counts_c)^beta,  ^alpha for known classes

    Args:
      class_counts: examples of each class, > 0.
      known: classes with a labelled example in the batch.
      alpha: >= 0; 0 takes all rows of known classes.
      beta: >= 0; 0 takes all rows of the others, larger ones fewer of frequent classes.

    Raises:
      ValueError: a count that is not above 0.

    References:
      Bai et al. 2023, arXiv:2310.01376, section 3 (sampling); the released scripts use
      alpha 0 and beta 0.5.

    Examples:
      >>> known = jnp.array([True, False, False])
      >>> sampling_rates(jnp.array([40, 20, 5]), known)
      Array([1. , 0.5, 1. ], dtype=float32)
    """
    numerics.check_shapes(class_counts=(class_counts, "k"), known=(known, "k"))
    numerics.check_positive(class_counts=class_counts)
    numerics.check_nonnegative(alpha=alpha, beta=beta)
    known = numerics.check_mask(known, "known")
    counts = jnp.asarray(class_counts)
    counts = counts.astype(jnp.promote_types(counts.dtype, jnp.float32))
    shares = jnp.min(counts) / counts
    return jnp.where(known, shares**alpha, shares**beta)


def drawn_counts(
    rng: Key[Array, "*keys"],
    soft_labels: Float[Array, "n k"],
    rates: Float[Array, " k"],
    *,
    where: Bool[Array, " n"],
) -> Integer[Array, " k"]:
    """How many rows of each predicted class are kept: binomial numbers.

        count_c = number of rows i of predicted class c with u_i < rates[c]

    Args:
      rng: one key, or one per row.
      soft_labels: by `debiased_labels`; the predicted class is the largest.
      rates: chance of each class, by `sampling_rates`.
      where: rows that may be kept: those without a label.

    Examples:
      >>> s = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
      >>> every = jnp.ones(3, bool)
      >>> drawn_counts(jax.random.key(0), s, jnp.array([1.0, 0.0]), where=every)
      Array([2, 0], dtype=int32)
    """
    k = numerics.check_shapes(
        soft_labels=(soft_labels, "n k"), rates=(rates, "k"), where=(where, "n")
    )["k"]
    predicted = jnp.argmax(soft_labels, axis=1)
    drawn = randomness.bernoulli(rng, rates[predicted]) & where
    return jnp.zeros(k, jnp.int32).at[predicted].add(drawn)


def confident_rows(
    soft_labels: Float[Array, "n k"],
    counts: Integer[Array, " k"],
    *,
    where: Bool[Array, " n"],
) -> Bool[Array, " n"]:
    """The most confident rows of each predicted class, as many as `counts` says.

    Args:
      soft_labels: by `debiased_labels`; the confidence is the largest of a row.
      counts: how many of each class, by `drawn_counts`; all where there are fewer.
      where: rows that may be kept: those without a label.

    Examples:
      >>> s = jnp.array([[0.8, 0.2], [0.9, 0.1], [0.3, 0.7]])
      >>> confident_rows(s, jnp.array([1, 1]), where=jnp.ones(3, bool))
      Array([False,  True,  True], dtype=bool)
    """
    numerics.check_shapes(
        soft_labels=(soft_labels, "n k"), counts=(counts, "k"), where=(where, "n")
    )
    where = numerics.check_mask(where, "where")
    predicted = jnp.argmax(soft_labels, axis=1)
    # Of a stable order by class and falling confidence, the place within the class.
    order = jnp.lexsort((-jnp.max(soft_labels, axis=1), predicted, ~where))
    classes = jnp.where(where, predicted, -1)[order]
    first = jnp.searchsorted(
        jnp.where(classes < 0, soft_labels.shape[1], classes), classes
    )
    place = jnp.arange(len(order)) - first
    kept = (classes >= 0) & (place < counts[classes])
    return jnp.zeros_like(where).at[order].set(kept)


def soft_label_weights(soft_labels: Float[Array, "n k"]) -> Float[Array, "n n"]:
    """How much two examples are positives of each other: agreement of soft labels.

        w_ij = s_i.s_j,  w_ii = 1 (another view of the same example)

    Args:
      soft_labels: s, rows that sum to 1.

    Returns:
      weights in [0, 1], without gradient.

    References:
      Bai et al. 2023, arXiv:2310.01376, section 3 (soft contrastive loss).

    Examples:
      >>> soft_label_weights(jnp.array([[1.0, 0.0], [0.5, 0.5]]))
      Array([[1. , 0.5],
             [0.5, 1. ]], dtype=float32)
    """
    n = numerics.check_shapes(soft_labels=(soft_labels, "n k"))["n"]
    s = jax.lax.stop_gradient(numerics.at_least_f32(soft_labels, "soft_labels"))
    products = jnp.matmul(s, s.T, precision="highest")
    return jnp.where(jnp.eye(n, dtype=bool), 1, products)


def soft_contrastive(
    logits: Float[Array, "n m"],
    pair_weights: Float[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """SupCon whose positives count by a weight.

        loss_i = sum_j w_ij (logsumexp_a logits[i, a] - logits[i, j]) / sum_j w_ij
                                                                              (nats)

    With weights of 0 and 1 it is `losses.supervised_contrastive`.

    Args:
      logits: scores of n anchors against m candidates, temperature applied.
      pair_weights: w >= 0, by `soft_label_weights`, tiled over views.
      where: candidates that count; leave the anchor itself out. An anchor whose
        weights are all 0 drops out.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that count; None gives [n].

    References:
      Bai et al. 2023, arXiv:2310.01376, section 3 (soft contrastive loss).

    Examples:
      >>> logits, w = jnp.array([[1.0, 0.0]]), jnp.array([[0.75, 0.25]])
      >>> print(f"{soft_contrastive(logits, w):.4f}")
      0.5633
    """
    numerics.check_shapes(
        logits=(logits, "n m"),
        pair_weights=(pair_weights, "n m"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    logits, where = numerics.masked_logits(logits, where)
    pair_weights = numerics.at_least_f32(pair_weights, "pair_weights")
    pair_weights = jnp.where(where, pair_weights, 0).astype(logits.dtype)
    total = jnp.sum(pair_weights, axis=1, keepdims=True)
    return losses.soft_target_cross_entropy(
        logits,
        pair_weights / jnp.where(total == 0, 1, total),
        where=where,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def teacher_temperature(
    epoch: numerics.Number,
    *,
    warmup_epochs: int = 30,
    start: numerics.Number = 0.07,
    final: numerics.Number = 0.04,
) -> Array:
    """Temperature of the teacher in self-distillation: linear, then constant.

        start + (final - start) min(epoch / (warmup_epochs - 1), 1)

    Args:
      epoch: epochs before this one; may be traced.
      warmup_epochs: after that many it is final; at least 1.
      start: first temperature, > 0.
      final: last temperature, > 0.

    References:
      Wen et al. 2022, arXiv:2211.11727 (SimGCD), section 4; Caron et al. 2021,
      arXiv:2104.14294, appendix A.

    Examples:
      >>> [round(float(teacher_temperature(e, warmup_epochs=4)), 2) for e in (0, 1, 9)]
      [0.07, 0.06, 0.04]
    """
    numerics.check_positive(warmup_epochs=warmup_epochs, start=start, final=final)
    numerics.check_nonnegative(epoch=epoch)
    progress = jnp.minimum(epoch / max(warmup_epochs - 1, 1), 1.0)
    return start + (final - start) * progress


def class_distribution(
    clusters: Integer[np.ndarray, " n"],
    labels: Integer[np.ndarray, " n"],
    labelled: Bool[np.ndarray, " n"],
    *,
    num_classes: int,
    num_known: int,
) -> np.ndarray:
    """Class sizes estimated from as many clusters as there are classes.

    Clusters and classes are matched by the labelled rows (shares of a cluster, best
    one-to-one match). The sizes of the clusters of known classes are then handed out
    in the order of their labelled rows, the larger to the more frequent; the others go
    to the new classes, largest first. Computed on the host.

    Args:
      clusters: cluster of each row, in [0, num_classes).
      labels: class of each row, in [0, num_known); read at labelled rows only.
      labelled: rows with a known class.
      num_classes: number of classes, known and new.
      num_known: number of known classes, the first ones.

    Returns:
      [num_classes] sizes, at least 1, float64.

    Raises:
      ValueError: clusters or labels out of range.

    References:
      Bai et al. 2023, arXiv:2310.01376, section 3 (distribution estimation);
      JianhongBai/BaCon.

    Deviations:
      Ties of labelled counts keep the order of classes, and an empty cluster counts 1:
      the released code orders ties at random and cannot have empty clusters.

    Examples:
      >>> clusters = np.array([1, 1, 1, 0, 0, 2])
      >>> labels, labelled = np.array([0, 0, 0, 1, 0, 0]), np.arange(6) < 4
      >>> class_distribution(clusters, labels, labelled, num_classes=3, num_known=2)
      array([3., 2., 1.])
    """
    numerics.check_shapes(
        clusters=(clusters, "n"), labels=(labels, "n"), labelled=(labelled, "n")
    )
    clusters, labelled = np.asarray(clusters), np.asarray(labelled)
    labels = np.asarray(labels)[labelled]
    for name, x, size in (
        ("clusters", clusters, num_classes),
        ("labels", labels, num_known),
    ):
        if x.size and not 0 <= x.min() <= x.max() < size:
            raise ValueError(
                f"{name}: expected numbers in [0, {size}), got {x.min()} to {x.max()}"
            )
    sizes = np.maximum(np.bincount(clusters, minlength=num_classes), 1).astype(float)
    shares = np.zeros((num_classes, num_classes))
    np.add.at(shares, (clusters[labelled], labels), 1)
    shares /= sizes[:, None]
    rows, columns = linear_sum_assignment(shares, maximize=True)
    of_class = np.empty(num_classes, int)
    of_class[columns] = rows
    known, new = np.sort(sizes[of_class[:num_known]]), sizes[of_class[num_known:]]
    # The least frequent class gets the smallest size.
    estimate = np.empty(num_classes)
    frequency = np.bincount(labels, minlength=num_known)
    estimate[np.argsort(frequency, kind="stable")] = known
    estimate[num_known:] = np.sort(new)[::-1]
    return estimate
