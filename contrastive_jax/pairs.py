"""Masks of pairs from labels (positives, false negatives) and mining on scores.

All masks are boolean [n, m]: n anchors in rows, m candidates in columns. Where
candidates were gathered over devices, `rows` gives the column of each local anchor.
A negative label (-1) means that there is none: such a row is nobody's positive, also
not its own. Shapes that do not fit together, and integers of the host beyond 32 bits,
raise ValueError, naming the argument.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, Key

from contrastive_jax import numerics


def same_label(
    anchors: Integer[Array, " n"], candidates: Integer[Array, " m"] | None = None
) -> Bool[Array, "n m"]:
    """True where anchor and candidate carry the same label, which is not negative.

    Args:
      anchors: label of each anchor.
      candidates: label of each candidate; the anchors' own when None.

    Examples:
      >>> same_label(jnp.array([0, 1]), jnp.array([1, 0, 1])).astype(int)
      Array([[0, 1, 0],
             [1, 0, 1]], dtype=int32)
      >>> same_label(jnp.array([-1]), jnp.array([-1, 0])).astype(int)
      Array([[0, 0]], dtype=int32)
    """
    candidates = anchors if candidates is None else candidates
    numerics.check_shapes(anchors=(anchors, "n"), candidates=(candidates, "m"))
    anchors = numerics.check_integer(anchors, "anchors")[:, None]
    candidates = numerics.check_integer(candidates, "candidates")[None, :]
    return (anchors == candidates) & (anchors >= 0) & (candidates >= 0)


def one_column(columns: Integer[Array, " n"], num_columns: int) -> Bool[Array, "n m"]:
    """One-hot mask: True at one column of each row, none if out of range.

    `jax.nn.one_hot` as a boolean [n, m] of checked shape, which is what losses use as
    a mask of positives.

    Examples:
      >>> one_column(jnp.array([2, -1]), 3).astype(int)
      Array([[0, 0, 1],
             [0, 0, 0]], dtype=int32)
    """
    numerics.check_shapes(columns=(columns, "n"))
    columns = numerics.check_integer(columns, "columns")
    return columns[:, None] == jnp.arange(num_columns)[None, :]


def without_false_negatives(
    anchors: Integer[Array, " n"],
    candidates: Integer[Array, " m"] | None = None,
    rows: Integer[Array, " n"] | None = None,
) -> Bool[Array, "n m"]:
    """True at each anchor's own column and at candidates of another label.

    The `where` of an in-batch loss: other candidates of the anchor's label are left
    out. One without a label stays in: nothing says that it is a false negative.

    Args:
      anchors: label of each anchor.
      candidates: label of each candidate; the anchors' own when None.
      rows: column of each anchor's positive; the diagonal when None.

    Examples:
      >>> without_false_negatives(jnp.array([7, 7, 8])).astype(int)
      Array([[1, 0, 1],
             [0, 1, 1],
             [1, 1, 1]], dtype=int32)
    """
    same = same_label(anchors, candidates)
    return ~same | one_column(positive_columns(rows, same.shape), same.shape[1])


def positive_columns(
    labels: Integer[Array, " n"] | None, shape: tuple[int, ...]
) -> Integer[Array, " n"]:
    """Labels (the column of each anchor's positive), checked; the diagonal when None.

    Args:
      labels: columns, 0 to m - 1.
      shape: n anchors and m candidates.

    Raises:
      TypeError: labels that are not integers.
      ValueError: labels beyond the candidates (a traced one becomes m, no column), or
        None with fewer candidates than anchors.

    Examples:
      >>> positive_columns(None, (2, 4))
      Array([0, 1], dtype=int32)
    """
    n, m = shape
    if labels is not None:
        return numerics.check_columns(labels, m, "labels")
    if m < n:
        raise ValueError(
            f"labels: needed when there are fewer candidates (m = {m}) than anchors "
            f"(n = {n})"
        )
    return jnp.arange(n)


def close_targets(
    anchors: Float[Array, " n"],
    candidates: Float[Array, " m"] | None = None,
    *,
    threshold: numerics.Number,
) -> Bool[Array, "n m"]:
    """True where the regression targets differ by at most `threshold`.

    Args:
      anchors: target of each anchor.
      candidates: target of each candidate; the anchors' own when None.
      threshold: largest difference that still makes a positive, >= 0.

    Examples:
      >>> close_targets(jnp.array([1.0, 1.5, 4.0]), threshold=0.5).astype(int)
      Array([[1, 1, 0],
             [1, 1, 0],
             [0, 0, 1]], dtype=int32)
    """
    candidates = anchors if candidates is None else candidates
    numerics.check_shapes(anchors=(anchors, "n"), candidates=(candidates, "m"))
    anchors = numerics.at_least_f32(anchors, "anchors")
    candidates = numerics.at_least_f32(candidates, "candidates")
    return jnp.abs(anchors[:, None] - candidates[None, :]) <= threshold


def first_pair(
    labels: Integer[Array, " n"],
) -> tuple[Integer[Array, " n"], Bool[Array, " n"]]:
    """One pair per class: its first example as anchor, its second as positive.

    Examples without a label (negative) are in no pair.

    Returns:
      positives: row of the second example of each row's class; 0 where there is none.
      anchors: True at the first example of every class that has a second one.

    References:
      Sohn 2016, Improved Deep Metric Learning with Multi-class N-pair Loss Objective,
      section 3.2.

    Examples:
      >>> positives, anchors = first_pair(jnp.array([7, 8, 7, 9, 8, 7]))
      >>> positives[anchors], jnp.nonzero(anchors)[0]
      (Array([2, 4], dtype=int32), Array([0, 1], dtype=int32))
    """
    same = same_label(labels)
    rank = jnp.sum(jnp.tril(same, -1), axis=1)  # how many of its class come before
    second = same & (rank == 1)[None, :]
    return jnp.argmax(second, axis=1), (rank == 0) & jnp.any(second, axis=1)


def hardest(
    scores: Float[Array, "n m"], mask: Bool[Array, "n m"]
) -> Integer[Array, " n"]:
    """Column of the highest score of each row within the mask; 0 in an empty row.

    NaN counts as highest, -inf as a score like others.

    With distances: the hardest positive is `hardest(distances, positives)`, the hardest
    negative `hardest(-distances, negatives)`.

    Examples:
      >>> scores = jnp.array([[0.9, 0.2, 0.5], [0.1, 0.8, 0.3]])
      >>> hardest(scores, jnp.array([[False, True, True], [True, False, True]]))
      Array([2, 2], dtype=int32)
    """
    numerics.check_shapes(scores=(scores, "n m"), mask=(mask, "n m"))
    return jnp.argmax(jnp.where(mask, finite(scores), -jnp.inf), axis=1)


def hardest_k(
    scores: Float[Array, "n m"], mask: Bool[Array, "n m"], k: int
) -> Bool[Array, "n m"]:
    """True at the k highest scores of each row within the mask (all, if it has fewer).

    NaN counts as highest, -inf as a score like others.

    Examples:
      >>> scores = jnp.array([[0.9, 0.2, 0.5, 0.7]])
      >>> hardest_k(scores, scores < 0.8, 2).astype(int)
      Array([[0, 0, 1, 1]], dtype=int32)
    """
    numerics.check_shapes(scores=(scores, "n m"), mask=(mask, "n m"))
    scores = jnp.where(jnp.isnan(scores), jnp.inf, finite(scores))
    order = jnp.argsort(jnp.where(mask, -scores, jnp.inf), axis=1)
    return mask & (jnp.argsort(order, axis=1) < k)


def semi_hard(
    distances: Float[Array, "n m"], negatives: Bool[Array, "n m"]
) -> Integer[Array, "n m"]:
    """Column of the semi-hard negative of each (anchor, candidate) pair.

    It is the nearest negative that lies farther away than the candidate, or the
    farthest negative where none does; any column in a row without negatives. A negative
    at a distance of NaN comes before all others.

    References:
      Schroff et al. 2015, arXiv:1503.03832, section 3.2.

    Examples:
      >>> distances = jnp.array([[1.0, 0.5, 1.5, 3.0]])
      >>> semi_hard(distances, jnp.array([[False, True, True, True]]))[0, 0]
      Array(2, dtype=int32)
    """
    numerics.check_shapes(distances=(distances, "n m"), negatives=(negatives, "n m"))
    keys = jnp.where(negatives, -finite(-distances), jnp.inf)
    order = jnp.argsort(keys, axis=1)
    ascending = jnp.take_along_axis(keys, order, axis=1)
    search = jax.vmap(lambda row, values: jnp.searchsorted(row, values, side="right"))
    farthest = jnp.maximum(jnp.sum(negatives, axis=1, keepdims=True) - 1, 0)
    nearest = jnp.minimum(search(ascending, distances), farthest)
    columns = jnp.take_along_axis(order, nearest, axis=1)
    unknown = negatives & jnp.isnan(distances)
    has_unknown = jnp.any(unknown, axis=1, keepdims=True)
    return jnp.where(has_unknown, jnp.argmax(unknown, axis=1, keepdims=True), columns)


def informative(
    scores: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    epsilon: numerics.Number = 0.1,
) -> Bool[Array, "n m"]:
    """Pairs selected by multi-similarity mining, positives and negatives.

        negative kept: scores[i, j] + epsilon > smallest positive score of i
        positive kept: scores[i, j] - epsilon < largest negative score of i

    An anchor without positives (negatives) keeps no negatives (positives).

    Args:
      scores: cosines of n anchors against m candidates.
      positives: which candidates belong to which anchor.
      where: candidates that count; leave the anchor itself out.
      epsilon: slack.

    References:
      Wang et al. 2019, arXiv:1904.06627, section 3 (pair mining).

    Examples:
      >>> scores = jnp.array([[0.9, 0.2, 0.7, -0.5]])
      >>> informative(scores, jnp.array([[True, True, False, False]])).astype(int)
      Array([[0, 1, 1, 0]], dtype=int32)
    """
    numerics.check_shapes(
        scores=(scores, "n m"), positives=(positives, "n m"), where=(where, "n m")
    )
    where = numerics.mask_or_all(where, scores.shape)
    negatives = where & ~positives
    positives = where & positives
    worst_positive = jnp.min(
        jnp.where(positives, scores, jnp.inf), axis=1, keepdims=True
    )
    worst_negative = jnp.max(
        jnp.where(negatives, scores, -jnp.inf), axis=1, keepdims=True
    )
    hard_negatives = negatives & (scores + epsilon > worst_positive)
    hard_positives = positives & (scores - epsilon < worst_negative)
    return hard_positives | hard_negatives


def distance_weighted(
    rng: Key[Array, "*keys"],
    distances: Float[Array, "n m"],
    negatives: Bool[Array, "n m"],
    *,
    dim: int,
    nearest: numerics.Number = 0.5,
    farthest: numerics.Number = 1.4,
) -> Integer[Array, " n"]:
    """A negative of each anchor, drawn so that all distances are equally likely.

        P(k) ~ 1 / q(max(d_ik, nearest)),  d_ik < farthest
        q(d) = d^(dim - 2) (1 - d^2 / 4)^((dim - 3) / 2)

    q is the density of the distance of random points on the unit sphere; most negatives
    lie at sqrt(2) and teach nothing. Where all of an anchor's negatives lie beyond
    `farthest`, each is equally likely; an anchor without negatives gets m, no column.

    Args:
      rng: one key, or one per anchor.
      distances: Euclidean distances of unit vectors, in [0, 2].
      negatives: candidates to draw from.
      dim: width of the embeddings, at least 2.
      nearest: distance below which nothing gets likelier, in (0, 2).
      farthest: distance from which on a negative is not drawn, in (0, 2].

    References:
      Wu et al. 2017, arXiv:1706.07567, section 3.1; `farthest` is that of the released
      code.

    Examples:
      >>> distances = jnp.array([[0.6, 1.3, 1.9, 0.1]])
      >>> negatives = jnp.array([[True, True, True, False]])
      >>> distance_weighted(jax.random.key(0), distances, negatives, dim=64)
      Array([0], dtype=int32)
    """
    numerics.check_shapes(distances=(distances, "n m"), negatives=(negatives, "n m"))
    if dim < 2:
        raise ValueError(f"dim: expected at least 2, got {dim}")
    numerics.check_positive(nearest=nearest, farthest=farthest)
    negatives = numerics.check_mask(negatives, "negatives")
    distances = numerics.at_least_f32(distances, "distances")
    d = jnp.clip(jnp.maximum(distances, nearest), 1e-3, 1.999)
    log_weights = (2 - dim) * jnp.log(d) + (3 - dim) / 2 * jnp.log1p(-d * d / 4)
    inside = negatives & (distances < farthest)
    inside = jnp.where(jnp.any(inside, axis=1, keepdims=True), inside, negatives)
    log_weights = jnp.where(negatives & (distances >= farthest), 0, log_weights)

    logits = jnp.where(inside, log_weights, -jnp.inf)
    keys = jax.random.split(rng, len(logits)) if rng.ndim == 0 else rng
    numerics.check_shapes(rng=(keys, f"{len(logits)}"))
    draw = functools.partial(jax.random.categorical, mode="high")
    columns = jax.vmap(draw)(keys, logits).astype(jnp.int32)
    return jnp.where(jnp.any(negatives, axis=1), columns, distances.shape[1])


def finite(scores: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """Scores of which -inf, which stands for masked ones, is no value."""
    return jnp.maximum(scores, jnp.finfo(scores.dtype).min)
