"""Losses on whole ranked lists: [n lists, m items] of scores against graded relevance.

`relevance` are the labels of the items, higher is better; `where` leaves padding out.
A list without anything to learn from drops out of the reduction: one with no item, and
for the NDCG losses one in which no item has a gain.
"""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import numerics, similarity
from contrastive_jax.losses import distillation


def list_softmax(
    logits: Float[Array, "n m"],
    relevance: Float[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Cross entropy of the items, weighted by their relevance.

        loss_i = sum_j relevance[i, j] (logsumexp_k logits[i, k] - logits[i, j])  (nats)

    Also known as ranking softmax.

    Args:
      logits: scores of m items in each of n lists, temperature applied.
      relevance: non-negative labels, used as they are.
      where: items that count.
      weights: one non-negative weight per list.
      reduce_fn: `jnp.mean` or `jnp.sum` over lists; None gives [n].

    References:
      Bruch et al. 2019, An Analysis of the Softmax Cross Entropy Loss for
      Learning-to-Rank with Binary Relevance, ICTIR.

    Examples:
      >>> logits, relevance = jnp.zeros((1, 4)), jnp.array([[2.0, 0.0, 0.0, 0.0]])
      >>> round(float(list_softmax(logits, relevance)), 4)  # 2 log 4
      2.7726
    """
    logits, relevance, where = check_lists(logits, relevance, where, weights)
    log_p = numerics.masked_log_softmax(logits, where)
    return numerics.safe_reduce(
        -jnp.sum(jnp.where(where, relevance, 0) * log_p, axis=1),
        where=jnp.any(where, axis=1),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def listnet(
    logits: Float[Array, "n m"],
    relevance: Float[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Cross entropy between the top-one probabilities of labels and of scores.

        loss_i = -sum_j t_ij log p_ij,  t = softmax(relevance), p = softmax(logits)
                                                                              (nats)

    Also known as ListNet.

    Args:
      logits: scores of m items in each of n lists, temperature applied.
      relevance: labels; an item of label 0 still has probability above 0.
      where: items that count.
      weights: one non-negative weight per list.
      reduce_fn: `jnp.mean` or `jnp.sum` over lists; None gives [n].

    References:
      Cao et al. 2007, Learning to Rank: From Pairwise Approach to Listwise Approach,
      ICML.

    Deviations:
      allRank adds 1e-10 to p before the logarithm.

    Examples:
      >>> logits, relevance = jnp.zeros((1, 4)), jnp.array([[3.0, 2.0, 1.0, 0.0]])
      >>> round(float(listnet(logits, relevance)), 4)  # log 4, whatever the labels
      1.3863
    """
    logits, relevance, where = check_lists(logits, relevance, where, weights)
    log_p = numerics.masked_log_softmax(logits, where)
    t, counts = distillation.teacher_softmax(relevance, where)
    return numerics.safe_reduce(
        -jnp.sum(t * log_p, axis=1),
        where=counts,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def list_mle(
    logits: Float[Array, "n m"],
    relevance: Float[Array, "n m"],
    *,
    order: Integer[Array, "n m"] | None = None,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Minus the log-probability of the right order under Plackett and Luce.

        loss_i = sum_j ( logsumexp_{l >= j} s_il - s_ij )                     (nats)

    with s the logits in falling order of relevance.

    Also known as ListMLE.

    Args:
      logits: scores of m items in each of n lists, temperature applied.
      relevance: labels; only their order matters.
      order: items of each list from the most to the least relevant, for another order
        of equal labels than the one they stand in (draw it at random). A list whose
        traced order is no permutation drops out.
      where: items that count.
      weights: one non-negative weight per list.
      reduce_fn: `jnp.mean` or `jnp.sum` over lists; None gives [n].

    Raises:
      ValueError: an order that is no permutation.

    References:
      Xia et al. 2008, Listwise Approach to Learning to Rank: Theory and Algorithm,
      ICML, section 4.

    Deviations:
      allRank adds 1e-10 to the sum before the logarithm and draws the order of equal
      labels in each call.

    Examples:
      >>> logits, relevance = jnp.zeros((1, 3)), jnp.array([[2.0, 0.0, 1.0]])
      >>> round(float(list_mle(logits, relevance)), 4)  # log(3 * 2)
      1.7918
    """
    logits, relevance, where = check_lists(logits, relevance, where, weights)
    numerics.check_shapes(logits=(logits, "n m"), order=(order, "n m"))
    if order is None:
        order = jnp.argsort(jnp.where(where, -relevance, jnp.inf), axis=1)
    else:
        order, valid = numerics.check_orders(order, "order")
        where = where & valid[:, None]
    logits = numerics.less_largest(logits, where)
    logits = jnp.take_along_axis(logits, order, axis=1)
    inside = jnp.take_along_axis(where, order, axis=1)
    masked = jnp.where(inside, logits, numerics.MASKED)
    rest = jax.lax.cumlogsumexp(masked, axis=1, reverse=True)
    return numerics.safe_reduce(
        jnp.sum(jnp.where(inside, rest - logits, 0), axis=1),
        where=jnp.any(where, axis=1),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def listwise_kl(
    logits: Float[Array, "n m"],
    relevance: Float[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Divergence of the scores' softmax from the labels' softmax.

        loss_i = sum_j t_ij (log t_ij - log p_ij),  t = softmax(relevance),
                                                    p = softmax(logits)       (nats)

    `listnet` less the entropy of t: the same gradient in the logits, and 0 at the
    optimum. It is `distillation_kl` with the labels for a teacher, at temperature 1.

    Args:
      logits: scores of m items in each of n lists, temperature applied.
      relevance: labels, or scores of a teacher.
      where: items that count.
      weights: one non-negative weight per list.
      reduce_fn: `jnp.mean` or `jnp.sum` over lists; None gives [n].

    References:
      Esfandiarpoor et al. 2025, arXiv:2503.23239 (KL baseline).

    Examples:
      >>> logits = jnp.array([[1.0, 2.0, 3.0]])
      >>> print(listwise_kl(logits, logits))
      0.0
    """
    logits, relevance, where = check_lists(logits, relevance, where, weights)
    return distillation.distillation_kl(
        logits, relevance, where=where, weights=weights, reduce_fn=reduce_fn
    )


def approx_ndcg(
    logits: Float[Array, "n m"],
    relevance: Float[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Minus the NDCG of smoothed ranks.

        rank_ij = 1 + sum_{k != j} sigmoid(logits[i, k] - logits[i, j])
        loss_i  = -sum_j (2^relevance[i, j] - 1) / log2(1 + rank_ij) / idealDCG_i

    Lies in [-1, 0]. Holds n * m * m numbers.

    Also known as ApproxNDCG.

    Args:
      logits: scores of m items in each of n lists; the smaller the temperature that
        divides them, the closer the ranks are to true ones.
      relevance: labels >= 0.
      where: items that count.
      weights: one non-negative weight per list.
      reduce_fn: `jnp.mean` or `jnp.sum` over lists with a label above 0; None gives
        [n].

    References:
      Qin et al. 2010, A general approximation framework for direct optimization of
      information retrieval measures, Information Retrieval 13.

    Deviations:
      allRank counts lists without a relevant item as 0 in the mean.

    Examples:
      >>> logits, relevance = jnp.zeros((1, 3)), jnp.array([[1.0, 0.0, 0.0]])
      >>> round(float(approx_ndcg(logits, relevance)), 4)  # -1 / log2(1 + 2)
      -0.6309
    """
    logits, relevance, where = check_lists(logits, relevance, where, weights)
    m = logits.shape[1]
    ahead = jax.nn.sigmoid(logits[:, None, :] - logits[:, :, None])
    others = where[:, None, :] & ~jnp.eye(m, dtype=bool)[None]
    rank = 1 + jnp.sum(jnp.where(others, ahead, 0), axis=2)
    gain = normalized_gains(relevance, where)
    return numerics.safe_reduce(
        -jnp.sum(gain * math.log(2) / jnp.log1p(rank), axis=1),
        where=jnp.any(gain > 0, axis=1),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def neural_ndcg(
    logits: Float[Array, "n m"],
    relevance: Float[Array, "n m"],
    *,
    temperature: numerics.Number = 1.0,
    k: int | None = None,
    num_iterations: int = 50,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Minus the NDCG of a relaxed sort of the list.

        P_rj = softmax_j( ((m + 1 - 2 r) s_ij - sum_l |s_ij - s_il|) / temperature )
        loss_i = -sum_{r <= k} sum_j P_rj (2^relevance[i, j] - 1) / log2(1 + r)
                 / idealDCG_i

    where P was first made doubly stochastic. Lies in [-1, 0]. Holds n * m * m numbers.

    Also known as NeuralNDCG and NeuralSort.

    Args:
      logits: s, scores of m items in each of n lists.
      relevance: labels >= 0.
      temperature: > 0; towards 0 the sort becomes exact and its gradient 0.
      k: ranks that count; all when None.
      num_iterations: how often columns and rows of P are scaled to sum to 1.
      where: items that count.
      weights: one non-negative weight per list.
      reduce_fn: `jnp.mean` or `jnp.sum` over lists with a label above 0; None gives
        [n].

    References:
      Pobrotyn and Bialobrzeski 2021, arXiv:2102.07831, section 3; Grover et al. 2019,
      arXiv:1903.08850, eq. 5 (NeuralSort).

    Deviations:
      allRank stops scaling P at a tolerance of 1e-6, after at most 50 rounds.

    Examples:
      >>> logits, relevance = jnp.array([[9.0, 0.0]]), jnp.array([[1.0, 0.0]])
      >>> round(float(neural_ndcg(logits, relevance, temperature=0.1)), 4)
      -1.0
    """
    numerics.check_positive(temperature=temperature)
    if k is not None and k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    logits, relevance, where = check_lists(logits, relevance, where, weights)
    m = logits.shape[1]
    scores = numerics.less_largest(logits, where)
    gaps = scores[:, :, None] - scores[:, None, :]
    both = where[:, :, None] & where[:, None, :]
    apart = jnp.sum(jnp.where(both, gaps * jnp.sign(gaps), 0), axis=2)
    count = jnp.sum(where, axis=1)
    rank = jnp.arange(1, m + 1)
    slope = (count[:, None] + 1 - 2 * rank[None, :]).astype(scores.dtype)
    log_p = slope[:, :, None] * scores[:, None, :] - apart[:, None, :]
    # As many ranks as items count, in the first rows.
    real = (rank[None, :] <= count[:, None])[:, :, None] & where[:, None, :]
    log_p = numerics.masked_log_softmax(log_p, real, temperature=temperature)
    for _ in range(num_iterations):
        log_p = numerics.masked_log_softmax(log_p, real, axis=1)
        log_p = numerics.masked_log_softmax(log_p, real)
    gain = normalized_gains(relevance, where, k)
    gains = jnp.sum(jnp.where(real, jnp.exp(log_p), 0) * gain[:, None, :], axis=2)
    discount = 1 / jnp.log2(1 + rank.astype(gains.dtype))
    return numerics.safe_reduce(
        -jnp.sum((gains * discount[None, :])[:, :k], axis=1),
        where=jnp.any(gain > 0, axis=1),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def lambda_loss(
    logits: Float[Array, "n m"],
    relevance: Float[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    scheme: Literal[
        "ranknet",
        "ranknet_gap",
        "ranknet_square",
        "ndcg1",
        "ndcg2",
        "lambdarank",
        "ndcg2++",
    ] = "ndcg2",
    k: int | None = None,
    mu: numerics.Number = 10.0,
    over: Literal["lists", "pairs"] = "lists",
    unit: Literal["bits", "nats"] = "bits",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Pairwise logistic loss weighted by what a swap would change in the NDCG.

        loss_i = -sum_{j, l: y_j > y_l} w_jl log2 sigmoid(s_j - s_l)          (bits)

        ranknet:    w = 1;  ranknet_gap: y_j - y_l;  ranknet_square: y_j^2 - y_l^2
        lambdarank: w = |1/D(r_j) - 1/D(r_l)| |G_j - G_l|
        ndcg2:      w = |1/D(|r_j - r_l|) - 1/D(|r_j - r_l| + 1)| |G_j - G_l|
        ndcg2++:    w = mu ndcg2 + lambdarank
        ndcg1:      w = G_j / D(r_j), over all pairs j, l, equal ones included

    with r the rank (from 1) in the order of the scores, D(r) = log2(1 + r) and
    G = (2^y - 1) / idealDCG.

    Ranks have no gradient. Holds n * m * m numbers.

    Also known as LambdaLoss, LambdaRank and RankNet.

    Args:
      logits: s, scores of m items in each of n lists, times sigma if wanted.
      relevance: y, labels >= 0.
      where: items that count.
      weights: one non-negative weight per list.
      scheme: the weights w.
      k: only pairs of which both are among the first k; the ideal DCG is cut there too.
      mu: of "ndcg2++", >= 0.
      over: what `jnp.mean` divides by: lists that have a pair, or pairs.
      unit: base of the logarithm, 2 or e.
      reduce_fn: `jnp.mean` or `jnp.sum`; None gives the sums of the lists, [n].

    References:
      Wang et al. 2018, The LambdaLoss Framework for Ranking Metric Optimization, CIKM;
      Burges 2010, MSR-TR-2010-82 (RankNet, LambdaRank).

    Deviations:
      allRank sums over all lists, or averages over all pairs (`over`).

    Examples:
      >>> logits, relevance = jnp.zeros((1, 2)), jnp.array([[1.0, 0.0]])
      >>> round(float(lambda_loss(logits, relevance, scheme="lambdarank")), 4)
      0.3691
    """
    if k is not None and k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    numerics.check_nonnegative(mu=mu)
    logits, relevance, where = check_lists(logits, relevance, where, weights)
    rank = ranks(logits, where)
    gain = normalized_gains(relevance, where, k)
    inside = where if k is None else where & (rank <= k)
    counts = inside[:, :, None] & inside[:, None, :]
    if scheme != "ndcg1":
        counts = counts & (relevance[:, :, None] > relevance[:, None, :])
    cost = -jax.nn.log_sigmoid(logits[:, :, None] - logits[:, None, :])
    if unit not in ("bits", "nats"):
        raise ValueError(f'unit: expected "bits" or "nats", got {unit!r}')
    cost = cost / math.log(2) if unit == "bits" else cost
    labels = jnp.where(where, relevance, 0)
    cost = cost * swap_weights(rank, gain, labels, scheme, mu)
    options: dict[str, Any] = dict(weights=weights, reduce_fn=reduce_fn)
    if over == "pairs":
        return numerics.reduce_terms(cost, where=counts, **options)
    if over != "lists":
        raise ValueError(f'over: expected "lists" or "pairs", got {over!r}')
    return numerics.safe_reduce(
        jnp.sum(jnp.where(counts, cost, 0), axis=(1, 2)),
        where=jnp.any(counts, axis=(1, 2)),
        **options,
    )


def wasserstein(
    values: Float[Array, "n m"],
    targets: Float[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    power: numerics.Number = 1.0,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Optimal transport on the line between the values of two lists.

        loss_i = mean_j |sorted(values[i])_j - sorted(targets[i])_j|^power

    It compares distributions: which item has which value does not enter.

    Args:
      values: m numbers in each of n lists.
      targets: as many numbers, in any order.
      where: items that count, in both.
      weights: one non-negative weight per list.
      power: of the cost, >= 1; the power-th root is left out.
      reduce_fn: `jnp.mean` or `jnp.sum` over lists; None gives [n].

    References:
      Peyré and Cuturi 2019, arXiv:1803.00567, chapter 2 (one dimension).

    Examples:
      >>> x = jnp.array([[0.0, 1.0, 3.0]])
      >>> print(wasserstein(x, jnp.array([[3.0, 0.5, 1.0]]), power=1.0))  # 0.5 / 3
      0.16666667
    """
    numerics.check_numbers("a number >= 1", lambda x: x >= 1, power=power)
    numerics.check_shapes(
        values=(values, "n m"),
        targets=(targets, "n m"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    values = numerics.at_least_f32(values, "values")
    targets = numerics.at_least_f32(targets, "targets")
    where = numerics.mask_or_all(where, values.shape)
    values, targets = jnp.where(where, values, 0), jnp.where(where, targets, 0)
    count = jnp.sum(where, axis=1, keepdims=True)
    first = jnp.arange(values.shape[1])[None, :] < count
    gaps = sort_first(values, where) - sort_first(targets, where)
    gaps = gaps * jnp.sign(gaps)  # the gradient at NaN is NaN, unlike that of jnp.abs
    return numerics.safe_reduce(
        numerics.masked_mean(jnp.where(first, gaps, 0) ** power, first, axis=1),
        where=jnp.any(where, axis=1),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def gaussian_wasserstein(
    values: Float[Array, "n m"],
    targets: Float[Array, "n m"],
    *,
    where: Bool[Array, " n"] | None = None,
    ddof: int = 1,
) -> Float[Array, ""]:
    """Squared 2-Wasserstein distance of Gaussians fitted to two sets of rows.

        loss = ||mean(x) - mean(y)||^2 + tr(cov(x)) + tr(cov(y))
               - 2 ||X Y^T||_* / (n - ddof)

    with X and Y the rows less their mean and the nuclear norm (sum of singular values)
    in place of the trace of a matrix root: it needs [n, n] and never [m, m], and its
    gradient is finite. A loss of the whole batch: gather rows over devices first.

    Also known as SyCL and Fréchet distance.

    Args:
      values: x, for example the softmax of each list's scores.
      targets: y, rows that go with them.
      where: rows that count.
      ddof: 1 for the unbiased covariance; with no more rows the divisor is 1.

    References:
      Esfandiarpoor et al. 2025, arXiv:2503.23239; Peyré and Cuturi 2019,
      arXiv:1803.00567, remark 2.31.

    Examples:
      >>> x = jnp.array([[0.0, 0.0], [2.0, 0.0]])
      >>> round(float(gaussian_wasserstein(x, x + 3.0)), 4)  # 3^2 + 3^2
      18.0
    """
    numerics.check_shapes(
        values=(values, "n m"), targets=(targets, "n m"), where=(where, "n")
    )
    values = numerics.at_least_f32(values, "values")
    targets = numerics.at_least_f32(targets, "targets")
    keep = numerics.mask_or_all(where, values.shape[:1])[:, None]
    count = jnp.sum(keep)
    # What all rows have in common goes first: it would cost digits of the means.
    origin = numerics.masked_mean(jax.lax.stop_gradient(values), keep, axis=0)[None, :]
    values, targets = values - origin, targets - origin
    means = [numerics.masked_mean(x, keep, axis=0) for x in (values, targets)]
    x = jnp.where(keep, values - means[0][None, :], 0)
    y = jnp.where(keep, targets - means[1][None, :], 0)
    spread = jnp.sum(x * x) + jnp.sum(y * y)
    overlap = jnp.linalg.svd(similarity.matmul(x, y), compute_uv=False)
    apart = jnp.sum(jnp.square(means[0] - means[1]))
    loss = apart + (spread - 2 * jnp.sum(overlap)) / jnp.maximum(count - ddof, 1)
    return jnp.where(count > 0, loss, 0)


def extend_lists(relevance: Float[Array, "n k"]) -> Float[Array, "n n*k"]:
    """Labels of n lists of k items over all items of the batch: 0 at other lists'.

    Item j of list i stands in column i k + j, as its scores do where every query is
    scored against the items of all.

    Args:
      relevance: labels of each list's own items.

    Examples:
      >>> print(extend_lists(jnp.array([[3.0, 1.0], [2.0, 0.0]])))
      [[3. 1. 0. 0.]
       [0. 0. 2. 0.]]
    """
    sizes = numerics.check_shapes(relevance=(relevance, "n k"))
    n, k = sizes["n"], sizes["k"]
    own = jnp.eye(n, dtype=bool)[:, :, None]
    return jnp.where(own, relevance[:, None, :], 0).reshape(n, n * k)


def ranks(
    scores: Float[Array, "n m"], where: Bool[Array, "n m"]
) -> Integer[Array, "n m"]:
    """Rank from 1 of each item by falling score; ties in the order given."""
    order = jnp.argsort(jnp.where(where, -scores, jnp.inf), axis=1)
    return jnp.argsort(order, axis=1) + 1


def normalized_gains(
    relevance: Float[Array, "n m"], where: Bool[Array, "n m"], k: int | None = None
) -> Float[Array, "n m"]:
    """2^relevance - 1 over the best DCG that the list can have at k; 0 where masked."""
    labels = jnp.where(where, relevance, 0)
    # Scaled by the largest label, which cancels in the ratio: no power overflows.
    top = jnp.max(labels, axis=1, keepdims=True)
    gain = jnp.exp2(labels - top) - jnp.exp2(-top)
    best = -jnp.sort(-gain, axis=1)[:, :k]
    ideal = jnp.sum(best / jnp.log2(2 + jnp.arange(best.shape[1]))[None, :], axis=1)
    return gain / jnp.where(ideal > 0, ideal, 1)[:, None]


def swap_weights(
    rank: Integer[Array, "n m"],
    gain: Float[Array, "n m"],
    labels: Float[Array, "n m"],
    scheme: str,
    mu: numerics.Number,
) -> Float[Array, "..."]:
    """Weights of `lambda_loss`, [n, m, m]."""

    def discount(r):
        return 1 / jnp.log2(1 + jnp.maximum(r, 1).astype(gain.dtype))

    apart = jnp.abs(rank[:, :, None] - rank[:, None, :])
    change = jnp.abs(gain[:, :, None] - gain[:, None, :])
    if scheme == "ranknet":
        return jnp.ones_like(change)
    if scheme == "ranknet_gap":
        return jnp.abs(labels[:, :, None] - labels[:, None, :])
    if scheme == "ranknet_square":
        squares = labels**2
        return jnp.abs(squares[:, :, None] - squares[:, None, :])
    if scheme == "ndcg1":
        return jnp.broadcast_to((gain * discount(rank))[:, :, None], change.shape)
    by_rank = discount(rank)[:, :, None] - discount(rank)[:, None, :]
    lambdarank = jnp.abs(by_rank) * change
    ndcg2 = jnp.abs(discount(apart) - discount(apart + 1)) * change
    if scheme == "lambdarank":
        return lambdarank
    if scheme == "ndcg2":
        return ndcg2
    if scheme == "ndcg2++":
        return mu * ndcg2 + lambdarank
    raise ValueError(
        'scheme: expected "ranknet", "ranknet_gap", "ranknet_square", "ndcg1", "ndcg2",'
        f' "lambdarank" or "ndcg2++", got {scheme!r}'
    )


def sort_first(
    x: Float[Array, "n m"], where: Bool[Array, "n m"]
) -> Float[Array, "n m"]:
    """Entries that count in rising order; what stands behind them means nothing."""
    order = jnp.lexsort((x, ~where), axis=1)
    return jnp.take_along_axis(x, order, axis=1)


def check_lists(
    logits: Float[Array, "n m"],
    relevance: Float[Array, "n m"],
    where: Bool[Array, "n m"] | None,
    weights: Float[Array, " n"] | None,
) -> tuple[Float[Array, "n m"], Float[Array, "n m"], Bool[Array, "n m"]]:
    """Checks lists of scores and labels and their mask."""
    numerics.check_shapes(
        logits=(logits, "n m"),
        relevance=(relevance, "n m"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    logits, where = numerics.masked_logits(logits, where)
    return logits, numerics.at_least_f32(relevance, "relevance"), where
