"""SupReMix (Wu et al. 2023): mixtures of embeddings as hard pairs for regression.

`supremix` is the loss, over mixtures that it never builds; `supremix_mixtures` builds
them. The baselines are `losses.rank_n_contrast` and
`losses.weighted_supervised_contrastive`.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Integer, Key, Shaped

from contrastive_jax import losses, numerics, pairs, similarity

__all__ = [
    "Mixtures",
    "label_distance_weight",
    "mixing_shares",
    "supremix",
    "supremix_mixtures",
]

Kind = Literal["none", "linear", "square", "inverse_linear", "inverse_square"]


def label_distance_weight(
    gaps: Float[Array, "*shape"], *, kind: Kind = "linear"
) -> Float[Array, "*shape"]:
    """Weight of a pair in the denominator by the distance of its labels.

        linear: |gap| + 1    square: gap^2 + 1    inverse_*: one divided by that
        none: 1

    Args:
      gaps: difference of the two labels, in the unit of the labels: it matters.
      kind: the released code calls them L1_inv, L2_inv, L1 and L2.

    Raises:
      ValueError: another kind.

    References:
      Wu et al. 2023, arXiv:2309.16633 (distance magnifying).

    Examples:
      >>> label_distance_weight(jnp.array([0.0, -3.0]))
      Array([1., 4.], dtype=float32)
    """
    gaps = numerics.at_least_f32(gaps, "gaps")
    if kind == "none":
        return jnp.ones_like(gaps)
    powers = {"linear": jnp.abs(gaps), "square": gaps**2}
    _, inverse, power = kind.rpartition("inverse_")
    if power not in powers:
        raise ValueError(
            "kind: expected none, linear, square, inverse_linear or inverse_square, "
            f"got {kind!r}"
        )
    weight = powers[power] + 1
    return 1 / weight if inverse else weight


def mixing_shares(
    keys: Key[Array, " n"], num: int, *, beta: tuple[int, int] = (2, 8)
) -> Float[Array, "n m"]:
    """Shares lambda ~ Beta of the anchor in its anchor-inclusive mixtures.

    Of a + b exponential numbers, the share of the first a in the sum.

    Args:
      keys: one random key per anchor.
      num: m, the candidates.
      beta: both parameters a and b, whole numbers >= 1; (2, 8) has mean 0.2.

    Raises:
      ValueError: other parameters.

    Examples:
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> mixing_shares(keys, 5).shape
      (3, 5)
    """
    a, b = beta
    if a != int(a) or b != int(b) or min(a, b) < 1:
        raise ValueError(f"beta: expected two whole numbers >= 1, got {beta}")

    def shares(key):
        x = jax.random.exponential(key, (num, int(a + b)))
        return jnp.sum(x[:, : int(a)], axis=1) / jnp.sum(x, axis=1)

    return jax.vmap(shares)(keys)


class Mixtures(NamedTuple):
    """Mixtures by anchor i and mixed rows j and k.

    Attributes:
      embeddings: share * z_j + (1 - share) * z_k; 0 where there is none.
      kind: 0 anchor-inclusive (j = i), a negative; 1 anchor-exclusive, a positive; -1
        none.
      labels: mixed in the same way.
    """

    embeddings: Float[Array, "n n n d"]
    kind: Int[Array, "n n n"]
    labels: Float[Array, "n n n"]


def supremix_mixtures(
    embeddings: Float[Array, "n d"],
    labels: Float[Array, " n"],
    lam: Float[Array, "n n"],
    *,
    window: numerics.Number,
) -> Mixtures:
    """All mixtures of a batch; n^3 d numbers, to look at. `supremix` holds n^3.

        negatives of i: lambda_ik z_i + (1 - lambda_ik) z_k,  y_k != y_i
        positives of i: alpha z_j + (1 - alpha) z_k,  y_i - window < y_j < y_i < y_k <
            y_i + window,  alpha = (y_k - y_i) / (y_k - y_j), whose label is y_i

    Mixtures are not scaled back to length 1 and carry no gradient.

    Args:
      embeddings: z, meant to have length 1.
      labels: real targets y.
      lam: lambda, shares in [0, 1] of the anchor; see `mixing_shares`.
      window: how far the labels of a positive's parts may lie from the anchor's, > 0,
        in the unit of the labels.

    References:
      Wu et al. 2023, arXiv:2309.16633.

    Examples:
      >>> z, y = jnp.eye(3), jnp.array([0.0, 1.0, 4.0])
      >>> found = supremix_mixtures(z, y, jnp.full((3, 3), 0.5), window=5.0)
      >>> print(found.embeddings[1, 0, 2])  # a positive of row 1 out of rows 0 and 2
      [0.75 0.   0.25]
    """
    numerics.check_positive(window=window)
    numerics.check_shapes(
        embeddings=(embeddings, "n d"), labels=(labels, "n"), lam=(lam, "n n")
    )
    z = jax.lax.stop_gradient(numerics.at_least_f32(embeddings, "embeddings"))
    labels = numerics.at_least_f32(labels, "labels")
    gaps = labels[None, :] - labels[:, None]
    every, itself = jnp.ones(gaps.shape, bool), jnp.eye(len(z), dtype=bool)
    negative = itself[:, :, None] & (gaps != 0)[:, None, :]
    low, high = sides(gaps, every, window)
    share, positive = between(gaps, low, gaps, high)
    share = jnp.where(negative, lam[:, None, :], share)
    there = negative | positive

    def mixed(x):
        share_of = share.reshape(share.shape + (1,) * (x.ndim - 1))
        mixture = share_of * x[None, :, None] + (1 - share_of) * x[None, None, :]
        return jnp.where(there.reshape(share_of.shape), mixture, 0)

    kind = jnp.where(there, positive.astype(jnp.int8), jnp.int8(-1))
    return Mixtures(embeddings=mixed(z), kind=kind, labels=mixed(labels))


def supremix(
    anchors: Float[Array, "n d"],
    candidates: Float[Array, "m d"],
    gaps: Float[Array, "n m"],
    *,
    lam: Float[Array, "n m"],
    rows: Integer[Array, " n"] | None = None,
    window: numerics.Number,
    temperature: numerics.Number = 0.5,
    weight: Kind = "linear",
    mix_negatives: bool = True,
    mix_positives: bool = True,
    stop_mixtures: bool = True,
    parts: int | None = None,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """SupCon with mixtures of embeddings as further negatives and positives.

        loss_i = mean_{p in P0(i) and P(i)} ( log D_i - z_i . z_p / temperature )
        D_i = sum_{j real} w_ij exp(z_i . z_j / temperature)
            + sum_{q in N(i)} w_iq exp(z_i . m_q / temperature)
            + sum_{q in P(i)} exp(z_i . m_q / temperature)               (nats)

    with P0(i) the other rows of the anchor's label, N(i) and P(i) its mixtures m as
    `supremix_mixtures` has them, and w = `label_distance_weight`. Without either kind
    of mixture it is `losses.weighted_supervised_contrastive`. An anchor without any
    positive drops out.

    Holds n * m * m numbers, n * (2 m + parts^2) with `parts`, never the mixtures: the
    scores of a mixture are those of its parts, mixed.

    Args:
      anchors: z_i, meant to have length 1.
      candidates: rows of all devices, the anchors themselves among them.
      gaps: label of the candidate less that of the anchor; 0 makes a positive.
      lam: shares in [0, 1] of the anchor in its negatives, see `mixing_shares`.
      rows: column of each anchor itself; the diagonal when None. A traced one out of
        range drops its anchor.
      window: how far labels of a positive's parts may lie from the anchor's, > 0.
      temperature: > 0.
      weight: kind of `label_distance_weight`.
      mix_negatives: whether there are anchor-inclusive mixtures.
      mix_positives: whether there are anchor-exclusive ones.
      stop_mixtures: whether mixtures are constants, so that their scores have a
        gradient through the anchor alone.
      parts: how many rows on each side of the anchor's label make its positives, those
        of the nearest labels; all when None.
      where: candidates that count, as they are and in mixtures.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that have a positive; None gives
        [n].

    References:
      Wu et al. 2023, arXiv:2309.16633; yilei-wu/SupReMix.

    Deviations:
      The released code takes another maximum off the scores of mixtures than off those
      of real rows and adds both in one denominator; here there is one scale, as in the
      paper. Its square weight of a mixture adds 1 to the signed gap; here it does not.

    Examples:
      >>> z = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
      >>> y = jnp.array([0.0, 0.0, 2.0])
      >>> loss = supremix(
      ...     z, z, y[None, :] - y[:, None], lam=jnp.full((3, 3), 0.25), window=3.0
      ... )
      >>> f"{loss:.4f}"  # two anchors count: log(e^2 + 3 + 2.5 e^0.5) - 2
      '0.6749'
    """
    numerics.check_positive(window=window, temperature=temperature)
    if parts is not None and parts < 1:
        raise ValueError(f"parts: expected None or >= 1, got {parts}")
    sizes = numerics.check_shapes(
        anchors=(anchors, "n d"),
        candidates=(candidates, "m d"),
        gaps=(gaps, "n m"),
        lam=(lam, "n m"),
        rows=(rows, "n"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    where = numerics.mask_or_all(where, gaps.shape)
    gaps = jnp.where(where, numerics.at_least_f32(gaps, "gaps"), 0)
    if rows is None:
        rows = pairs.positive_columns(None, gaps.shape)
    rows = numerics.check_columns(rows, sizes["m"], "rows")
    itself = pairs.one_column(rows, sizes["m"])
    where = where & jnp.any(itself, axis=1)[:, None]
    seen = jnp.any(where | itself, axis=0)[:, None]
    anchors = numerics.at_least_f32(anchors, "anchors")
    candidates = jnp.where(seen, numerics.at_least_f32(candidates, "candidates"), 0)
    logits = similarity.dot(anchors, candidates) / temperature
    columns = [(logits, gaps, gaps == 0, where & ~itself)]
    fixed = logits  # scores of what is mixed
    if stop_mixtures and (mix_negatives or mix_positives):
        constant = jax.lax.stop_gradient(candidates)
        fixed = similarity.dot(anchors, constant) / temperature
    if mix_negatives:
        lam = jnp.where(where, numerics.at_least_f32(lam, "lam"), 0)
        own = numerics.at_columns(fixed, rows)[:, None]
        mixed, apart = lam * own + (1 - lam) * fixed, where & (gaps != 0)
        columns.append((mixed, (1 - lam) * gaps, jnp.zeros_like(where), apart))
    if mix_positives:
        low, high = sides(gaps, where, window)
        below, above = [fixed, gaps, low], [fixed, gaps, high]
        if parts is not None and parts < sizes["m"]:
            below = nearest(parts, gaps, *below)
            above = nearest(parts, -gaps, *above)
        alpha, there = between(*below[1:], *above[1:])
        mixed = alpha * below[0][:, :, None] + (1 - alpha) * above[0][:, None, :]
        flat = (len(gaps), -1)
        there = there.reshape(flat)
        columns.append((mixed.reshape(flat), jnp.zeros(there.shape), there, there))
    logits, gaps, positives, where = (
        jnp.concatenate(x, axis=1) for x in zip(*columns, strict=True)
    )
    return losses.weighted_supervised_contrastive(
        logits,
        positives,
        label_distance_weight(gaps, kind=weight),
        where=where,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def sides(
    gaps: Float[Array, "n m"], where: Bool[Array, "n m"], window: numerics.Number
) -> tuple[Bool[Array, "n m"], Bool[Array, "n m"]]:
    """Rows within the window whose label is below the anchor's, and above it."""
    near = where & (jnp.abs(gaps) < window)
    return near & (gaps < 0), near & (gaps > 0)


def nearest(
    k: int, gaps: Float[Array, "n m"], *arrays: Array
) -> list[Shaped[Array, "n k"]]:
    """Of each array the k columns of greatest gaps, where the last one, a mask, is."""
    _, columns = jax.lax.top_k(jnp.where(arrays[-1], gaps, -jnp.inf), k)
    return [jnp.take_along_axis(x, columns, axis=1) for x in arrays]


def between(
    low: Float[Array, "n j"],
    is_low: Bool[Array, "n j"],
    high: Float[Array, "n k"],
    is_high: Bool[Array, "n k"],
) -> tuple[Float[Array, "n j k"], Bool[Array, "n j k"]]:
    """Share of j in the mixture of j and k whose label is the anchor's, and where.

    Args:
      low: gaps of rows whose labels may lie below the anchor's.
      is_low: which of them do.
      high: gaps of rows whose labels may lie above.
      is_high: which of them do.
    """
    there = is_low[:, :, None] & is_high[:, None, :]
    width = high[:, None, :] - low[:, :, None]
    share = high[:, None, :] / jnp.where(there, width, 1)
    return jnp.where(there, share, 0), there
