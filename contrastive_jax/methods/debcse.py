"""DebCSE (Miao et al. 2023): pairs of sentences drawn by inverse propensity.

How alike two texts look (`edit_similarity`, `jaccard`, `length_ratio`), how likely a
naive rule would pick a pair for its looks (`propensity`), a distribution of candidates
corrected for that (`ipw_log_probs`), draws from it (`gumbel_top_k`), and the loss of
what was drawn (`debcse`) or of all candidates, weighted (`self_normalized_ipw`).

The full text and code of the paper were not at hand: only the idea and the figures of
its abstract are verified, the equations are a reconstruction.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import ebm, losses, numerics

__all__ = [
    "candidate_masks",
    "debcse",
    "edit_similarity",
    "gumbel_top_k",
    "ipw_log_probs",
    "jaccard",
    "length_ratio",
    "propensity",
    "self_normalized_ipw",
]

Role = Literal["positive", "negative"]
SIGNS = {"positive": 1, "negative": -1}


# How alike two texts look


def edit_similarity(
    a: Integer[Array, "*n t"],
    b: Integer[Array, "*n u"],
    a_lengths: Integer[Array, "*n"] | None = None,
    b_lengths: Integer[Array, "*n"] | None = None,
) -> Float[Array, "*n"]:
    """One minus the edit distance of two texts per token of the longer one, in [0, 1].

        1 - distance(a, b) / max(|a|, |b|)

    with insertions, deletions and replacements of a token (Levenshtein). Two empty
    texts: 1. Takes t + u steps, on whole diagonals of the table of distances.

    Args:
      a: tokens of the first texts, padded on the right.
      b: tokens of the second texts.
      a_lengths: tokens that count, 0 to t; all when None.
      b_lengths: likewise of the second texts.

    References:
      Miao et al. 2023, arXiv:2309.07396, section 3 (reconstructed).

    Examples:
      >>> a, b = jnp.array([[1, 2, 3, 4]]), jnp.array([[2, 3, 5, 0]])
      >>> print(edit_similarity(a, b, b_lengths=jnp.array([3])))  # 2 edits
      [0.5]
    """
    a, b, m, n = checked(a, b, a_lengths, b_lengths)
    t, u = a.shape[-1], b.shape[-1]
    pads = [(0, 0)] * (b.ndim - 1) + [(t, t)]
    backwards = jnp.pad(jnp.flip(b, -1), pads)
    most = t + u + 1  # more than any distance
    far = jnp.full((*m.shape, 1), most)
    start = jnp.full((*m.shape, t + 1), most).at[..., 0].set(0)
    row = jnp.arange(t + 1).reshape((1,) * m.ndim + (t + 1,))

    def step(state, k):
        """Distances of the first i tokens of a to the first k - i of b, for all i."""
        before, last, distance = state
        other = jax.lax.dynamic_slice_in_dim(backwards, t + u + 1 - k, t, -1)
        replaced = before[..., :-1] + (a != other)
        edited = jnp.minimum(last[..., 1:], last[..., :-1]) + 1
        new = jnp.concatenate(
            [last[..., :1] + 1, jnp.minimum(replaced, edited)], axis=-1
        )
        at_end = jnp.sum(jnp.where(row == m[..., None], new, 0), axis=-1)
        return (last, new, jnp.where(k == m + n, at_end, distance)), None

    state = (jnp.broadcast_to(far, start.shape), start, jnp.zeros_like(m))
    (_, _, distance), _ = jax.lax.scan(step, state, jnp.arange(1, t + u + 1))
    return 1 - distance / jnp.maximum(jnp.maximum(m, n), 1)


def jaccard(
    a: Integer[Array, "*n t"],
    b: Integer[Array, "*n u"],
    a_lengths: Integer[Array, "*n"] | None = None,
    b_lengths: Integer[Array, "*n"] | None = None,
) -> Float[Array, "*n"]:
    """Tokens that two texts share, of all that they have, in [0, 1].

        |A n B| / |A u B|  of the sets A and B of tokens

    Two empty texts: 1.

    Args:
      a: tokens of the first texts, padded on the right.
      b: tokens of the second texts.
      a_lengths: tokens that count, 0 to t; all when None.
      b_lengths: likewise of the second texts.

    Examples:
      >>> a, b = jnp.array([[1, 2, 2, 3]]), jnp.array([[3, 2, 5]])
      >>> print(jaccard(a, b))  # 2 and 3, of 1, 2, 3 and 5
      [0.5]
    """
    a, b, m, n = checked(a, b, a_lengths, b_lengths)
    in_a, in_b = (within(x, size) for x, size in ((a, m), (b, n)))

    def new(x, counts):
        """Tokens that count and did not come before in their text."""
        earlier = jnp.tril(jnp.ones((x.shape[-1],) * 2, bool), -1)
        same = x[..., :, None] == x[..., None, :]
        earlier = jnp.broadcast_to(earlier, same.shape)
        return counts & ~jnp.any(same & earlier, axis=-1)

    own, others = new(a, in_a), new(b, in_b)
    same = (a[..., :, None] == b[..., None, :]) & in_b[..., None, :]
    both = jnp.sum(own & jnp.any(same, axis=-1), axis=-1)
    every = jnp.sum(own, axis=-1) + jnp.sum(others, axis=-1) - both
    return jnp.where(every > 0, both / jnp.maximum(every, 1), 1)


def length_ratio(
    a: Integer[Array, "*n t"],
    b: Integer[Array, "*n u"],
    a_lengths: Integer[Array, "*n"] | None = None,
    b_lengths: Integer[Array, "*n"] | None = None,
) -> Float[Array, "*n"]:
    """Tokens of the shorter text per token of the longer one, in [0, 1].

    Two empty texts: 1.

    Args:
      a: tokens of the first texts, padded on the right.
      b: tokens of the second texts.
      a_lengths: tokens that count, 0 to t; all when None.
      b_lengths: likewise of the second texts.

    Examples:
      >>> print(length_ratio(jnp.array([[1, 2, 2, 3]]), jnp.array([[3, 2]])))
      [0.5]
    """
    _, _, m, n = checked(a, b, a_lengths, b_lengths)
    longer = jnp.maximum(m, n)
    return jnp.where(longer > 0, jnp.minimum(m, n) / jnp.maximum(longer, 1), 1)


def checked(a, b, a_lengths, b_lengths):
    """Two batches of texts and their lengths, as arrays."""
    texts, lengths = [], []
    for name, x, size in (("a", a, a_lengths), ("b", b, b_lengths)):
        x = numerics.check_integer(x, name)
        if x.ndim == 0 or x.shape[:-1] != jnp.shape(a)[:-1]:
            raise ValueError(
                f"{name}: expected texts [..., tokens] as many as a, got shape "
                f"{list(x.shape)}"
            )
        own = f"{name}_lengths"
        if size is None:
            size = jnp.full(x.shape[:-1], x.shape[-1])
        elif jnp.shape(size) != x.shape[:-1]:
            raise ValueError(
                f"{own}: expected shape {list(x.shape[:-1])}, one per text, got "
                f"{list(jnp.shape(size))}"
            )
        texts.append(x)
        lengths.append(numerics.check_columns(size, x.shape[-1] + 1, own))
    sizes = (jnp.minimum(m, x.shape[-1]) for m, x in zip(lengths, texts, strict=True))
    return *texts, *sizes


def within(x, lengths):
    """Which tokens count."""
    places = jnp.arange(x.shape[-1]).reshape((1,) * lengths.ndim + x.shape[-1:])
    return places < lengths[..., None]


# Which candidates are drawn


def propensity(
    surface: Float[Array, "n m"],
    *,
    temperature: numerics.Number,
    role: Role,
    where: Bool[Array, "n m"] | None = None,
) -> Float[Array, "n m"]:
    """Chance of each candidate to be picked by a rule that goes by looks.

        e+_ij = softmax_j(surface_ij / temperature)     positives: those that look alike
        e-_ij = softmax_j(-surface_ij / temperature)    negatives: those that do not

    It depends on the set of candidates: compare rows of the same number only.

    Args:
      surface: how alike anchor and candidate look, in [0, 1].
      temperature: > 0.
      role: what the candidates are picked as.
      where: candidates there are; the others have chance 0.

    References:
      Miao et al. 2023, arXiv:2309.07396, section 3 (reconstructed).

    Examples:
      >>> surface = jnp.array([[0.9, 0.1]])
      >>> propensity(surface, temperature=0.5, role="positive").round(2)
      Array([[0.83, 0.17]], dtype=float32)
    """
    logs, where = log_propensity(surface, temperature, "temperature", role, where)
    return jnp.where(where, jnp.exp(logs), 0)


def log_propensity(surface, temperature, name, role, where):
    """Logarithm of `propensity`, 0 where there is no candidate; and where there is."""
    if role not in SIGNS:
        raise ValueError(f'role: expected "positive" or "negative", got {role!r}')
    numerics.check_shapes(surface=(surface, "n m"), where=(where, "n m"))
    numerics.check_positive(**{name: temperature})
    surface = numerics.at_least_f32(surface, "surface")
    where = numerics.mask_or_all(where, surface.shape)
    surface = SIGNS[role] * surface
    return numerics.masked_log_softmax(surface, where, temperature=temperature), where


def ipw_log_probs(
    semantic: Float[Array, "n m"],
    surface: Float[Array, "n m"],
    *,
    semantic_temperature: numerics.Number,
    surface_temperature: numerics.Number,
    clip: numerics.Number,
    role: Role,
    semantic_max: numerics.Number | None = None,
    where: Bool[Array, "n m"] | None = None,
) -> Float[Array, "n m"]:
    """Log-probability of each candidate, by meaning and against its looks.

        p_ij ~ exp(semantic_ij / semantic_temperature) / max(e_ij, clip)

    with e the `propensity` of the role. So positives mean the same in other words, and
    negatives have the same words and are related; above `semantic_max` they would mean
    the same, too, and have probability 0. Where that leaves no candidate of a row, all
    there are are equally likely.

    Args:
      semantic: cosine of anchor and candidate under a frozen reference encoder.
      surface: how alike they look, in [0, 1].
      semantic_temperature: tau_s, > 0.
      surface_temperature: tau_f of the propensity, > 0.
      clip: least propensity divided by, > 0. Too small, and few candidates have it all
        (`ebm.effective_sample_size` of the result).
      role: what the candidates are drawn as.
      semantic_max: phi; no limit when None.
      where: candidates there are.

    Returns:
      log-probabilities, -inf where a candidate cannot be drawn.

    References:
      Miao et al. 2023, arXiv:2309.07396, section 3 (reconstructed).

    Examples:
      >>> semantic, surface = jnp.array([[0.8, 0.8, 0.1]]), jnp.array([[0.9, 0.1, 0.1]])
      >>> options = dict(semantic_temperature=0.2, surface_temperature=0.2, clip=0.01)
      >>> log_probs = ipw_log_probs(semantic, surface, **options, role="positive")
      >>> jnp.exp(log_probs).round(2)
      Array([[0.02, 0.95, 0.03]], dtype=float32)
    """
    numerics.check_shapes(semantic=(semantic, "n m"), surface=(surface, "n m"))
    numerics.check_positive(semantic_temperature=semantic_temperature, clip=clip)
    logs, where = log_propensity(
        surface, surface_temperature, "surface_temperature", role, where
    )
    semantic = numerics.at_least_f32(semantic, "semantic")
    may = where
    if semantic_max is not None:
        numerics.check_finite(semantic_max=semantic_max)
        may = where & (semantic <= semantic_max)
    log_w = semantic / semantic_temperature - jnp.maximum(logs, jnp.log(clip))
    none = ~jnp.any(may, axis=-1, keepdims=True)
    may, log_w = jnp.where(none, where, may), jnp.where(none, 0, log_w)
    return jnp.where(may, numerics.masked_log_softmax(log_w, may), -jnp.inf)


def gumbel_top_k(
    log_probs: Float[Array, "n m"], noise: Float[Array, "n m"], *, k: int
) -> tuple[Integer[Array, "n k"], Bool[Array, "n k"]]:
    """k different candidates per row, drawn one after the other without replacement.

    `ebm.gumbel_top_n`, with a mask: of fewer candidates than k, columns that were not
    drawn fill up.

    Args:
      log_probs: of the candidates, -inf for those that cannot be drawn.
      noise: standard Gumbel numbers (`randomness.gumbel`, a key per example).
      k: how many, >= 1.

    Returns:
      columns of the candidates, and which of them were drawn.

    Raises:
      ValueError: k below 1.

    References:
      Kool et al. 2019, arXiv:1903.06059.

    Examples:
      >>> log_probs = jnp.log(jnp.array([[0.0, 0.5, 0.5]]))
      >>> columns, drawn = gumbel_top_k(log_probs, jnp.array([[9.0, 0.0, 1.0]]), k=3)
      >>> print(columns, drawn)
      [[2 1 0]] [[ True  True False]]
    """
    numerics.check_shapes(log_probs=(log_probs, "n m"), noise=(noise, "n m"))
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    log_probs = numerics.at_least_f32(log_probs, "log_probs")
    noise = numerics.at_least_f32(noise, "noise")
    count = log_probs.shape[1]
    lacking = ((0, 0), (0, max(k - count, 0)))
    log_probs = jnp.pad(log_probs, lacking, constant_values=-jnp.inf)
    noise = jnp.pad(noise, lacking)
    columns = ebm.gumbel_top_n(None, log_probs, k, noise=noise)
    drawn = jnp.take_along_axis(log_probs, columns, axis=1) > -jnp.inf
    return jnp.where(columns < count, columns, 0), drawn


def candidate_masks(
    anchors: Integer[Array, " n"],
    own: Integer[Array, "n s"],
    positives: Integer[Array, "m s"],
    negatives: Integer[Array, "m h"],
    labels: Integer[Array, " n"],
) -> tuple[Bool[Array, "n s m"], Bool[Array, "n c"]]:
    """Candidates that are no copies of the anchor or of its positives: see `debcse`.

    Args:
      anchors: number of each anchor's text.
      own: numbers of its positives' texts.
      positives: those of all anchors, over all devices.
      negatives: of the negatives of all anchors.
      labels: row of each anchor among `positives`; its positives stay.

    Returns:
      masks of the positives and of the negatives (anchor by anchor, c = m h).

    Examples:
      >>> texts = jnp.array([[3], [4]])
      >>> _, mask = candidate_masks(
      ...     jnp.array([0, 1]), texts, texts, jnp.array([[4], [5]]), jnp.arange(2)
      ... )
      >>> mask.tolist()  # 4 is the positive of the second anchor
      [[True, True], [False, True]]
    """
    numerics.check_shapes(
        anchors=(anchors, "n"),
        own=(own, "n s"),
        positives=(positives, "m s"),
        negatives=(negatives, "m h*"),
        labels=(labels, "n"),
    )
    texts = jnp.concatenate([anchors[:, None], own], axis=1)

    def fresh(candidates):
        return jnp.all(texts[:, :, None] != candidates[None, None, :], axis=1)

    m, s = positives.shape
    masks = fresh(positives.T.ravel()).reshape(-1, s, m)
    itself = labels[:, None, None] == jnp.arange(m)[None, None, :]
    return masks | itself, fresh(negatives.ravel())


# The loss


def self_normalized_ipw(
    values: Float[Array, "n m"],
    probs: Float[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "*anchors"]:
    """Mean of each anchor's losses, weighted by probabilities of its candidates.

        loss_i = sum_j p_ij values_ij / sum_j p_ij

    What drawing candidates with these probabilities gives on average, without the noise
    of the draw.

    Args:
      values: loss of each anchor with each candidate.
      probs: non-negative weights, such as the exponential of `ipw_log_probs`; they
        need not sum to 1. An anchor without any drops out. No gradient passes.
      where: candidates that count.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that count; None gives [n].

    References:
      Swaminathan and Joachims 2015, The self-normalized estimator for counterfactual
      learning.

    Examples:
      >>> values, probs = jnp.array([[1.0, 4.0]]), jnp.array([[0.2, 0.1]])
      >>> print(self_normalized_ipw(values, probs))
      2.0
    """
    numerics.check_shapes(
        values=(values, "n m"),
        probs=(probs, "n m"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    values = numerics.at_least_f32(values, "values")
    probs = jax.lax.stop_gradient(numerics.at_least_f32(probs, "probs"))
    probs = jnp.where(numerics.mask_or_all(where, values.shape), probs, 0)
    most = jnp.max(probs, axis=1, keepdims=True)
    counts = most > 0
    probs = probs / jnp.where(counts, most, 1)
    total = jnp.where(counts, jnp.sum(probs, axis=1, keepdims=True), 1)
    values = jnp.sum(jnp.where(probs > 0, values, 0) * (probs / total), axis=1)
    return numerics.safe_reduce(
        values, where=counts[:, 0], weights=weights, reduce_fn=reduce_fn
    )


def debcse(
    logits: Float[Array, "n s m"],
    negative_logits: Float[Array, "n c"] | None = None,
    labels: Integer[Array, " n"] | None = None,
    *,
    where: Bool[Array, "n s m"] | None = None,
    negative_where: Bool[Array, "n c"] | None = None,
    pair_weights: Float[Array, "n s"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """InfoNCE of several drawn positives, with drawn negatives of all anchors.

        loss_is = lse( {logits[i, s, j]}_j u {negative_logits[i, c]}_c )
                  - logits[i, s, labels[i]]                              (nats)

    averaged over the pairs (i, s). One positive and one negative per anchor are SimCSE
    with hard negatives; one positive that is the anchor itself under another dropout
    mask, without negatives, is unsupervised SimCSE.

    Args:
      logits: scores of n anchors against the positives in slot s of m anchors,
        temperature applied.
      negative_logits: scores against the negatives of all anchors.
      labels: row of each anchor among the m; the diagonal when None.
      where: positives that count; an anchor's own that does not leaves the mean.
      negative_where: negatives that count. `candidate_masks` leaves out copies of the
        anchor and of its positives.
      pair_weights: non-negative weights of an anchor's own positives, for all
        candidates at once instead of a draw: see `self_normalized_ipw`.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs that count (anchors, with
        `pair_weights`); None gives the sums of the anchors, [n].

    References:
      Miao et al. 2023, arXiv:2309.07396 (reconstructed); Gao et al. 2021,
      arXiv:2104.08821, eq. 5.

    Examples:
      >>> logits = jnp.array([[[2.0, 0.0]], [[1.0, 1.0]]])  # one positive each
      >>> debcse(logits, reduce_fn=None).round(4)
      Array([0.1269, 0.6931], dtype=float32)
      >>> print(debcse(logits, jnp.array([[0.0, 0.0], [1.0, 1.0]])).round(4))
      0.8635
    """
    sizes = numerics.check_shapes(
        logits=(logits, "n s m"),
        negative_logits=(negative_logits, "n c*"),
        labels=(labels, "n"),
        where=(where, "n s m"),
        negative_where=(negative_where, "n c*"),
        pair_weights=(pair_weights, "n s"),
        weights=(weights, "n"),
    )
    n, s, m = (sizes[axis] for axis in "nsm")
    if labels is None and m < n:
        raise ValueError(f"labels: needed when m = {m} is less than n = {n}")
    labels = jnp.arange(n) if labels is None else labels
    labels = jnp.repeat(numerics.check_columns(labels, m, "labels"), s)
    rows = numerics.at_least_f32(logits, "logits").reshape(n * s, m)
    mask = numerics.mask_or_all(where, logits.shape).reshape(n * s, m)
    labels = jnp.where(labels < m, labels, m + sizes.get("c", 0))
    if negative_logits is not None:
        negatives = numerics.at_least_f32(negative_logits, "negative_logits")
        there = numerics.mask_or_all(negative_where, negatives.shape)
        rows = jnp.concatenate([rows, jnp.repeat(negatives, s, axis=0)], axis=1)
        mask = jnp.concatenate([mask, jnp.repeat(there, s, axis=0)], axis=1)
    rows, mask = numerics.masked_logits(rows, mask)
    terms = losses.info_nce(rows, labels, where=mask, reduce_fn=None).reshape(n, s)
    counts = numerics.at_columns(mask, labels).reshape(n, s)
    if pair_weights is not None:
        return self_normalized_ipw(
            terms, pair_weights, where=counts, weights=weights, reduce_fn=reduce_fn
        )
    return numerics.reduce_terms(
        terms, where=counts, weights=weights, reduce_fn=reduce_fn
    )
