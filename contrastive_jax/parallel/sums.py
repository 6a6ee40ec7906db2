"""Sums over the pairs of each row and their gradient, for the softmax losses.

`pair_sums` returns `RowSums` of rows and, two-way, of columns, in one of three forms
(`choose_form`): tile by tile with scores computed again for the gradient
(`tiled_sums`), from a matrix that is kept for it (`kept_sums`), or differentiated as
usual (`dense_sums`). A `Plan` holds what is static: which sums, the tile, how tiles are
visited, and whether the bounded form may be taken: one exponential per score and no
running maximum, where the norms allow it (`within_bound`, checked at run time).
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from contrastive_jax import numerics
from contrastive_jax.parallel.tiles import (
    Side,
    block_size,
    join,
    pair_masks,
    product,
    scaled,
    scores,
    split,
    split_side,
    sweep,
    transpose_blocks,
    vary_alike,
    weighted,
    zeros,
)

Mode = Literal["auto", "tiled", "dense"]
# Up to this many scores (4 MB) the whole matrix is kept for the gradient; of one set,
# for which that saves no operations, up to a quarter as many.
KEPT_SCORES = 2**20
# Scores up to this size are exponentiated as they are: e^40 times a million fits.
BOUND = 40.0


class RowSums(NamedTuple):
    """What a softmax loss needs to know of a row (or of a column)."""

    lse: tuple[Any, ...]  # logsumexp over each requested set of pairs
    positive: Any = None  # sum of the scores of the positives
    count: Any = None  # number of positives


class Running(NamedTuple):
    """RowSums in the making: logsumexp as exp(top) * total."""

    top: tuple[Any, ...]
    total: tuple[Any, ...]
    positive: Any = None
    count: Any = None


class Plan(NamedTuple):
    """Static choices of one sweep."""

    sets: tuple[str, ...]  # of "all", "negatives", "positives"
    tile: int
    two_way: bool = False  # sums of columns too
    walk: Callable[..., Any] = sweep  # `sweep`, or the same over many devices
    bounded: bool = False  # one exponential per score where `within_bound`
    positives: bool = False  # the sum and the number of the positives too


def start(x: Array, n: int, plan: Plan) -> Running:
    """Sums over no pair yet, for n rows."""
    fill = 0.0 if plan.bounded else numerics.MASKED
    top = tuple(zeros(x, n, fill=fill) for _ in plan.sets)
    total = tuple(zeros(x, n) for _ in plan.sets)
    if not plan.positives:
        return Running(top, total)
    return Running(top, total, zeros(x, n), zeros(x, n))


def absorb(run: Running, logits: Array, masks: Any, sets: Any, axis: int) -> Running:
    """The running sums with one more tile, over its columns (axis 1) or rows (0)."""
    tops, totals = [], []
    for k, name in enumerate(sets):
        masked = jnp.where(masks[name], logits, numerics.MASKED)
        top = jnp.maximum(run.top[k], jnp.max(masked, axis=axis))
        e = jnp.exp(logits - jnp.expand_dims(top, axis))
        e = jnp.where(masks[name], e, 0)
        totals.append(run.total[k] * jnp.exp(run.top[k] - top) + jnp.sum(e, axis=axis))
        tops.append(top)
    run = run._replace(top=tuple(tops), total=tuple(totals))
    return absorb_positives(run, logits, masks, axis)


def absorb_bounded(run: Running, e: Any, logits: Array, masks: Any, axis: int) -> Any:
    """`absorb` without a maximum, from the masked exponentials of each set."""
    sums = (x + jnp.sum(y, axis=axis) for x, y in zip(run.total, e, strict=True))
    return absorb_positives(run._replace(total=tuple(sums)), logits, masks, axis)


def absorb_positives(run: Running, logits: Array, masks: Any, axis: int) -> Running:
    """The sum and the number of the positives with one more tile, if wanted."""
    if run.positive is None:
        return run
    positive = masks["positives"]
    linear = run.positive + jnp.sum(jnp.where(positive, logits, 0), axis=axis)
    count = run.count + jnp.sum(positive, axis=axis, dtype=run.count.dtype)
    return run._replace(positive=linear, count=count)


def merge(a: Running, b: Running) -> Running:
    """Sums over the pairs of both."""
    tops = tuple(jnp.maximum(x, y) for x, y in zip(a.top, b.top, strict=True))
    totals = tuple(
        a.total[k] * jnp.exp(a.top[k] - top) + b.total[k] * jnp.exp(b.top[k] - top)
        for k, top in enumerate(tops)
    )
    if a.positive is None:
        return Running(tops, totals)
    return Running(tops, totals, a.positive + b.positive, a.count + b.count)


def finish(run: Running) -> RowSums:
    """Running sums to logsumexp; MASKED where the set is empty."""

    def lse(top, total):
        empty = total == 0
        return jnp.where(empty, numerics.MASKED, top + jnp.log(total + empty))

    return RowSums(tuple(map(lse, run.top, run.total)), run.positive, run.count)


def raised(plan: Plan, logits: Array, masks: Any) -> Array:
    """What a tile's sums and its gradient are formed from: e^score where bounded.

    Of a single set it is 0 outside of the set.
    """
    if not plan.bounded:
        return logits
    e = jnp.exp(logits)
    return jnp.where(masks[plan.sets[0]], e, 0) if len(plan.sets) == 1 else e


def per_set(plan: Plan, e: Array, masks: Any) -> tuple[Array, ...]:
    """`raised` scores where bounded, 0 outside of each set."""
    if len(plan.sets) == 1:
        return (e,)
    return tuple(jnp.where(masks[name], e, 0) for name in plan.sets)


def absorb_tile(
    plan: Plan, r: Side, c: Side, mine: Running, theirs: Running | None
) -> tuple[Array, Running, Running | None]:
    """`raised` scores of a tile, and the sums of its rows and, if any, its columns."""
    logits, masks = scores(r, c), pair_masks(r, c)
    kept = raised(plan, logits, masks)
    if plan.bounded:
        e = per_set(plan, kept, masks)
        mine = absorb_bounded(mine, e, logits, masks, axis=1)
        if theirs is not None:
            theirs = absorb_bounded(theirs, e, logits, masks, axis=0)
        return kept, mine, theirs
    seen = weighted(logits, r, c, masks, axis=1)
    mine = absorb(mine, seen, masks, plan.sets, axis=1)
    if theirs is not None:
        seen = weighted(logits, r, c, masks, axis=0)
        theirs = absorb(theirs, seen, masks, plan.sets, axis=0)
    return kept, mine, theirs


def sums_tile(plan: Plan, r: Side) -> Callable[..., Any]:
    """The tile of the forward sweep: absorbs scores into rows and, if any, columns."""

    def tile(c, mine, theirs):
        theirs = jax.tree.map(lambda x: x[0], theirs)
        _, mine, theirs = absorb_tile(plan, r, c, mine, theirs)
        return mine, jax.tree.map(lambda x: x[None], theirs)

    return tile


class Known(NamedTuple):
    """A side with the finished sums of its rows and the gradient of the loss in them.

    `slope` None: this side's rows are candidates only.
    """

    side: Any
    sums: Any = None
    slope: Any = None


def score_gradient(
    logits: Array, masks: Any, sets: Any, known: Known, axis: int
) -> Any:
    """Gradient of the loss in the scores of a tile, through the sums of one side."""
    total = 0
    if known.slope.positive is not None:
        slope = jnp.expand_dims(known.slope.positive, axis)
        total = jnp.where(masks["positives"], slope, 0)
    for k, name in enumerate(sets):
        p = jnp.exp(logits - jnp.expand_dims(known.sums.lse[k], axis))
        p = p * jnp.expand_dims(known.slope.lse[k], axis)
        total = total + jnp.where(masks[name], p, 0)
    return total


def bounded_gradient(plan: Plan, e: Array, masks: Any, r: Known, c: Known) -> Any:
    """`score_gradient` through both sides from e^score, with weights of rank one."""

    def both(get):
        x = get(r.slope)[:, None]
        return x if c.slope is None else x + get(c.slope)[None, :]

    total = 0
    if r.slope.positive is not None:
        total = jnp.where(masks["positives"], both(lambda slope: slope.positive), 0)
    for k, in_set in enumerate(per_set(plan, e, masks)):
        total = total + in_set * both(lambda slope, k=k: slope.lse[k])
    return total


def tile_gradient(plan: Plan, kept: Array, r: Known, c: Known) -> Array:
    """Gradient in the scores of a tile from its `raised` scores, as an operand."""
    masks = pair_masks(r.side, c.side)
    if plan.bounded:
        slope = bounded_gradient(plan, kept, masks, r, c)
    else:
        seen = weighted(kept, r.side, c.side, masks, axis=1)
        slope = score_gradient(seen, masks, plan.sets, r, axis=1)
        if c.slope is not None:
            seen = weighted(kept, r.side, c.side, masks, axis=0)
            slope = slope + score_gradient(seen, masks, plan.sets, c, axis=0)
    return slope.astype(c.side.x.dtype)


def fold(sums: RowSums, slope: RowSums) -> RowSums:
    """The gradient in each logsumexp as one in the sum: times e^-lse, 0 if empty."""
    return slope._replace(lse=tuple(map(fold_one, sums.lse, slope.lse)))


def fold_one(lse: Array, slope: Array) -> Array:
    """`fold` of one logsumexp."""
    return jnp.where(lse == numerics.MASKED, 0, slope * jnp.exp(-lse))


def row_gradients(rows: Side, da: Array) -> tuple[Array, Array | None]:
    """Gradients in the rows and their scale, from that in the rows without a scale."""
    if rows.scale is None:
        return da, None
    dscale = jnp.sum(rows.x.astype(da.dtype) * da, axis=-1)
    return da * rows.scale[:, None], dscale


def gradient_tile(plan: Plan, r: Known, *, one_set: bool = False) -> Callable[..., Any]:
    """The tile of the backward sweep: recomputes scores, adds to both gradients.

    The columns' gradient is carried transposed, so that every product is a plain one.
    The rows' is without their scale (`row_gradients`), and of one set both are.
    """
    x = r.side.x if one_set else scaled(r.side)
    x_transposed = jax.lax.optimization_barrier(x.T)

    def tile(c, mine, theirs):
        kept = raised(plan, scores(r.side, c.side), pair_masks(r.side, c.side))
        slope = tile_gradient(plan, kept, r, c)
        mine = mine + product(slope, c.side.x, (1, 0))
        if theirs is not None:
            theirs = theirs + product(x_transposed, slope, (1, 0))[None]
        return mine, theirs

    return tile


def within_bound(rows: Side, cols: Side | None) -> Array:
    """Whether no score can exceed BOUND: by the norms of rows and of columns."""

    def largest(side, scale=None):
        x = side.x.astype(jnp.promote_types(side.x.dtype, jnp.float32))
        norms = jnp.sqrt(jnp.sum(x * x, axis=1))
        return jnp.max(norms if scale is None else norms * jnp.abs(scale))

    cols = rows if cols is None else cols
    return largest(rows, rows.scale) * largest(cols) <= BOUND


def by_bound(
    make_sweep: Callable[..., Any],
    plan: Plan,
    sides: Any,
    *args: Any,
    holds: Array | None = None,
) -> Any:
    """A sweep in the form that `within_bound` allows, looked at when it runs.

    Args:
      make_sweep: called with the plan, bounded or not, the sides and what follows.
      plan: when it is not bounded, nothing is looked at.
      sides: rows and columns.
      *args: more arguments of the sweep.
      holds: what `within_bound` said of the sides before.
    """
    if not plan.bounded:
        return make_sweep(plan, sides, *args)
    holds = within_bound(*sides) if holds is None else holds
    general = functools.partial(make_sweep, plan._replace(bounded=False))
    bounded = functools.partial(make_sweep, plan)
    return jax.lax.cond(holds, bounded, general, sides, *args)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def tiled_sums(plan: Plan, rows: Side, cols: Side | None) -> tuple[Any, Any]:
    """RowSums of rows and (two-way) of columns; cols None for one set."""
    return by_bound(sweep_sums, plan, (rows, cols))


def sums_forward(plan: Plan, rows: Side, cols: Side | None) -> Any:
    """The sums, and what the backward pass needs: inputs and sums."""
    sums = by_bound(sweep_sums, plan, (rows, cols))
    return sums, ((rows, cols), sums)


def sums_backward(plan: Plan, kept: Any, slopes: Any) -> Any:
    """Gradients of embeddings and scale."""
    return by_bound(sweep_gradients, plan, *kept, slopes)


tiled_sums.defvjp(sums_forward, sums_backward)


def sweep_sums(plan: Plan, sides: tuple[Side, Side | None]) -> tuple[Any, Any]:
    """The forward sweep."""
    rows, cols = sides
    a, n = rows.x, rows.x.shape[0]
    t, u = block_sizes(plan, rows, cols)
    r = split_side(rows, t)
    c = r if cols is None else split_side(cols, u)

    def running(side):
        blocks, size = side.x.shape[:2]
        return split(start(a, blocks * size, plan), size)

    mine, theirs = plan.walk(
        functools.partial(sums_tile, plan),
        r,
        c,
        running(r),
        running(c) if cols is None or plan.two_way else None,
        triangle=merge if cols is None else None,
    )
    row_sums = join(finish(mine), n)
    if cols is None or not plan.two_way:
        return row_sums, None
    return row_sums, join(finish(theirs), cols.x.shape[0])


def block_sizes(plan: Plan, rows: Side, cols: Side | None) -> tuple[int, int]:
    """Rows and columns of a tile: square for one set, else twice as high as wide.

    What is added to the columns' gradient, once per tile, is less the higher it is.
    """
    if cols is None:
        size = block_size(rows.x.shape[0], plan.tile)
        return size, size
    return (
        block_size(rows.x.shape[0], 2 * plan.tile),
        block_size(cols.x.shape[0], plan.tile),
    )


def folded(plan: Plan, sums: Any, slopes: Any) -> Any:
    """The gradients in the sums of both sides as `tile_gradient` wants them."""
    if not plan.bounded:
        return slopes
    return tuple(
        None if g is None else fold(x, g) for x, g in zip(sums, slopes, strict=True)
    )


def sweep_gradients(
    plan: Plan, sides: tuple[Side, Side | None], sums: Any, slopes: Any
) -> tuple[Any, Any]:
    """The backward sweep."""
    (rows, cols), (row_sums, col_sums) = sides, sums
    row_slope, col_slope = folded(plan, sums, slopes)
    a, (n, d) = rows.x, rows.x.shape
    t, u = block_sizes(plan, rows, cols)
    r = c = Known(split_side(rows, t), *split((row_sums, row_slope), t))
    if cols is not None:
        c = Known(split_side(cols, u), *split((col_sums, col_slope), u))
    da, db = plan.walk(
        functools.partial(gradient_tile, plan, one_set=cols is None),
        r,
        c,
        zeros(a, r.side.x.shape[0], t, d),
        zeros(a, c.side.x.shape[0], d, u),
        triangle=add_transposed if cols is None else None,
    )
    da = join(da, n)
    if cols is not None:
        db = join(transpose_blocks(db), cols.x.shape[0])
    return side_gradients(rows, cols, da, db)


def side_gradients(rows: Side, cols: Side | None, da: Array, db: Any) -> Any:
    """Gradients in both sides from those that tiles have added up."""
    da, dscale = row_gradients(rows, da)
    da = da.astype(rows.x.dtype)
    if cols is None:
        # The gradient holds every pair twice, from both of its rows.
        return Side(da, scale=None if dscale is None else dscale / 2), None
    return Side(da, scale=dscale), Side(db.astype(cols.x.dtype))


def add_transposed(mine: Array, theirs: Array) -> Array:
    """Gradients of a block as rows plus those as columns, which lie transposed."""
    return mine + jnp.swapaxes(theirs, -1, -2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def kept_sums(plan: Plan, rows: Side, cols: Side | None) -> tuple[Any, Any]:
    """`tiled_sums` from the whole matrix, which is kept for the gradient: 6 n m d."""
    return kept_forward(plan, rows, cols)[0]


def kept_forward(plan: Plan, rows: Side, cols: Side | None) -> Any:
    # What is kept depends on the form, so that the way back must not look again: it
    # could see another rounding of the norms.
    holds = within_bound(rows, cols) if plan.bounded else None
    sums, kept = by_bound(matrix_sums, plan, (rows, cols), holds=holds)
    return sums, ((rows, cols), sums, kept, holds)


def kept_backward(plan: Plan, residuals: Any, slopes: Any) -> Any:
    sides, sums, kept, holds = residuals
    return by_bound(matrix_gradients, plan, sides, sums, slopes, kept, holds=holds)


kept_sums.defvjp(kept_forward, kept_backward)


def matrix_sums(plan: Plan, sides: tuple[Side, Side | None]) -> tuple[Any, Array]:
    """The sums of rows and columns, and the `raised` scores."""
    rows, cols = sides
    cols = rows if cols is None else cols
    mine, theirs = (start(rows.x, side.x.shape[0], plan) for side in (rows, cols))
    kept, mine, theirs = absorb_tile(
        plan, rows, cols, mine, theirs if plan.two_way else None
    )
    return (finish(mine), None if theirs is None else finish(theirs)), kept


def matrix_gradients(
    plan: Plan, sides: tuple[Side, Side | None], sums: Any, slopes: Any, kept: Array
) -> tuple[Any, Any]:
    """Gradients of embeddings and scale from the `raised` scores."""
    (rows, cols), (row_sums, col_sums) = sides, sums
    row_slope, col_slope = folded(plan, sums, slopes)
    r = c = Known(rows, row_sums, row_slope)
    if cols is not None:
        c = Known(cols, col_sums, col_slope)
    slope = tile_gradient(plan, kept, r, c)
    da = product(slope, c.side.x, (1, 0))
    if cols is None:
        return side_gradients(rows, None, da, None)
    x_transposed = jax.lax.optimization_barrier(scaled(rows).T)
    db = jax.lax.optimization_barrier(product(x_transposed, slope, (1, 0)))
    return side_gradients(rows, cols, da, db.T)


def dense_sums(plan: Plan, rows: Side, cols: Side | None) -> tuple[Any, Any]:
    """`tiled_sums` from the whole matrix by ordinary differentiation."""
    cols = rows if cols is None else cols
    logits, masks = scores(rows, cols), pair_masks(rows, cols)

    def sums(axis):
        positive = masks["positives"]
        seen = weighted(logits, rows, cols, masks, axis)
        lse = [numerics.masked_logsumexp(seen, masks[s], axis) for s in plan.sets]
        if not plan.positives:
            return RowSums(tuple(lse))
        return RowSums(
            tuple(lse),
            jnp.sum(jnp.where(positive, logits, 0), axis=axis),
            jnp.sum(positive, axis=axis, dtype=logits.dtype),
        )

    return sums(1), sums(0) if plan.two_way else None


def choose_form(mode: str, n: int, m: int | None) -> str:
    """ "tiled" or "dense" as asked for; "kept" for few scores, "tiled" for others.

    m is None for one set.
    """
    if mode not in ("auto", "tiled", "dense"):
        raise ValueError(f'mode: expected "auto", "tiled" or "dense", got {mode!r}')
    if mode != "auto":
        return mode
    few = 4 * n * n <= KEPT_SCORES if m is None else n * m <= KEPT_SCORES
    return "kept" if few else "tiled"


def pair_sums(
    rows: Side, cols: Side | None, plan: Plan, mode: Mode = "auto"
) -> tuple[Any, Any]:
    """RowSums of rows and (two-way) of columns, differentiable in both embeddings.

    Args:
      rows: anchors.
      cols: candidates; None for the rows themselves.
      plan: what is summed.
      mode: "tiled", "dense", or a choice by size (`choose_form`).
    """
    n, m = rows.x.shape[0], None if cols is None else cols.x.shape[0]
    # The only candidate of a row has probability 1 to the bit by a division alone.
    alone = plan.walk is sweep and (m == 1 or (m is None and n <= 2))
    form = "dense" if alone else choose_form(mode, n, m)
    sums = {"tiled": tiled_sums, "kept": kept_sums, "dense": dense_sums}[form]
    return sums(plan, *vary_alike(rows, cols))
