"""Losses whose gradient is formed in the forward pass: one-way InfoNCE and sigmoid.

`fused` reduces the loss of a kernel; `info_nce_kernel` visits strips of rows against
all columns, `sigmoid_kernel` single tiles. `reduce_rows` is the reduction that all
losses share: over the rows of one device, or of all.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from contrastive_jax import numerics
from contrastive_jax.parallel import collectives
from contrastive_jax.parallel.sums import (
    Plan,
    Running,
    absorb_tile,
    block_sizes,
    by_bound,
    finish,
    fold_one,
    row_gradients,
    start,
)
from contrastive_jax.parallel.tiles import (
    Side,
    block_size,
    join,
    pair_masks,
    product,
    put,
    put_slab,
    scaled,
    scores,
    slab,
    split,
    split_side,
    take,
    transpose_blocks,
    vary_alike,
    weighted,
    zeros,
)

# A strip of rows against all columns holds at most this many scores, by backend: 32 MB,
# and 1 GB where tiles are large.
STRIP_SCORES = {"cpu": 2**23}
LARGE_STRIP = 2**28

# A kernel is `kernel(plan, rows, cols, weights) -> (loss [n], valid [n], grads)`, with
# the gradients of sum(weights * loss) in rows and cols, or None when weights is None.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def weighted_sum(
    kernel: Any, plan: Plan, rows: Side, cols: Side, weights: Array
) -> tuple[Any, Any]:
    """(sum of weights * loss over valid rows, valid [n]); one sweep with gradient."""
    loss, valid, _ = kernel(plan, rows, cols, None)
    return jnp.sum(jnp.where(valid, weights * loss, 0)), valid


def weighted_sum_forward(kernel, plan, rows, cols, weights):
    loss, valid, grads = kernel(plan, rows, cols, weights)
    loss = jnp.where(valid, loss, 0)
    return (jnp.sum(weights * loss), valid), (grads, loss)


def weighted_sum_backward(kernel, plan, kept, slopes):
    (grads, loss), slope = kept, slopes[0]
    grads = jax.tree.map(lambda g: (slope * g).astype(g.dtype), grads)
    return *grads, slope * loss


weighted_sum.defvjp(weighted_sum_forward, weighted_sum_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def per_row(kernel: Any, plan: Plan, rows: Side, cols: Side | None) -> tuple[Any, Any]:
    """(loss [n], 0 where not valid; valid [n]); the gradient takes a second sweep."""
    loss, valid, _ = kernel(plan, rows, cols, None)
    return jnp.where(valid, loss, 0), valid


def per_row_forward(kernel, plan, rows, cols):
    return per_row(kernel, plan, rows, cols), (rows, cols)


def per_row_backward(kernel, plan, kept, slopes):
    return kernel(plan, *kept, slopes[0])[2]


per_row.defvjp(per_row_forward, per_row_backward)


def fused(
    kernel: Any,
    plan: Plan,
    rows: Side,
    cols: Side,
    weights: Array | None,
    reduce_fn: numerics.ReduceFn | None,
    axis_name: collectives.AxisName = None,
) -> Array:
    """The reduced loss of a kernel: in one sweep for means and sums."""
    rows, cols, weights = vary_alike(rows, cols, weights)
    mean = reduce_fn is jnp.mean or (bool(axis_name) and numerics.is_mean(reduce_fn))
    if not mean and reduce_fn is not jnp.sum:
        # partial(custom_vjp) has lost the types.
        losses = per_row(kernel, plan, rows, cols)
        loss, valid = losses  # pyright: ignore[reportGeneralTypeIssues]
        return reduce_rows(loss, valid, weights, reduce_fn, axis_name)
    one = zeros(rows.x, rows.x.shape[0], fill=1.0)
    weights = one if weights is None else jnp.asarray(weights, one.dtype)
    sums = weighted_sum(kernel, plan, rows, cols, weights)
    total, valid = sums  # pyright: ignore[reportGeneralTypeIssues]
    total = collectives.psum(total, axis_name)
    if reduce_fn is jnp.sum:
        return total
    norm = collectives.psum(jnp.sum(jnp.where(valid, weights, 0)), axis_name)
    return numerics.mean_of(total, norm)


def reduce_rows(
    loss: Array,
    valid: Array,
    weights: Array | None,
    reduce_fn: numerics.ReduceFn | None,
    axis_name: collectives.AxisName = None,
) -> Array:
    """`numerics.safe_reduce`, over the rows of all devices when there is an axis."""
    options = dict(where=valid, weights=weights)
    if axis_name is None or reduce_fn is None:
        return numerics.safe_reduce(loss, **options, reduce_fn=reduce_fn)
    if not numerics.is_mean(reduce_fn) and reduce_fn is not jnp.sum:
        raise ValueError(
            f"reduce_fn: expected jnp.mean, jnp.sum or None with an axis name, got "
            f"{reduce_fn}"
        )
    total = numerics.safe_reduce(loss, **options, reduce_fn=jnp.sum)
    total = collectives.psum(total, axis_name)
    if reduce_fn is jnp.sum:
        return total
    norm = numerics.safe_reduce(jnp.ones_like(loss), **options, reduce_fn=jnp.sum)
    norm = collectives.psum(norm, axis_name)
    return numerics.mean_of(total, norm)


def info_nce_kernel(plan: Plan, rows: Side, cols: Side, weights: Any) -> Any:
    """2 n m d, with gradients 6; the rows have the score of their positive."""
    return by_bound(sweep_strips, plan, (rows, cols), weights)


def sweep_strips(plan: Plan, sides: tuple[Side, Side], weights: Any) -> Any:
    """Strips of rows: sums over all columns, then at once the gradient from the scores.

    A strip holds [column blocks, rows, columns] `raised` scores; 0 or MASKED: no pair.
    """
    rows, cols = sides
    a, b = rows.x, cols.x
    (n, d), m = a.shape, b.shape[0]
    t, u = strip_rows(n, m, plan.tile), block_size(m, plan.tile)
    r, c = split_side(rows, t), split_side(cols, u)
    blocks, grads = c.x.shape[0], weights is not None

    def one_strip(carry, strip):
        (kept, theirs), (side, weight) = carry, strip
        kept, run = jax.lax.fori_loop(
            0,
            blocks,
            lambda j, carry: absorb_strip(plan, side, take(c, j), j, *carry),
            (kept, start(a, t, plan)),
        )
        lse = finish(run).lse[0]
        gap = lse - side.positive
        if not grads:
            return (kept, theirs), (jax.nn.softplus(gap), None)
        # softplus' is the share of the negatives; the positive gets minus it.
        share = weight * jax.nn.sigmoid(gap)
        factor = fold_one(lse, share) if plan.bounded else share
        x = factor if side.scale is None else factor * side.scale
        x = jax.lax.optimization_barrier((side.x * x[:, None]).astype(b.dtype).T)

        def add_gradients(j, carry):
            mine, theirs = carry
            p = take(kept, j)
            if not plan.bounded:
                p = jnp.where(p == numerics.MASKED, 0, jnp.exp(p - lse[:, None]))
            p = p.astype(b.dtype)
            mine = mine + product(p, take(c.x, j), (1, 0))
            gain = product(x, p, (1, 0))[None]
            return mine, put_slab(theirs, j, slab(theirs, j) + gain)

        mine, theirs = jax.lax.fori_loop(
            0, blocks, add_gradients, (zeros(a, t, d), theirs)
        )
        mine = mine * factor[:, None]
        return (kept, theirs), (jax.nn.softplus(gap), (mine, -share))

    carry = None, None
    if grads:
        carry = zeros(a, blocks, t, u), zeros(a, blocks, d, u)
    (_, theirs), results = jax.lax.scan(one_strip, carry, (r, split(weights, t)))
    loss, mine = join(results, n)
    valid = jnp.ones(n, bool) if rows.where is None else rows.where
    if theirs is None:
        return loss, valid, None
    db = join(transpose_blocks(theirs), m)
    da, dscale = row_gradients(rows, mine[0])
    da, db = da.astype(a.dtype), db.astype(b.dtype)
    return loss, valid, (Side(da, dscale, positive=mine[1]), Side(db))


def absorb_strip(
    plan: Plan, r: Side, c: Side, j: Any, kept: Any, run: Running
) -> tuple[Any, Running]:
    """One more tile of a strip of rows: into the sums, and kept for the gradient."""
    seen, run, _ = absorb_tile(plan, r, c, run, None)
    if kept is None:
        return None, run
    if not plan.bounded:
        masks = pair_masks(r, c)
        seen = weighted(seen, r, c, masks, axis=1)
        seen = jnp.where(masks["negatives"], seen, numerics.MASKED)
    return put(kept, j, seen), run


def strip_rows(n: int, m: int, tile: int) -> int:
    """Rows of a strip: those of two tiles, or as many as `strip_scores` allows."""
    return block_size(n, max(min(2 * tile, strip_scores() // m), 1))


def strip_scores() -> int:
    """The most scores of a strip on this backend."""
    return STRIP_SCORES.get(jax.default_backend(), LARGE_STRIP)


def softplus_and_sigmoid(x: Array) -> tuple[Array, Array]:
    """log(1 + exp(x)) and its derivative, from one exponential.

    In float32 the logarithm is the series 2 atanh(u / (2 + u)) of log(1 + u), whose
    terms to the 13th power leave 1e-8; a library logarithm costs five exponentials.
    """
    u = jnp.exp(-jnp.abs(x))
    if x.dtype == jnp.float32:
        s = u / (2 + u)
        z = s * s
        log1p = jnp.zeros_like(z)
        for power in (13, 11, 9, 7, 5, 3, 1):
            log1p = log1p * z + 2 / power
        log1p = log1p * s
    else:
        log1p = jnp.log1p(u)
    return jnp.maximum(x, 0) + log1p, jnp.where(x >= 0, 1, u) / (1 + u)


def sigmoid_tile(r: Any) -> Callable[..., Any]:
    """Pairs judged one by one: loss and, with weights, gradient of the same tile."""
    side, weights = r
    x_transposed = jax.lax.optimization_barrier(scaled(side).T)

    def tile(c, mine, theirs):
        loss, count, da, dbias = mine
        masks = pair_masks(side, c)
        positive, counts = masks["positives"], masks["all"]
        logits = scores(side, c)
        value, slope = softplus_and_sigmoid(jnp.where(positive, -logits, logits))
        loss = loss + jnp.sum(jnp.where(counts, value, 0), axis=1)
        count = count + jnp.sum(counts, axis=1, dtype=count.dtype)
        if weights is not None:
            slope = jnp.where(positive, -slope, slope) * weights[:, None]
            slope = jnp.where(counts, slope, 0)
            dbias = dbias + jnp.sum(slope, axis=1)
            slope = slope.astype(c.x.dtype)
            da = da + product(slope, c.x, (1, 0))
            theirs = theirs + product(x_transposed, slope, (1, 0))[None]
        return (loss, count, da, dbias), theirs

    return tile


def sigmoid_kernel(plan: Plan, rows: Side, cols: Side, weights: Any) -> Any:
    """2 n m d, with gradients 6; the rows have a bias."""
    a, b = rows.x, cols.x
    (n, d), m = a.shape, b.shape[0]
    t, u = block_sizes(plan, rows, cols)
    r = split_side(rows, t)
    c = split_side(cols, u)
    blocks, grads = r.x.shape[0], weights is not None
    one = zeros(a, blocks, t)
    mine = (one, one, zeros(a, blocks, t, d) if grads else None, one if grads else None)
    theirs = zeros(a, c.x.shape[0], d, u) if grads else None
    r = (r, split(weights, t))
    mine, theirs = plan.walk(sigmoid_tile, r, c, mine, theirs)
    loss, count, da, dbias = join(mine, n)
    if grads:
        db = join(transpose_blocks(theirs), m)
        da, dscale = row_gradients(rows, da)
        grads = Side(da.astype(a.dtype), dscale, dbias), Side(db.astype(b.dtype))
    return loss, count > 0, grads
