"""Losses with any number of positives per anchor, from labels or a pair mask."""

from typing import Any, Literal

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Real

from contrastive_jax import numerics, pairs

Denominator = Literal["all", "own", "negatives"]


def supervised_contrastive(
    logits: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    form: Literal["out", "in"] = "out",
    denominator: Denominator = "all",
    scale: numerics.Number = 1.0,
    count_all: bool = False,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Cross entropy against all positives of an anchor.

        out: loss_i = mean_{p in P(i)} ( logsumexp_a logits[i, a] - logits[i, p] )
        in:  loss_i = logsumexp_a logits[i, a] - logsumexp_p logits[i, p] + log |P(i)|
                                                                              (nats)

    The candidates a are all columns that count, positives included, unless
    `denominator` says otherwise. Leave the anchor itself out of `where`.

    Also known as SupCon.

    Args:
      logits: scores of n anchors against m candidates, temperature applied.
      positives: which candidates belong to which anchor. Masked ones are no positives.
      where: candidates that count; all when None.
      weights: one non-negative weight per anchor.
      form: "out" averages outside of the logarithm, "in" inside.
      denominator: the a that are summed over: "all"; "own", that positive and the
        negatives (only with form "out"); or "negatives" alone (decoupled; anchors
        without a negative drop out).
      scale: factor of the loss, > 0; the released code has temperature /
        base_temperature.
      count_all: whether `jnp.mean` divides by all anchors that have a candidate,
        instead of those with a positive.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that have a positive; None gives
        [n].

    References:
      Khosla et al. 2020, arXiv:2004.11362, eq. 2 (out) and eq. 3 (in).

    Deviations:
      The released code multiplies by temperature / base_temperature (1 by default) and
      counts anchors without a positive in the mean: `scale` and `count_all`.

    Examples:
      >>> logits = jnp.array([[9.0, 1.0, 0.0], [1.0, 9.0, 0.0], [0.0, 0.0, 9.0]])
      >>> labels = jnp.array([7, 7, 5])
      >>> others = ~jnp.eye(3, dtype=bool)
      >>> positives = labels[:, None] == labels[None, :]
      >>> loss = supervised_contrastive(logits, positives, where=others)
      >>> f"{loss:.4f}"
      '0.3133'
    """
    numerics.check_positive(scale=scale)
    logits, positives, where = checked(logits, positives, where, weights)
    if form == "out":
        gaps = denominators(logits, positives, where, denominator) - logits
        loss = numerics.masked_mean(gaps, positives, axis=-1)
    elif form == "in":
        if denominator == "own":
            raise ValueError('denominator: "own" needs form "out"')
        total = denominators(logits, positives, where, denominator)[:, 0]
        count = jnp.maximum(jnp.sum(positives, axis=-1), 1)
        loss = total - numerics.masked_logsumexp(logits, positives) + jnp.log(count)
    else:
        raise ValueError(f'form: expected "out" or "in", got {form!r}')
    counts = jnp.any(positives, axis=-1)
    if denominator == "negatives":
        counts = counts & jnp.any(where & ~positives, axis=-1)
    loss = scale * jnp.where(counts, loss, 0)
    if count_all:
        counts = jnp.any(where, axis=-1)
    return numerics.safe_reduce(
        loss, where=counts, weights=weights, reduce_fn=reduce_fn
    )


def multi_positive_info_nce(
    logits: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    denominator: Denominator = "own",
    over: Literal["anchors", "pairs"] = "anchors",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """InfoNCE of every positive of an anchor, summed.

        loss_i = sum_{p in P(i)} log( 1 + sum_{n not in P(i)} e^(s_in - s_ip) )   (nats)

    with s = logits.

    Averaged over pairs it is NT-Xent by labels: one term for each (anchor, positive),
    whose denominator leaves the other positives out.

    Also known as NT-Xent by labels.

    Args:
      logits: scores of n anchors against m candidates, temperature applied.
      positives: which candidates belong to which anchor. Masked ones are no positives.
      where: candidates that count; leave the anchor itself out.
      weights: one non-negative weight per anchor.
      denominator: "own" as above; "all" adds the other positives to the sum;
        "negatives" is the sum of the negatives alone (decoupled).
      over: what `jnp.mean` divides by: anchors that have a positive, or (anchor,
        positive) pairs.
      reduce_fn: `jnp.mean` or `jnp.sum`; None gives the sums of the anchors, [n].

    References:
      Zhuo et al. 2023, arXiv:2305.17746, section 3 (sum over positives). Sohn 2016,
      Improved deep metric learning with multi-class N-pair loss objective.

    Examples:
      >>> logits = jnp.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
      >>> positives = jnp.array([[True, True, False], [False, False, True]])
      >>> multi_positive_info_nce(logits, positives, reduce_fn=None).round(4)
      Array([0.6265, 1.0986], dtype=float32)
    """
    logits, positives, where = checked(logits, positives, where, weights)
    gaps = denominators(logits, positives, where, denominator) - logits
    loss = jnp.sum(jnp.where(positives, gaps, 0), axis=-1)
    counts = jnp.any(positives, axis=-1)
    if denominator == "negatives":
        counts = counts & jnp.any(where & ~positives, axis=-1)
    if over == "pairs" and numerics.is_mean(reduce_fn):
        # Weights of |P(i)| make the sum of the means over all pairs.
        number = jnp.sum(positives, axis=-1, dtype=loss.dtype)
        loss = loss / jnp.maximum(number, 1)
        weights = number if weights is None else weights * number
    elif over not in ("anchors", "pairs"):
        raise ValueError(f'over: expected "anchors" or "pairs", got {over!r}')
    return numerics.safe_reduce(
        loss, where=counts, weights=weights, reduce_fn=reduce_fn
    )


def cross_entropy_supervised_contrastive(
    class_logits: Float[Array, "n c"],
    labels: Integer[Array, " n"],
    logits: Float[Array, "n m"],
    *,
    positives: Bool[Array, "n m"] | None = None,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    ratio: numerics.Number = 0.9,
    form: Literal["out", "in"] = "out",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Classification and SupCon together, as in fine-tuning of language models.

        loss_i = (1 - ratio) cross_entropy_i + ratio supcon_i            (nats)

    Each part is reduced over the anchors that it counts.

    Args:
      class_logits: scores of n examples for c classes.
      labels: class of each example, in [0, c).
      logits: scores of the examples against m candidates, temperature applied.
      positives: candidates of each example's class. When None the candidates are the
        examples themselves (m = n), oneself left out.
      where: candidates that count; an example with none drops out of both parts.
      weights: one non-negative weight per example.
      ratio: share of SupCon, in [0, 1].
      form: as in `supervised_contrastive`.
      reduce_fn: `jnp.mean` or `jnp.sum` over examples; None gives [n].

    References:
      Gunel et al. 2021, arXiv:2011.01403, eq. 1.

    Examples:
      >>> scores, labels = jnp.zeros((3, 3)), jnp.array([0, 0, 1])
      >>> loss = cross_entropy_supervised_contrastive(scores, labels, scores, ratio=0.5)
      >>> f"{loss:.4f}"
      '0.8959'
    """
    numerics.check_shapes(
        class_logits=(class_logits, "n c"),
        labels=(labels, "n"),
        logits=(logits, "n m"),
        positives=(positives, "n m"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    numerics.check_fraction(ratio=ratio)
    class_logits, classes = numerics.masked_logits(class_logits, None, "class_logits")
    labels = numerics.check_columns(labels, class_logits.shape[1], "labels")
    class_logits, classes, counts = numerics.labeled_rows(class_logits, labels, classes)
    logits, where = numerics.masked_logits(logits, where)
    # An example without a class, or one of logit -inf, drops out of both parts.
    where = where & counts[:, None]
    counts = jnp.any(where, axis=-1)
    if positives is None:
        if logits.shape[0] != logits.shape[1]:
            raise ValueError(
                f"positives: needed when logits are not square, got logits of shape "
                f"{list(logits.shape)}"
            )
        positives = pairs.same_label(labels)
        where = where & ~pairs.one_column(jnp.arange(labels.size), labels.size)
    positives = numerics.check_mask(positives, "positives")
    options: dict[str, Any] = dict(weights=weights, reduce_fn=reduce_fn)
    entropy = numerics.negative_log_softmax(class_logits, labels, classes)
    entropy = numerics.safe_reduce(entropy, where=counts, **options)
    contrast = supervised_contrastive(
        logits, positives, where=where, form=form, **options
    )
    return (1 - ratio) * entropy + ratio * contrast


def logit_adjustment(
    class_counts: Real[Array | np.ndarray, " c"],
    *,
    kappa: numerics.Number = 1.0,
    eps: numerics.Number = 1e-12,
) -> Float[Array, " c"]:
    """Log of the class frequencies, to be added to (or taken off) class scores.

        adjustment_c = log( pi_c^kappa + eps ),  pi_c = class_counts[c] / sum of them

    Added to the scores in training, or taken off after it, scores favour no class for
    being frequent.

    Args:
      class_counts: examples of each class, or anything in proportion; >= 0.
      kappa: strength, >= 0; 0 adjusts nothing, 1 by the frequencies themselves.
      eps: keeps a class without examples finite, >= 0.

    Raises:
      ValueError: a negative count.

    References:
      Menon et al. 2021, arXiv:2007.07314, section 3.

    Examples:
      >>> logit_adjustment(jnp.array([3, 1])).round(4)
      Array([-0.2877, -1.3863], dtype=float32)
    """
    numerics.check_shapes(class_counts=(class_counts, "c"))
    numerics.check_nonnegative(kappa=kappa, eps=eps)
    if not isinstance(class_counts, jax.Array):
        class_counts = np.asarray(class_counts, float)  # counts of 2^31 and more
    counts = jnp.asarray(class_counts)
    if jnp.issubdtype(counts.dtype, jnp.integer):
        counts = counts.astype(jnp.float32)
    counts = numerics.at_least_f32(counts, "class_counts")
    if not isinstance(counts, jax.core.Tracer) and np.any(np.asarray(counts) < 0):
        raise ValueError(
            f"class_counts: expected numbers >= 0, got {np.min(np.asarray(counts))}"
        )
    total = jnp.sum(counts)
    shares = counts / jnp.where(total > 0, total, 1)
    # Written so that a share of 0 has no infinite derivative in kappa.
    return jnp.log(jnp.exp(kappa * numerics.safe_log(shares)) + eps)


def checked(
    logits: Array, positives: Array, where: Array | None, weights: Array | None
) -> tuple[Float[Array, "n m"], Bool[Array, "n m"], Bool[Array, "n m"]]:
    """Logits in at least float32 less the largest, positives and what counts."""
    numerics.check_shapes(
        logits=(logits, "n m"),
        positives=(positives, "n m"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    logits, where = numerics.masked_logits(logits, where)
    positives = numerics.check_mask(positives, "positives") & where
    return numerics.less_largest(logits, where), positives, where


def denominators(
    logits: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    where: Bool[Array, "n m"],
    kind: str,
) -> Float[Array, "n k"]:
    """Log-denominators of the positives, [n, m], or of the anchors, [n, 1]."""
    if kind == "all":
        return numerics.masked_logsumexp(logits, where)[:, None]
    negatives = numerics.masked_logsumexp(logits, where & ~positives)[:, None]
    if kind == "negatives":
        return negatives
    if kind == "own":
        return logits + jax.nn.softplus(negatives - logits)
    raise ValueError(f'denominator: expected "all", "own" or "negatives", got {kind!r}')
