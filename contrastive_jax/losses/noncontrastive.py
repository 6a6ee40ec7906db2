"""Losses between two views that need no negatives; all take embeddings, [n, d].

BYOL, SimSiam and W-MSE pull views together; Barlow Twins and VICReg also keep the
features apart from each other; alignment and uniformity measure both sides, and KoLeo
spreads rows. Those made of batch statistics return a scalar and take no `reduce_fn`.
Over several devices hand in the embeddings of all of them.
"""

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import numerics, pairs, similarity


def byol(
    predictions: Float[Array, "n d"],
    targets: Float[Array, "n d"],
    *,
    stop_targets: bool = True,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Squared distance between normalised predictions and targets (BYOL).

        loss_i = 2 - 2 cos(predictions_i, targets_i)

    The objective is the sum of this over the two pairs of views.

    Args:
      predictions: output of the online network's predictor.
      targets: projections by the target network of the other view.
      stop_targets: whether targets carry no gradient.
      where: rows that count.
      weights: one non-negative weight per row.
      reduce_fn: `jnp.mean` or `jnp.sum` over rows that count; None gives [n].

    References:
      Grill et al. 2020, arXiv:2006.07733, eq. 2.

    Examples:
      >>> p, z = jnp.array([[1.0, 0], [3, 0]]), jnp.array([[2.0, 0], [0, 1]])
      >>> byol(p, z, reduce_fn=None)
      Array([0., 2.], dtype=float32)
    """
    cosines = pair_cosines(predictions, targets, where, weights, stop_targets)
    return reduce_rows(2 - 2 * cosines, where, weights, reduce_fn)


def simsiam(
    predictions: Float[Array, "n d"],
    targets: Float[Array, "n d"],
    *,
    stop_targets: bool = True,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Negative cosine between predictions and targets (SimSiam); in [-1, 1].

        loss_i = -cos(predictions_i, targets_i)

    The objective is the average of this over the two pairs of views.

    Args:
      predictions: output of the predictor for one view.
      targets: projections of the other view.
      stop_targets: whether targets carry no gradient; without it the method collapses.
      where: rows that count.
      weights: one non-negative weight per row.
      reduce_fn: `jnp.mean` or `jnp.sum` over rows that count; None gives [n].

    References:
      Chen and He 2021, arXiv:2011.10566, eq. 1 and 4.

    Examples:
      >>> p, z = jnp.array([[1.0, 0], [3, 0]]), jnp.array([[2.0, 0], [0, 1]])
      >>> simsiam(p, z, reduce_fn=None)
      Array([-1., -0.], dtype=float32)
    """
    cosines = pair_cosines(predictions, targets, where, weights, stop_targets)
    return reduce_rows(-cosines, where, weights, reduce_fn)


def barlow_twins(
    a: Float[Array, "n d"],
    b: Float[Array, "n d"],
    *,
    off_diagonal: numerics.Number = 0.0051,
    eps: numerics.Number = 1e-5,
    where: Bool[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Cross-correlation of the two views' features pushed to the identity.

        C = standardise(a)^T standardise(b) / n
        loss = sum_i (1 - C_ii)^2 + off_diagonal sum_{i != j} C_ij^2

    Args:
      a: embeddings of the first view.
      b: embeddings of the second view.
      off_diagonal: weight of the terms off the diagonal.
      eps: added to the (biased) variances.
      where: rows that count.

    References:
      Zbontar et al. 2021, arXiv:2103.03230, eq. 1 and 2.

    Examples:
      >>> x = jnp.array([[1.0, 1.0], [-1.0, -1.0]])
      >>> f"{barlow_twins(x, x, off_diagonal=0.5, eps=0.0):.4f}"
      '1.0000'
    """
    numerics.check_finite(off_diagonal=off_diagonal)
    numerics.check_nonnegative(eps=eps)
    a, b, where = two_views(a, b, where)
    a, b = standardise(a, where, eps), standardise(b, where, eps)
    count = jnp.maximum(jnp.sum(where), 1)
    correlation = similarity.matmul(a.T, b.T) / count
    on = jnp.eye(a.shape[1], dtype=bool)
    terms = jnp.where(on, (1 - correlation) ** 2, off_diagonal * correlation**2)
    return jnp.where(jnp.any(where), jnp.sum(terms), 0)


def vicreg(
    a: Float[Array, "n d"],
    b: Float[Array, "n d"],
    *,
    invariance: numerics.Number = 25.0,
    variance: numerics.Number = 25.0,
    covariance: numerics.Number = 1.0,
    eps: numerics.Number = 1e-4,
    where: Bool[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Variance, invariance and covariance regularisation of two views.

        loss = invariance mean (a - b)^2
               + variance (v(a) + v(b)) / 2,  v = mean_j max(0, 1 - sqrt(var_j + eps))
               + covariance (c(a) + c(b)),    c = sum_{i != j} cov_ij^2 / d

    Variance and covariance divide by n - 1.

    Args:
      a: embeddings of the first view.
      b: embeddings of the second view.
      invariance: weight of the squared distance.
      variance: weight of the hinge on the standard deviations.
      covariance: weight of the squared covariances.
      eps: added to the variances.
      where: rows that count.

    References:
      Bardes et al. 2022, arXiv:2105.04906, eq. 1 to 6.

    Deviations:
      The paper sums the two views' variance terms; the released code averages them,
      and so does this.

    Examples:
      >>> x = jnp.array([[2.0, 0.0], [-2.0, 0.0]])
      >>> f"{vicreg(x, x):.2f}"
      '12.38'
    """
    numerics.check_finite(
        invariance=invariance, variance=variance, covariance=covariance
    )
    numerics.check_nonnegative(eps=eps)
    a, b, where = two_views(a, b, where)
    count = jnp.maximum(jnp.sum(where), 1)
    distance = jnp.sum((a - b) ** 2) / (count * a.shape[1])
    spread_a, overlap_a = spread_and_overlap(a, where, eps)
    spread_b, overlap_b = spread_and_overlap(b, where, eps)
    loss = (
        invariance * distance
        + variance * (spread_a + spread_b) / 2
        + covariance * (overlap_a + overlap_b)
    )
    return jnp.where(jnp.any(where), loss, 0)


def w_mse(
    a: Float[Array, "n d"],
    b: Float[Array, "n d"],
    *,
    permutations: Integer[Array, "p n"] | None = None,
    group_size: int | None = None,
    normalize: bool = True,
    eps: numerics.Number = 1e-3,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Distance between two views that were whitened, each on its own (W-MSE).

        loss_i = mean_p (2 - 2 cos(w_p(a)_i, w_p(b)_i)),  or mean_d (w_p(a) - w_p(b))^2

    where w_p whitens, by a Cholesky factor, the groups into which permutation p splits
    the rows.

    Gradients flow through the factor.

    Args:
      a: embeddings of the first view.
      b: embeddings of the second view.
      permutations: orders of the rows, averaged over; the order given when None. Each
        holds every row once.
      group_size: rows whitened together, a divisor of n; all when None. Should be well
        above d.
      normalize: whether whitened rows are scaled to length 1 first.
      eps: share of the identity in the covariance, in [0, 1].
      where: rows that count.
      weights: one non-negative weight per row.
      reduce_fn: `jnp.mean` or `jnp.sum` over rows that count; None gives [n].

    Raises:
      ValueError: a group size that does not divide n; a permutation (not traced) that
        holds a row twice.

    References:
      Ermolov et al. 2021, arXiv:2007.06346, section 3.

    Deviations:
      The released code has eps = 0 by default, which is not finite where a group has
      no more rows than columns.

    Examples:
      >>> x = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
      >>> f"{w_mse(x, 5.0 * x):.3f}"
      '0.000'
    """
    numerics.check_shapes(
        a=(a, "n d"),
        b=(b, "n d"),
        permutations=(permutations, "p n"),
        where=(where, "n"),
        weights=(weights, "n"),
    )
    numerics.check_fraction(eps=eps)
    a, b = numerics.at_least_f32(a, "a"), numerics.at_least_f32(b, "b")
    n = a.shape[0]
    group_size = n if group_size is None else group_size
    if group_size < 1 or n % group_size:
        raise ValueError(
            f"group_size: expected a divisor of the {n} rows, got {group_size}"
        )
    if permutations is None:
        permutations = jnp.arange(n)[None]
    permutations = check_permutations(permutations, n)
    where = numerics.mask_or_all(where, (n,))

    def whiten(x, order):
        groups = x[order].reshape(-1, group_size, x.shape[1])
        counts = where[order].reshape(-1, group_size)
        white = jax.vmap(numerics.cholesky_whiten, in_axes=(0, 0, None))
        return white(groups, counts, eps).reshape(x.shape)[jnp.argsort(order)]

    def distances(order):
        x, y = whiten(a, order), whiten(b, order)
        if normalize:
            x, y = similarity.l2_normalize(x), similarity.l2_normalize(y)
            return 2 - 2 * similarity.within(jnp.sum(x * y, axis=-1), -1.0, 1.0)
        return jnp.mean((x - y) ** 2, axis=-1)

    loss = jnp.mean(jax.vmap(distances)(permutations), axis=0)
    return reduce_rows(loss, where, weights, reduce_fn)


def alignment(
    a: Float[Array, "n d"],
    b: Float[Array, "n d"],
    *,
    alpha: numerics.Number = 2.0,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Distance between the embeddings of positive pairs, to a power.

        loss_i = ||a_i - b_i||^alpha

    Args:
      a: embeddings, meant to have length 1.
      b: embeddings of the positives, likewise.
      alpha: the power, > 0.
      where: pairs that count.
      weights: one non-negative weight per pair.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs that count; None gives [n].

    References:
      Wang and Isola 2020, arXiv:2005.10242, section 4.1.

    Examples:
      >>> a, b = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]])
      >>> f"{alignment(a, b):.1f}"
      '2.0'
    """
    numerics.check_shapes(a=(a, "n d"), weights=(weights, "n"))
    numerics.check_positive(alpha=alpha)
    a, b, where = two_views(a, b, where)
    square = jnp.sum((a - b) ** 2, axis=-1)
    if isinstance(alpha, jax.core.Tracer) or alpha != 2:
        apart = square != 0
        power = jnp.where(apart, square, 1) ** (alpha / 2)
        square = jnp.where(apart, power, 0)
    return reduce_rows(square, where, weights, reduce_fn)


def uniformity(
    x: Float[Array, "n d"],
    *,
    t: numerics.Number = 2.0,
    where: Bool[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Log of the mean Gaussian potential of all pairs; at most 0, lower is better.

        loss = log mean_{i < j} exp(-t ||x_i - x_j||^2)                  (nats)

    Args:
      x: embeddings, meant to have length 1.
      t: sharpness of the potential, > 0.
      where: rows that count. With fewer than two the loss is 0.

    References:
      Wang and Isola 2020, arXiv:2005.10242, section 4.1.

    Examples:
      >>> f"{uniformity(jnp.array([[1.0, 0.0], [0.0, 1.0]])):.1f}"
      '-4.0'
    """
    numerics.check_shapes(x=(x, "n d"), where=(where, "n"))
    numerics.check_positive(t=t)
    x = numerics.at_least_f32(x, "x")
    n = x.shape[0]
    where = numerics.mask_or_all(where, (n,))
    x = jnp.where(where[:, None], x, 0)
    apart = where[:, None] & where[None, :] & ~jnp.eye(n, dtype=bool)
    # Each pair appears twice, in the sum as in the count.
    potential = -t * similarity.squared_euclidean_distance(x, x)
    total = numerics.masked_logsumexp(potential.ravel(), apart.ravel())
    count = jnp.sum(apart, dtype=x.dtype)
    mean = similarity.within(total - numerics.safe_log(count), -jnp.inf, 0.0)
    return jnp.where(count > 0, mean, 0)


def koleo(
    x: Float[Array, "n d"],
    *,
    eps: numerics.Number = 1e-8,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Rows pushed off their nearest neighbors, which spreads them evenly (KoLeo).

        loss_i = -log( min_{j != i} || x_i / ||x_i|| - x_j / ||x_j|| || + eps )   (nats)

    From the estimate of the differential entropy of Kozachenko and Leonenko. Rows of
    all devices are neighbors of each other if they are gathered before the call.

    Args:
      x: embeddings, normalized here.
      eps: added to the distances, > 0.
      where: rows that count. With fewer than two the loss is 0.
      weights: one non-negative weight per row.
      reduce_fn: `jnp.mean` or `jnp.sum` over rows that count; None gives [n].

    References:
      Sablayrolles et al. 2019, arXiv:1806.03198, section 3.1.

    Deviations:
      The released code searches the neighbors by inner products; here it is by the
      distances themselves, which tell near duplicates apart.

    Examples:
      >>> x = jnp.array([[1.0, 0.0], [0.6, 0.8], [-2.0, 0.0]])
      >>> koleo(x, reduce_fn=None).round(4)  # -log of sqrt 0.8, sqrt 0.8 and sqrt 3.2
      Array([ 0.1116,  0.1116, -0.5816], dtype=float32)
    """
    numerics.check_shapes(x=(x, "n d"), where=(where, "n"), weights=(weights, "n"))
    numerics.check_positive(eps=eps)
    x = numerics.at_least_f32(x, "x")
    n = x.shape[0]
    where = numerics.mask_or_all(where, (n,))
    x = similarity.l2_normalize(jnp.where(where[:, None], x, 0))
    others = where[:, None] & where[None, :] & ~jnp.eye(n, dtype=bool)
    distances = similarity.euclidean_distance(x, x)
    nearest = numerics.at_columns(distances, pairs.hardest(-distances, others))
    loss = -jnp.log(nearest + eps)
    return reduce_rows(loss, where & jnp.any(others, axis=1), weights, reduce_fn)


def pair_cosines(
    predictions: Array, targets: Array, where: Array | None, weights: Array | None, stop
) -> Float[Array, " n"]:
    """Cosine between each prediction and its target, checked."""
    numerics.check_shapes(
        predictions=(predictions, "n d"),
        targets=(targets, "n d"),
        where=(where, "n"),
        weights=(weights, "n"),
    )
    predictions = numerics.at_least_f32(predictions, "predictions")
    targets = numerics.at_least_f32(targets, "targets")
    if stop:
        targets = jax.lax.stop_gradient(targets)
    if where is not None:
        keep = numerics.check_mask(where, "where")[:, None]
        predictions = jnp.where(keep, predictions, 0)
        targets = jnp.where(keep, targets, 0)
    unit = similarity.l2_normalize
    cosines = jnp.sum(unit(predictions) * unit(targets), axis=-1)
    return similarity.within(cosines, -1.0, 1.0)


def check_permutations(x: Array, n: int) -> Integer[Array, "p n"]:
    """Orders of n rows, each of which holds every row once."""
    x = numerics.check_columns(x, n, "permutations")
    if not isinstance(x, jax.core.Tracer):
        orders = np.sort(np.asarray(x), axis=1)
        wrong = np.flatnonzero((orders != np.arange(n)).any(axis=1))
        if wrong.size:
            raise ValueError(
                f"permutations: expected each of the {n} rows once, got "
                f"{np.asarray(x)[wrong[0]].tolist()}"
            )
    return x


def reduce_rows(
    loss: Float[Array, " n"], where: Array | None, weights: Array | None, reduce_fn
) -> Float[Array, "..."]:
    """The reduction over rows that count."""
    where = numerics.mask_or_all(where, loss.shape)
    return numerics.safe_reduce(loss, where=where, weights=weights, reduce_fn=reduce_fn)


def two_views(
    a: Array, b: Array, where: Array | None
) -> tuple[Float[Array, "n d"], Float[Array, "n d"], Bool[Array, " n"]]:
    """Two views in at least float32, 0 in rows that do not count."""
    numerics.check_shapes(a=(a, "n d"), b=(b, "n d"), where=(where, "n"))
    a, b = numerics.at_least_f32(a, "a"), numerics.at_least_f32(b, "b")
    where = numerics.mask_or_all(where, a.shape[:1])
    keep = where[:, None]
    return jnp.where(keep, a, 0), jnp.where(keep, b, 0), where


def center(x: Float[Array, "n d"], where: Bool[Array, " n"]) -> Float[Array, "n d"]:
    """Rows less their mean; 0 in rows that do not count."""
    mean = numerics.masked_mean(x, where[:, None], axis=0)
    return jnp.where(where[:, None], x - mean[None, :], 0)


def standardise(
    x: Float[Array, "n d"], where: Bool[Array, " n"], eps: numerics.Number
) -> Float[Array, "n d"]:
    """Columns with mean 0 and biased variance 1 over the rows that count."""
    centered = center(x, where)
    variance = numerics.masked_mean(centered**2, where[:, None], axis=0) + eps
    varies = variance > 0
    scale = jnp.where(varies, jax.lax.rsqrt(jnp.where(varies, variance, 1)), 0)
    return centered * scale[None, :]


def spread_and_overlap(
    x: Float[Array, "n d"], where: Bool[Array, " n"], eps: numerics.Number
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The variance and the covariance term of VICReg for one view."""
    centered = center(x, where)
    covariance = similarity.matmul(centered.T, centered.T)
    covariance = covariance / jnp.maximum(jnp.sum(where) - 1, 1)
    deviation = numerics.safe_sqrt(jnp.diagonal(covariance) + eps)
    others = ~jnp.eye(x.shape[1], dtype=bool)
    overlap = jnp.sum(jnp.where(others, covariance, 0) ** 2) / x.shape[1]
    return jnp.mean(numerics.hinge(1 - deviation)), overlap
