"""Hydra, later SimLAP (Wu et al. 2024): any two classes as a positive pair.

A gate conditioned on the classes of a pair selects the subspace in which their samples
agree; the scores of an anchor are taken in the subspace of its pair.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, Key

from contrastive_jax import numerics, pairs, similarity
from contrastive_jax.losses import multi_positive_info_nce

__all__ = [
    "class_pair_contrastive",
    "gated_similarity",
    "sample_pair_labels",
]


def sample_pair_labels(
    rng: Key[Array, ""],
    labels: Integer[Array, " n"],
    *,
    mode: Literal["arbitrary", "distinct", "identical"] = "arbitrary",
    num_classes: int,
) -> Integer[Array, " n"]:
    """The class that each anchor is paired with.

    "arbitrary": the label of another row of the batch, by a random permutation, which
    is the anchor's own in about one of num_classes rows; "distinct": any other class;
    "identical": its own, as in supervised contrastive learning.

    Args:
      rng: random key.
      labels: classes of the whole batch, in [0, num_classes).
      mode: which classes may meet.
      num_classes: number of classes, at least 2.

    Raises:
      ValueError: another mode, fewer than two classes.

    References:
      Wu et al. 2024, arXiv:2410.18200, and its code.

    Examples:
      >>> labels = jnp.array([0, 1, 0])
      >>> rng = jax.random.key(0)
      >>> sample_pair_labels(rng, labels, mode="distinct", num_classes=2)
      Array([1, 0, 1], dtype=int32)
    """
    numerics.check_shapes(labels=(labels, "n"))
    labels = numerics.check_columns(labels, num_classes, "labels")
    if num_classes < 2:
        raise ValueError(f"num_classes: expected 2 or more, got {num_classes}")
    if mode == "identical":
        return labels
    if mode == "arbitrary":
        return jax.random.permutation(rng, labels)
    if mode == "distinct":
        step = jax.random.randint(rng, labels.shape, 1, num_classes, labels.dtype)
        return (labels + step) % num_classes
    raise ValueError(
        f'mode: expected "arbitrary", "distinct" or "identical", got {mode!r}'
    )


def gated_similarity(
    anchors: Float[Array, "n d"],
    keys: Float[Array, "m d"],
    gate: Float[Array, "n d"],
    *,
    normalize: Literal["before", "after"] = "before",
) -> Float[Array, "n m"]:
    """Scores of anchors and keys in the subspace that each anchor's gate selects.

        before: s_ij = sum_k a_ik g_ik^2 b_jk,  rows of a and b scaled to length 1 first
        after:  s_ij = cos(a_i g_i, b_j g_i)

    "before" is no cosine: |s_ij| <= max_k g_ik^2. "after" does not depend on the size
    of a gate.

    Args:
      anchors: a.
      keys: b.
      gate: g, one for each anchor.
      normalize: whether lengths are taken before the gate or after it.

    References:
      Wu et al. 2024, arXiv:2410.18200; "before" is the current code, "after" the text.

    Examples:
      >>> x = jnp.array([[3.0, 4.0]])
      >>> gate = jnp.array([[1.0, 0.0]])
      >>> for normalize in ("before", "after"):
      ...     print(f"{gated_similarity(x, x, gate, normalize=normalize)[0, 0]:.2f}")
      0.36
      1.00
    """
    numerics.check_shapes(
        anchors=(anchors, "n d"), keys=(keys, "m d"), gate=(gate, "n d")
    )
    a = similarity.l2_normalize(numerics.at_least_f32(anchors, "anchors"))
    b = similarity.l2_normalize(numerics.at_least_f32(keys, "keys"))
    g = numerics.at_least_f32(gate, "gate")
    if normalize == "before":
        return similarity.matmul(a * g**2, b)
    if normalize == "after":
        a = similarity.l2_normalize(a * g)
        # |b_j g_i|^2 for all pairs, without an array [n, m, d].
        lengths = numerics.safe_sqrt(similarity.matmul(g**2, b**2))
        apart = lengths > 0
        scores = similarity.matmul(a * g, b)
        return jnp.where(apart, scores / jnp.where(apart, lengths, 1), 0)
    raise ValueError(f'normalize: expected "before" or "after", got {normalize!r}')


def class_pair_contrastive(
    logits: Float[Array, "n m"],
    labels: Integer[Array, " n"],
    pair_labels: Integer[Array, " n"],
    key_labels: Integer[Array, " m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """InfoNCE whose positives are the keys of the class that an anchor is paired with.

        loss_i = sum_{p: y_p = pair_i} log( 1 + sum_n e^(s_in - s_ip) )        (nats)

    with s = logits, over the keys n of neither class, y_n not in {label_i, pair_i}. The
    mean is over all pairs of an anchor and a positive; anchors without a positive drop
    out, and without a negative the loss is 0.

    Args:
      logits: gated scores of n anchors against m keys, temperature applied.
      labels: classes of the anchors.
      pair_labels: classes that they are paired with, see `sample_pair_labels`.
      key_labels: classes of the keys.
      where: keys that count; leave the anchor itself out where it is among them.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs; None gives the sums of the anchors.

    References:
      Wu et al. 2024, arXiv:2410.18200; `multipos_ce_loss` of its code, which counts the
      anchor itself as a key.

    Examples:
      >>> logits = jnp.array([[0.0, 1.0, 0.0]])
      >>> labels = jnp.array([0, 1, 2])
      >>> f"{class_pair_contrastive(logits, labels[:1], jnp.array([1]), labels):.4f}"
      '0.3133'
    """
    numerics.check_shapes(
        logits=(logits, "n m"),
        labels=(labels, "n"),
        pair_labels=(pair_labels, "n"),
        key_labels=(key_labels, "m"),
        where=(where, "n m"),
    )
    labels = numerics.check_integer(labels, "labels")
    pair_labels = numerics.check_integer(pair_labels, "pair_labels")
    key_labels = numerics.check_integer(key_labels, "key_labels")
    positives = pairs.same_label(pair_labels, key_labels)
    counts = positives | ~pairs.same_label(labels, key_labels)
    if where is not None:
        counts = counts & numerics.check_mask(where, "where")
    options: dict[str, Any] = dict(weights=weights, reduce_fn=reduce_fn, over="pairs")
    return multi_positive_info_nce(logits, positives, where=counts, **options)
