"""Losses with one positive per anchor: InfoNCE and its in-batch relatives.

All take scores with the temperature applied, [n anchors, m candidates], and return
nats. Masks, weights and reductions follow one contract (see `numerics.safe_reduce`).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from contrastive_jax import numerics, pairs


def info_nce(
    logits: Float[Array, "n m"],
    labels: Int[Array, " n"] | None = None,
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Cross entropy of each anchor's positive among m candidates.

        loss_i = logsumexp_j logits[i, j] - logits[i, labels[i]]        (nats)

    Args:
      logits: scores of n anchors against m candidates, temperature applied.
      labels: column of each anchor's positive; the diagonal when None.
      where: candidates that count; an anchor whose positive is masked drops out.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that count; None gives [n].

    Raises:
      TypeError: logits that are not floating point, labels that are not integers.
      ValueError: shapes that do not fit together, or no row at all.

    References:
      van den Oord et al. 2018, arXiv:1807.03748, eq. 4.
    """
    numerics.check_shapes(
        logits=(logits, "n m"),
        labels=(labels, "n"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    logits = numerics.at_least_f32(logits, "logits")
    n, m = logits.shape
    if labels is None:
        if m < n:
            raise ValueError(
                f"labels: needed when there are fewer candidates (m = {m}) than "
                f"anchors (n = {n})"
            )
        labels = jnp.arange(n)
    labels = numerics.check_integer(labels, "labels")
    where = jnp.ones((n, m), bool) if where is None else where
    rows = jnp.arange(n)
    # log(1 + sum of negatives / positive): a saturated row keeps all its digits.
    gaps = logits - logits[rows, labels][:, None]
    negatives = where & ~pairs.one_column(labels, m)
    loss = jax.nn.softplus(numerics.masked_logsumexp(gaps, negatives))
    return numerics.safe_reduce(
        loss, where=where[rows, labels], weights=weights, reduce_fn=reduce_fn
    )


def two_way_info_nce(
    logits: Float[Array, "n m"],
    labels: Int[Array, " n"] | None = None,
    *,
    reverse_logits: Float[Array, "n m"] | None = None,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """InfoNCE from a to b and from b to a, averaged (the CLIP objective).

        loss_i = (info_nce(a_i -> b) + info_nce(b_i -> a)) / 2           (nats)

    Args:
      logits: scores of n rows of a against m rows of b, temperature applied.
      labels: column of each anchor's positive, the same in both directions; the
        diagonal when None.
      reverse_logits: scores of n rows of b against m rows of a. `logits.T` when None,
        which needs n = m. Where candidates were gathered over devices, hand it in.
      where: pairs that count, in the layout of `logits`; only with square logits.
      weights: one non-negative weight per pair (a_i, b_i).
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs; None gives [n].

    Raises:
      TypeError: arrays of the wrong kind.
      ValueError: shapes that do not fit together.

    References:
      Radford et al. 2021, arXiv:2103.00020, figure 3.
    """
    numerics.check_shapes(
        logits=(logits, "n m"), reverse_logits=(reverse_logits, "n m")
    )
    if reverse_logits is None:
        if logits.shape[0] != logits.shape[1]:
            raise ValueError(
                f"reverse_logits: needed when logits are not square, got logits of "
                f"shape {list(logits.shape)}"
            )
        reverse_logits = logits.T
    elif where is not None:
        raise ValueError("where: only with square logits and no reverse_logits")
    reverse_where = None if where is None else where.T
    options = dict(weights=weights, reduce_fn=reduce_fn)
    forward = info_nce(logits, labels, where=where, **options)
    backward = info_nce(reverse_logits, labels, where=reverse_where, **options)
    return (forward + backward) / 2


def nt_xent(
    logits: Float[Array, "2n 2m"],
    rows: Int[Array, " n"] | None = None,
    *,
    where: Bool[Array, "2n 2m"] | None = None,
    weights: Float[Array, " 2n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """InfoNCE between two views in one set, oneself left out (SimCLR).

        loss_i = logsumexp_{j != i} logits[i, j] - logits[i, other view of i]   (nats)

    Args:
      logits: scores of 2n anchors, first views then second views, against 2m
        candidates in the same order; temperature applied.
      rows: index of each of the n examples among the m candidates' examples;
        `arange(n)` when None. With candidates gathered over devices it is the global
        row of each local example.
      where: pairs that count, besides oneself, which never does.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors; None gives [2n].

    Raises:
      TypeError: arrays of the wrong kind.
      ValueError: an odd number of rows or columns, shapes that do not fit together.

    References:
      Chen et al. 2020, arXiv:2002.05709, eq. 1.

    Deviations:
      The released TensorFlow code returns the sum of the two views' means, twice this.
    """
    numerics.check_shapes(logits=(logits, "2n 2m"), rows=(rows, "n"))
    if logits.shape[0] % 2 or logits.shape[1] % 2:
        raise ValueError(
            f"logits: expected two views in rows and in columns (even sizes), got "
            f"shape {list(logits.shape)}"
        )
    n, m = logits.shape[0] // 2, logits.shape[1] // 2
    rows = jnp.arange(n) if rows is None else numerics.check_integer(rows, "rows")
    numerics.check_shapes(logits=(logits[:n], "n 2m"), rows=(rows, "n"))
    others = ~pairs.one_column(jnp.concatenate([rows, rows + m]), 2 * m)
    where = others if where is None else where & others
    return info_nce(
        logits,
        jnp.concatenate([rows + m, rows]),
        where=where,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def sigmoid(
    logits: Float[Array, "n m"],
    positives: Bool[Array, "n m"] | None = None,
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Every pair judged on its own: matching or not (SigLIP).

        loss_i = sum_j softplus(-y_ij logits[i, j]),  y = 1 for positives, else -1
                                                                             (nats)

    Args:
      logits: scores of n anchors against m candidates, scale and bias applied.
      positives: the matching pairs; the diagonal when None.
      where: pairs that count; an anchor with none drops out.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` over anchors (the published form divides by the number of
        anchors, not of pairs) or `jnp.sum`; None gives [n].

    Raises:
      TypeError: arrays of the wrong kind.
      ValueError: shapes that do not fit together.

    References:
      Zhai et al. 2023, arXiv:2303.15343, section 3.2.
    """
    numerics.check_shapes(
        logits=(logits, "n m"),
        positives=(positives, "n m"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    logits = numerics.at_least_f32(logits, "logits")
    n, m = logits.shape
    if positives is None:
        positives = pairs.one_column(jnp.arange(n), m)
    positives = numerics.check_mask(positives, "positives")
    where = jnp.ones((n, m), bool) if where is None else where
    loss = jax.nn.softplus(jnp.where(positives, -logits, logits))
    return numerics.safe_reduce(
        jnp.sum(jnp.where(where, loss, 0), axis=-1),
        where=jnp.any(where, axis=-1),
        weights=weights,
        reduce_fn=reduce_fn,
    )
