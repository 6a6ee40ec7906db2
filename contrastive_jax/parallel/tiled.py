"""Contrastive losses from embeddings that never form the [n, m] score matrix.

One machine computes them all, on one device (`ring` runs it over many):

- A `Side` is a set of embeddings with one id per row for each pair relation (same
  label, same example, ...), so that a tile of any pair mask is built where it is used.
- `sweep` visits all tiles of rows x columns, or the upper triangle of one set, and
  carries results per row and per column.
- Softmax losses are ordinary functions of a few sums per row (`RowSums`: logsumexp of
  the negatives; where there may be many positives, their sum and number) and of the
  score of a row's one positive (`one_positive`). `pair_sums` computes the sums with
  their own gradient rule, which recomputes the tiles: two sweeps, 8 n m d operations
  for two directions, 4 n^2 d for one set against itself.
- One-way InfoNCE and the sigmoid loss form their gradient in the forward pass instead
  (`fused`): one sweep, 6 n m d operations.

A tile is a block of scores of some rows and columns. A row's positive is no part of its
logsumexp, so that a saturated batch keeps the digits of its gradient. Up to KEPT_SCORES
scores there are no tiles: the matrix is kept for the gradient. `mode="dense"` forms it
with ordinary differentiation. Where no score can be large (`bounded`, looked at when
the program runs), scores are exponentiated once, as they are.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from contrastive_jax import numerics, pairs
from contrastive_jax.parallel import collectives

Mode = Literal["auto", "tiled", "dense"]
Scale = float | Float[Array, ""]
# Columns of a tile by backend, so that its scores stay in cache: 256 or 512 KB of a
# core's L2 on a CPU; 16 or 32 MB of a large GPU's L2 or of a TPU core's memory (not
# measured).
TILES = {"cpu": 256}
LARGE_TILE = 2048
# A strip of rows against all columns holds at most this many scores (32 MB).
STRIP_SCORES = 2**23
# Up to this many scores (4 MB) the whole matrix is kept for the gradient; of one set,
# for which that saves no operations, up to a quarter as many.
KEPT_SCORES = 2**20
# Scores up to this size are exponentiated as they are: e^40 times a million fits.
BOUND = 40.0


class Side(NamedTuple):
    """Embeddings of one side and the ids that decide which pairs count.

    A relation holds between a row and a column with equal ids; None: it never does
    (`block`: it always does).
    """

    x: Any  # [n, d]
    scale: Any = None  # [n] factor of a row's scores
    bias: Any = None  # [n] added to a row's scores
    label: Any = None  # equal: a positive pair
    me: Any = None  # equal: one and the same example, which is no pair
    where: Any = None  # [n] booleans: False is as if absent
    exclude: Any = None  # equal: no negative (a positive stays one)
    block: Any = None  # different: no pair
    log_weight: Any = None  # [n, k] log weight of each row's negatives by their group
    group: Any = None  # [n] which of the k groups a row is in, as a negative
    positive: Any = None  # [n] score of a row's one positive, where a kernel wants it


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


# Tiles and loops


def product(a: Array, b: Array, contract: tuple[int, int] = (1, 1)) -> Array:
    """`a @ b.T` (or other axes), operands as they are, sums in at least float32."""
    dtype = jnp.promote_types(a.dtype, jnp.float32)
    axes = (((contract[0],), (contract[1],)), ((), ()))
    return jax.lax.dot_general(
        a, b, axes, precision=jax.lax.Precision.HIGHEST, preferred_element_type=dtype
    )


def scores(rows: Side, cols: Side) -> Array:
    """The scores of a tile: inner products times scale plus bias of the row."""
    logits = product(rows.x, cols.x)
    if rows.scale is not None:
        logits = logits * rows.scale[:, None]
    return logits if rows.bias is None else logits + rows.bias[:, None]


def pair_masks(rows: Side, cols: Side | None) -> dict[str, Any]:
    """The pairs of a tile that are "positives", "negatives", and "all" (either)."""

    def same(field):
        r, c = getattr(rows, field), getattr(cols, field)
        return None if r is None or c is None else r[:, None] == c[None, :]

    conditions = [same("block")]
    conditions += [None if (me := same("me")) is None else ~me]
    conditions += [None if rows.where is None else rows.where[:, None]]
    conditions += [None if cols.where is None else cols.where[None, :]]
    positive, exclude = same("label"), same("exclude")
    shape = (rows.x.shape[0], cols.x.shape[0])
    counts = functools.reduce(
        jnp.logical_and, [c for c in conditions if c is not None], jnp.ones(shape, bool)
    )
    positive = jnp.zeros(shape, bool) if positive is None else positive & counts
    if exclude is None:
        negative, every = counts & ~positive, counts
    else:
        negative, every = counts & ~positive & ~exclude, counts & (positive | ~exclude)
    return {"positives": positive, "negatives": negative, "all": every}


def weighted(logits: Array, rows: Side, cols: Side, masks: Any, axis: int) -> Array:
    """The scores with the log weights of the negatives, for rows (axis 1) or columns.

    Of two sets only the rows have weights, and both directions share them.
    """
    by_column = axis == 0 and cols.log_weight is not None
    anchors, others = (cols, rows) if by_column else (rows, cols)
    if anchors.log_weight is None or others.group is None:
        return logits
    extra = jnp.take(anchors.log_weight, others.group, axis=1)
    extra = extra.T if by_column else extra
    return jnp.where(masks["negatives"], logits + extra, logits)


def take(tree: Any, i: Any) -> Any:
    """Block i of every leaf."""
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, 0, False), tree)


def slab(tree: Any, i: Any) -> Any:
    """Block i of every leaf, with a leading axis of size 1."""
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, i, 1), tree)


def put_slab(tree: Any, i: Any, block: Any) -> Any:
    """Every leaf with `slab` i replaced."""
    return jax.tree.map(
        lambda x, b: jax.lax.dynamic_update_slice_in_dim(x, b, i, 0), tree, block
    )


def put(tree: Any, i: Any, block: Any) -> Any:
    """Every leaf with block i replaced."""
    return put_slab(tree, i, jax.tree.map(lambda b: b[None], block))


def sweep(
    make_tile: Callable[..., Any],
    rows: Any,
    cols: Any,
    mine: Any,
    theirs: Any,
    *,
    triangle: Callable[..., Any] | None = None,
) -> tuple[Any, Any]:
    """Visits every tile, one block of rows after the other.

    Args:
      make_tile: called with a block of rows, returns `tile(c, mine, theirs) -> (mine,
        theirs)`, called with each block of columns in turn. What it gets and returns of
        `theirs` has the leading axis still, of size 1: a sum is then formed in place.
      rows: blocked pytree, [row blocks, ...].
      cols: blocked pytree, [column blocks, ...].
      mine: result so far of every block of rows.
      theirs: result so far of every block of columns; None when there is none.
      triangle: for one set against itself: visits the tiles (i, i), with `theirs` None,
        and (i, j > i). A block of rows starts from `triangle(mine, theirs)`, which adds
        what it gathered as a block of columns.
    """
    num_rows, num_cols = (jax.tree.leaves(x)[0].shape[0] for x in (rows, cols))

    def one_row(theirs, block):
        i, r, mine = block
        tile = make_tile(r)

        def one_tile(j, carry):
            mine, theirs = carry
            mine, new = tile(take(cols, j), mine, slab(theirs, j))
            return mine, put_slab(theirs, j, new)

        first = 0
        if triangle is not None:
            mine, _ = tile(take(cols, i), triangle(mine, take(theirs, i)), None)
            first = i + 1
        mine, theirs = jax.lax.fori_loop(first, num_cols, one_tile, (mine, theirs))
        return theirs, mine

    theirs, mine = jax.lax.scan(one_row, theirs, (jnp.arange(num_rows), rows, mine))
    return mine, theirs


def block_size(n: int, tile: int) -> int:
    """Rows per block: as few blocks of at most `tile` rows as needed, evened out."""
    blocks = -(-n // tile)
    return min(n, -(-n // (16 * blocks)) * 16)


def split(tree: Any, size: int) -> Any:
    """[n, ...] to [blocks, size, ...] in every leaf, filled up with zeros."""

    def one(x):
        pad = -x.shape[0] % size
        if pad:
            x = jnp.pad(x, [(0, pad)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(-1, size, *x.shape[1:])

    return jax.tree.map(one, tree)


def split_side(side: Side, size: int) -> Side:
    """`split`, where rows that fill up do not count."""
    n = side.x.shape[0]
    if n % size and side.where is None:
        where = vary(jnp.ones(n, bool), varying_axes(side.x))
        side = side._replace(where=where)
    return split(side, size)


def join(tree: Any, n: int) -> Any:
    """[blocks, size, ...] back to [n, ...] in every leaf."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:n], tree)


def transpose_blocks(x: Array) -> Array:
    """[blocks, d, size] to [blocks, size, d], one block at a time in one buffer."""
    blocks, d, size = x.shape

    def one(i, flat):
        return put(flat, i, take(flat, i).reshape(d, size).T.reshape(-1))

    flat = jax.lax.fori_loop(0, blocks, one, x.reshape(blocks, d * size))
    return flat.reshape(blocks, size, d)


def zeros(like: Any, *shape: int, fill: float = 0.0) -> Array:
    """A constant in the accumulation type of `like`, varying over the same devices."""
    dtype = jnp.promote_types(like.dtype, jnp.float32)
    return vary(jnp.full(shape, fill, dtype), varying_axes(like))


def varying_axes(x: Any) -> frozenset[str]:
    """Device axes over which `shard_map(check_vma=True)` knows the array to vary."""
    kind = jax.typeof(x)
    if hasattr(kind, "vma"):
        return frozenset(kind.vma)
    return frozenset(kind.manual_axis_type.varying)


def vary(tree: Any, axes: frozenset[str]) -> Any:
    """Every leaf marked as varying over the axes; no operation where nothing checks."""

    def one(x):
        missing = tuple(sorted(axes - varying_axes(x)))
        return jax.lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(one, tree)


def vary_alike(*trees: Any) -> Any:
    """All trees marked as varying over the device axes of any of them."""
    axes = frozenset().union(*(varying_axes(x) for x in jax.tree.leaves(trees)))
    return vary(trees, axes)


# Sums per row with a gradient: the softmax losses


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
    """Gradient in the inner products of a tile from its `raised` scores."""
    masks = pair_masks(r.side, c.side)
    if plan.bounded:
        slope = bounded_gradient(plan, kept, masks, r, c)
    else:
        seen = weighted(kept, r.side, c.side, masks, axis=1)
        slope = score_gradient(seen, masks, plan.sets, r, axis=1)
        if c.slope is not None:
            seen = weighted(kept, r.side, c.side, masks, axis=0)
            slope = slope + score_gradient(seen, masks, plan.sets, c, axis=0)
    return scaled_slope(slope, r.side, c.side)


def fold(sums: RowSums, slope: RowSums) -> RowSums:
    """The gradient in each logsumexp as one in the sum: times e^-lse, 0 if empty."""
    return slope._replace(lse=tuple(map(fold_one, sums.lse, slope.lse)))


def fold_one(lse: Array, slope: Array) -> Array:
    """`fold` of one logsumexp."""
    return jnp.where(lse == numerics.MASKED, 0, slope * jnp.exp(-lse))


def scaled_slope(slope: Array, rows: Side, cols: Side) -> Array:
    """Gradient in the scores to gradient in the inner products, as an operand."""
    if rows.scale is not None:
        slope = slope * rows.scale[:, None]
    return slope.astype(cols.x.dtype)


def scale_gradient(rows: Side, da: Array) -> Array | None:
    """Gradient in each row's scale, from the gradient in its embedding."""
    if rows.scale is None:
        return None
    return jnp.sum(rows.x.astype(da.dtype) * da, axis=-1) / rows.scale


def gradient_tile(plan: Plan, r: Known) -> Callable[..., Any]:
    """The tile of the backward sweep: recomputes scores, adds to both gradients.

    The columns' gradient is carried transposed, so that every product is a plain one.
    """
    x_transposed = jax.lax.optimization_barrier(r.side.x.T)

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
    return row_sums, join(finish(theirs), cols.x.shape[0]) if plan.two_way else None


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
        functools.partial(gradient_tile, plan),
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
    """Gradients in both sides from those in their embeddings."""
    dscale = scale_gradient(rows, da)
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
    return (finish(mine), finish(theirs) if plan.two_way else None), kept


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
    x_transposed = jax.lax.optimization_barrier(rows.x.T)
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


def tile_side(tile: int | None) -> int:
    """Columns of a tile: as given, or by the backend: 256 on a CPU, else 2,048."""
    if tile is None:
        return TILES.get(jax.default_backend(), LARGE_TILE)
    if tile < 1:
        raise ValueError(f"tile: expected at least 1, got {tile}")
    return tile


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
    m = None if cols is None else cols.x.shape[0]
    form = choose_form(mode, rows.x.shape[0], m)
    sums = {"tiled": tiled_sums, "kept": kept_sums, "dense": dense_sums}[form]
    return sums(plan, *vary_alike(rows, cols))


# Gradient formed in the forward pass: one-way InfoNCE and the sigmoid loss
#
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
    if reduce_fn not in (jnp.mean, jnp.sum):
        loss, valid = per_row(kernel, plan, rows, cols)
        return reduce_rows(loss, valid, weights, reduce_fn, axis_name)
    one = zeros(rows.x, rows.x.shape[0], fill=1.0)
    weights = one if weights is None else jnp.asarray(weights, one.dtype)
    total, valid = weighted_sum(kernel, plan, rows, cols, weights)
    total = collectives.psum(total, axis_name)
    if reduce_fn is jnp.sum:
        return total
    norm = collectives.psum(jnp.sum(jnp.where(valid, weights, 0)), axis_name)
    return total / jnp.where(norm > 0, norm, 1)


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
    if reduce_fn not in (jnp.mean, jnp.sum):
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
    return total / jnp.where(norm > 0, norm, 1)


def positive_scores(rows: Side, partners: Side) -> tuple[Array, Array]:
    """[n] score of row i with partner i, and whether that pair counts."""
    dtype = jnp.promote_types(rows.x.dtype, jnp.float32)
    score = jnp.sum(rows.x.astype(dtype) * partners.x.astype(dtype), axis=1)
    if rows.scale is not None:
        score = score * rows.scale
    valid = jnp.ones(score.shape, bool)
    for side in (rows, partners):
        valid = valid if side.where is None else valid & side.where
    if rows.block is not None:
        valid = valid & (rows.block == partners.block)
    return score, valid


def view_scores(rows: Side) -> tuple[Array, Array]:
    """`positive_scores` of first views, then second views, with one another."""
    half = rows.x.shape[0] // 2
    first = jax.tree.map(lambda x: x[:half], rows)
    second = jax.tree.map(lambda x: x[half:], rows)
    return tuple(jnp.tile(x, 2) for x in positive_scores(first, second))


def at_labels(cols: Side, labels: Array) -> Side:
    """The column of every row's positive; one that does not exist does not count."""
    m = cols.x.shape[0]
    found = jax.tree.map(lambda x: jnp.take(x, labels, axis=0, mode="clip"), cols)
    exists = (labels >= 0) & (labels < m)
    where = exists if found.where is None else found.where & exists
    return found._replace(where=where)


def one_positive(lse: Array, positive: Array, valid: Array) -> Array:
    """InfoNCE of each row, log(1 + negatives / positive); 0 where not valid.

    Args:
      lse: [n] logsumexp over its negatives.
      positive: [n] score of its positive.
      valid: [n] whether it has one that counts.
    """
    return jnp.where(valid, jax.nn.softplus(lse - positive), 0)


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
        factor = factor if side.scale is None else factor * side.scale
        x = jax.lax.optimization_barrier((side.x * factor[:, None]).astype(b.dtype).T)

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
    (_, theirs), found = jax.lax.scan(one_strip, carry, (r, split(weights, t)))
    loss, mine = join(found, n)
    valid = jnp.ones(n, bool) if rows.where is None else rows.where
    if not grads:
        return loss, valid, None
    db = join(transpose_blocks(theirs), m)
    da, db = side_gradients(rows, cols, mine[0], db)
    return loss, valid, (da._replace(positive=mine[1]), db)


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
    """Rows of a strip: those of two tiles, or what STRIP_SCORES leaves by m columns."""
    return block_size(n, max(min(2 * tile, STRIP_SCORES // m), 1))


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
    x_transposed = jax.lax.optimization_barrier(side.x.T)

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
            slope = scaled_slope(slope, side, c)
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
        dscale = scale_gradient(rows, da)
        grads = Side(da.astype(a.dtype), dscale, dbias), Side(db.astype(b.dtype))
    return loss, count > 0, grads


# The losses


def operands(**embeddings: Array) -> list[Array]:
    """The embeddings in one floating-point type."""
    for name, x in embeddings.items():
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(
                f"{name}: expected floating point, got {x.dtype}{list(x.shape)}"
            )
    dtype = jnp.result_type(*embeddings.values())
    return [x.astype(dtype) for x in embeddings.values()]


def per_row_scalar(value: Scale, x: Array) -> Array:
    """A scale or bias once per row: its gradient then needs no sum inside a rule."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    return jnp.full(x.shape[0], jnp.asarray(value, dtype))


def pair_of_ids(name: str, ids: Any, n: int, m: int) -> tuple[Any, Any]:
    """The two id arrays of a relation between rows and columns, checked."""
    if ids is None:
        return None, None
    if not (isinstance(ids, tuple) and len(ids) == 2):
        raise ValueError(f"{name}: expected a pair (ids of rows, ids of columns)")
    for x, size, side in ((ids[0], n, "rows"), (ids[1], m, "columns")):
        x = numerics.check_integer(x, f"{name} of {side}")
        if x.shape != (size,):
            raise ValueError(
                f"{name} of {side}: expected shape [{size}], got {list(x.shape)}"
            )
    return ids


def add_extra(sums: RowSums, rows: Side, extra: Any, plan: Plan, mode: Mode) -> RowSums:
    """The sums with further columns, given as an array or a `Side`."""
    if extra is None:
        return sums
    extra = extra if isinstance(extra, Side) else Side(extra)
    numerics.check_shapes(embeddings=(rows.x, "n d"), extra=(extra.x, "k d"))
    extra = extra._replace(x=extra.x.astype(rows.x.dtype))
    more, _ = pair_sums(rows, extra, plan._replace(two_way=False), mode)
    lse = tuple(jnp.logaddexp(x, y) for x, y in zip(sums.lse, more.lse, strict=True))
    if not plan.positives:
        return RowSums(lse)
    return RowSums(lse, sums.positive + more.positive, sums.count + more.count)


def tiled_logsumexp(
    a: Float[Array, "n d"],
    b: Float[Array, "m d"],
    *,
    scale: Scale = 1.0,
    where: Bool[Array, " n"] | None = None,
    where_candidates: Bool[Array, " m"] | None = None,
    exclude: tuple[Int[Array, " n"], Int[Array, " m"]] | None = None,
    block: tuple[Int[Array, " n"], Int[Array, " m"]] | None = None,
    log_weights: (
        tuple[Int[Array, " n"], Int[Array, " m"], Float[Array, "c g"]] | None
    ) = None,
    bounded: bool = True,
    tile: int | None = None,
    mode: Mode = "auto",
) -> Float[Array, " n"]:
    """logsumexp over candidates of scaled inner products, differentiable in a and b.

        y_i = log sum_j exp(scale a_i . b_j)        (nats)

    Any loss that is a function of such sums and of scores of single pairs is built
    from it in memory linear in n + m.

    Args:
      a: anchors.
      b: candidates.
      scale: factor of the inner products, one over the temperature; > 0.
      where: anchors that count.
      where_candidates: candidates that count.
      exclude: ids of anchors and of candidates; pairs with equal ids are left out.
      block: ids of anchors and of candidates; only pairs with equal ids count.
      log_weights: (group of each anchor, group of each candidate, table [c, g]): the
        log weight of a pair is the table's entry for the two groups. A constant.
      bounded: whether to look, when it runs, if scale |a_i| |b_j| <= 40 for all pairs,
        and then to take one exponential per score and no maximum. Equal results in
        less time; the program is twice as large, and under `vmap` both forms are run.
        Not with `log_weights`.
      tile: columns per tile, which has as many rows, or of two sets twice as many;
        None: what suits the backend (`tile_side`).
      mode: "tiled", "dense" (allows forward-mode and second derivatives), or "auto":
        tiles beyond 2^20 scores; up to there the matrix is kept for the gradient.

    Returns:
      one value per anchor; `numerics.MASKED` where no candidate counts.

    Raises:
      TypeError: embeddings that are not floating point.
      ValueError: shapes that do not fit together, scale not above 0, unknown mode.

    Examples:
      >>> import jax.numpy as jnp
      >>> from contrastive_jax import parallel
      >>> parallel.tiled_logsumexp(jnp.eye(2), jnp.eye(2), scale=2.0).round(3)
      Array([2.127, 2.127], dtype=float32)
    """
    rows, cols = two_sides(a, b, scale, where, where_candidates, exclude, block)
    rows, cols = weigh(rows, cols, log_weights)
    bounded = bounded and log_weights is None
    plan = Plan(("negatives",), tile_side(tile), bounded=bounded)
    return pair_sums(rows, cols, plan, mode)[0].lse[0]


def two_sides(
    a: Array,
    b: Array,
    scale: Scale,
    where: Any,
    where_candidates: Any,
    exclude: Any,
    block: Any,
) -> tuple[Side, Side]:
    """Checked rows and columns with their scale, without labels."""
    sizes = numerics.check_shapes(
        a=(a, "n d"),
        b=(b, "m d"),
        where=(where, "n"),
        where_candidates=(where_candidates, "m"),
    )
    n, m = sizes["n"], sizes["m"]
    exclude = pair_of_ids("exclude", exclude, n, m)
    block = pair_of_ids("block", block, n, m)
    numerics.check_positive(scale=scale)
    where, where_candidates = (
        mask(where, "where"),
        mask(where_candidates, "where_candidates"),
    )
    a, b = operands(a=a, b=b)
    rows = Side(a, where=where, exclude=exclude[0], block=block[0])
    cols = Side(b, where=where_candidates, exclude=exclude[1], block=block[1])
    # Both sides have the scale, since each may be the rows.
    return tuple(s._replace(scale=per_row_scalar(scale, s.x)) for s in (rows, cols))


def weigh(rows: Side, cols: Side | None, log_weights: Any) -> tuple[Side, Any]:
    """Both sides (or the one) with log weights by groups, given as ids and a table."""
    if log_weights is None:
        return rows, cols
    count = 2 if cols is None else 3
    if not (isinstance(log_weights, tuple) and len(log_weights) == count):
        what = (
            "ids of rows, table" if cols is None else "ids of rows and columns, table"
        )
        raise ValueError(f"log_weights: expected ({what}), got {log_weights}")
    *ids, table = log_weights
    own, other = ids if len(ids) == 2 else (ids[0], ids[0])
    n, m = rows.x.shape[0], (rows if cols is None else cols).x.shape[0]
    own, other = pair_of_ids("log_weights", (own, other), n, m)
    numerics.check_shapes(table=(table, "c c" if cols is None else "c g"))
    table = numerics.at_least_f32(table, "log_weights table")
    table = jax.lax.stop_gradient(table.astype(per_row_scalar(0.0, rows.x).dtype))
    table = jnp.maximum(table, numerics.MASKED)
    rows = rows._replace(log_weight=jnp.take(table, own, axis=0))
    if cols is None:
        return rows._replace(group=other), None
    return rows, cols._replace(group=other)


def mask(where: Any, name: str) -> Any:
    """The mask, checked; None stays None."""
    return None if where is None else numerics.check_mask(where, name)


def tiled_info_nce(
    a: Float[Array, "n d"],
    b: Float[Array, "m d"],
    labels: Int[Array, " n"] | None = None,
    *,
    scale: Scale = 1.0,
    where: Bool[Array, " n"] | None = None,
    where_candidates: Bool[Array, " m"] | None = None,
    exclude: tuple[Int[Array, " n"], Int[Array, " m"]] | None = None,
    block: tuple[Int[Array, " n"], Int[Array, " m"]] | None = None,
    log_weights: (
        tuple[Int[Array, " n"], Int[Array, " m"], Float[Array, "c g"]] | None
    ) = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    bounded: bool = True,
    tile: int | None = None,
    mode: Mode = "auto",
) -> Float[Array, "..."]:
    """`losses.info_nce` of scaled inner products, without the score matrix.

        loss_i = log sum_j exp(scale a_i . b_j) - scale a_i . b_labels[i]     (nats)

    Queues and hard negatives are further rows of b. Values and gradients equal those of
    the plain loss. Operations: 6 n m d with the gradient, 8 beyond 131,072 candidates;
    scratch: a strip of rows against all candidates, of at most 32 MB.

    Args:
      a: anchors.
      b: candidates.
      labels: row of b that is each anchor's positive; `arange(n)` when None. With one
        that does not exist, where it is traced and cannot be looked at, the anchor
        drops out.
      scale: factor of the inner products, one over the temperature; > 0, may be learnt.
      where: anchors that count.
      where_candidates: candidates that count; an anchor whose positive is masked drops
        out.
      exclude: ids of anchors and of candidates; pairs with equal ids are no negatives.
      block: ids of anchors and of candidates; only pairs with equal ids count.
      log_weights: (group of each anchor, group of each candidate, table [c, g]): the
        log weight of a negative is the table's entry for the two groups. A constant.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that count; None gives [n].
      bounded: whether to look, when it runs, if scale |a_i| |b_j| <= 40 for all pairs,
        and then to take one exponential per score and no maximum. Equal results in
        less time; the program is twice as large, and under `vmap` both forms are run.
        Not with `log_weights`.
      tile: columns per tile, which has as many rows, or of two sets twice as many;
        None: what suits the backend (`tile_side`).
      mode: "tiled", "dense" (allows forward-mode and second derivatives), or "auto":
        tiles beyond 2^20 scores; up to there the matrix is kept for the gradient.

    Raises:
      TypeError: arrays of the wrong kind.
      ValueError: shapes that do not fit together, labels beyond the candidates, scale
        not above 0, unknown mode.

    References:
      van den Oord et al. 2018, arXiv:1807.03748, eq. 4.

    Examples:
      >>> import jax.numpy as jnp
      >>> from contrastive_jax import parallel
      >>> print(f"{parallel.tiled_info_nce(jnp.eye(2), jnp.eye(2), scale=2.0):.3f}")
      0.127
    """
    rows, cols = two_sides(a, b, scale, where, where_candidates, exclude, block)
    rows, cols = weigh(rows, cols, log_weights)
    (n, _), m = rows.x.shape, cols.x.shape[0]
    numerics.check_shapes(a=(a, "n d"), labels=(labels, "n"), weights=(weights, "n"))
    labels = pairs.positive_columns(labels, (n, m))
    rows, cols = rows._replace(label=labels), cols._replace(label=jnp.arange(m))
    positive, valid = positive_scores(rows, at_labels(cols, labels))
    # A strip's exponentials are operands of products: e^40 is too large for float16.
    bounded = bounded and log_weights is None and rows.x.dtype != jnp.float16
    plan = Plan(("negatives",), tile_side(tile), bounded=bounded)
    if choose_form(mode, n, m) != "tiled" or STRIP_SCORES < 64 * m:
        sums, _ = pair_sums(rows, cols, plan, mode)
        loss = one_positive(sums.lse[0], positive, valid)
        return reduce_rows(loss, valid, weights, reduce_fn)
    rows = rows._replace(positive=jnp.where(valid, positive, 0), where=valid)
    return fused(info_nce_kernel, plan, rows, cols, weights, reduce_fn)


def tiled_two_way_info_nce(
    a: Float[Array, "n d"],
    b: Float[Array, "n d"],
    *,
    scale: Scale = 1.0,
    where: Bool[Array, " n"] | None = None,
    exclude: Int[Array, " n"] | None = None,
    block: Int[Array, " n"] | None = None,
    extra_a: Float[Array, "k d"] | Side | None = None,
    extra_b: Float[Array, "l d"] | Side | None = None,
    log_weights: (
        tuple[Int[Array, " n"], Int[Array, " n"], Float[Array, "c g"]] | None
    ) = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    bounded: bool = True,
    tile: int | None = None,
    mode: Mode = "auto",
) -> Float[Array, "..."]:
    """`losses.two_way_info_nce` (CLIP) of scaled inner products, without the matrix.

        loss_i = (info_nce(a_i -> b) + info_nce(b_i -> a)) / 2          (nats)

    Row i of a belongs to row i of b. Operations: 8 n^2 d with the gradient; scratch:
    a few tiles.

    Args:
      a: one side of the pairs.
      b: the other side.
      scale: factor of the inner products, one over the temperature; > 0, may be learnt.
      where: pairs that count, as anchors and as candidates.
      exclude: one id per pair; a_i and b_j with equal ids are no negatives.
      block: one id per pair; only a_i and b_j with equal ids count.
      extra_a: more candidates for the anchors in b: an array, or a `Side` with masks.
      extra_b: more candidates for the anchors in a (queue, hard negatives).
      log_weights: (group of each a_i, group of each b_j, table [c, g]): the log weight
        of a negative pair, in both directions, is the table's entry for the two groups.
        A constant.
      weights: one non-negative weight per pair.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs that count; None gives [n].
      bounded: whether to look, when it runs, if scale |a_i| |b_j| <= 40 for all pairs,
        and then to take one exponential per score and no maximum. Equal results in
        less time; the program is twice as large, and under `vmap` both forms are run.
        Not with `log_weights`.
      tile: columns per tile, which has as many rows, or of two sets twice as many;
        None: what suits the backend (`tile_side`).
      mode: "tiled", "dense" (allows forward-mode and second derivatives), or "auto":
        tiles beyond 2^20 scores; up to there the matrix is kept for the gradient.

    Raises:
      TypeError: arrays of the wrong kind.
      ValueError: shapes that do not fit together, scale not above 0, unknown mode.

    References:
      Radford et al. 2021, arXiv:2103.00020, figure 3.

    Examples:
      >>> import jax.numpy as jnp
      >>> from contrastive_jax import parallel
      >>> x = jnp.eye(2)
      >>> print(f"{parallel.tiled_two_way_info_nce(x, x, scale=2.0):.3f}")
      0.127
    """
    numerics.check_shapes(a=(a, "n d"), b=(b, "n d"), weights=(weights, "n"))
    same = [None if ids is None else (ids, ids) for ids in (exclude, block)]
    rows, cols = two_sides(a, b, scale, where, where, *same)
    rows, cols = weigh(rows, cols, log_weights)
    ids = jnp.arange(a.shape[0])
    rows, cols = rows._replace(label=ids), cols._replace(label=ids)
    bounded = bounded and log_weights is None
    plan = Plan(("negatives",), tile_side(tile), two_way=True, bounded=bounded)
    row_sums, col_sums = pair_sums(rows, cols, plan, mode)
    loss, valid = two_directions(
        rows,
        cols,
        add_extra(row_sums, rows, extra_b, plan, mode),
        add_extra(col_sums, cols, extra_a, plan, mode),
    )
    return reduce_rows(loss, valid, weights, reduce_fn)


def two_directions(
    rows: Side, cols: Side, row_sums: RowSums, col_sums: RowSums
) -> tuple[Array, Array]:
    """The mean InfoNCE of both directions, and which pairs (i, i) count."""
    positive, valid = positive_scores(rows, cols)
    there, back = (
        one_positive(sums.lse[0], positive, valid) for sums in (row_sums, col_sums)
    )
    return (there + back) / 2, valid


def tiled_nt_xent(
    x: Float[Array, "n d"],
    *,
    scale: Scale = 1.0,
    where: Bool[Array, " n"] | None = None,
    exclude: Int[Array, " n"] | None = None,
    block: Int[Array, " n"] | None = None,
    extra: Float[Array, "k d"] | Side | None = None,
    log_weights: tuple[Int[Array, " n"], Float[Array, "c c"]] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    bounded: bool = True,
    tile: int | None = None,
    mode: Mode = "auto",
) -> Float[Array, "..."]:
    """`losses.nt_xent` (SimCLR) of scaled inner products, without the score matrix.

        loss_i = log sum_{j != i} exp(scale x_i . x_j) - scale x_i . x_other(i)  (nats)

    Operations: 4 (2n)^2 d with the gradient, as only the upper triangle is visited.

    Args:
      x: first views, then second views in the same order.
      scale: factor of the inner products, one over the temperature; > 0, may be learnt.
      where: rows that count, as anchors and as candidates.
      exclude: one id per row; rows with equal ids are no negatives of each other.
      block: one id per row; only rows with equal ids are pairs.
      extra: more negatives (a queue): an array, or a `Side` with masks.
      log_weights: (group of each row, table [c, c]): the log weight of candidate j as a
        negative of anchor i is table[group_i, group_j]. A constant.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that count; None gives [2n].
      bounded: whether to look, when it runs, if scale |x_i| |x_j| <= 40 for all pairs,
        and then to take one exponential per score and no maximum. Equal results in
        less time; the program is twice as large, and under `vmap` both forms are run.
        Not with `log_weights`.
      tile: columns per tile, which has as many rows, or of two sets twice as many;
        None: what suits the backend (`tile_side`).
      mode: "tiled", "dense" (allows forward-mode and second derivatives), or "auto":
        tiles beyond 512 rows; up to there the matrix is kept for the gradient.

    Raises:
      TypeError: arrays of the wrong kind.
      ValueError: an odd number of rows, shapes that do not fit together, scale not
        above 0, unknown mode.

    References:
      Chen et al. 2020, arXiv:2002.05709, eq. 1.

    Examples:
      >>> import jax.numpy as jnp
      >>> from contrastive_jax import parallel
      >>> views = jnp.concatenate([jnp.eye(2), jnp.eye(2)])
      >>> print(f"{parallel.tiled_nt_xent(views, scale=2.0):.3f}")
      0.240
    """
    rows = one_side(x, scale, where, exclude, block, weights)
    check_views(x)
    rows = rows._replace(label=jnp.tile(jnp.arange(x.shape[0] // 2), 2))
    rows, _ = weigh(rows, None, log_weights)
    bounded = bounded and log_weights is None
    plan = Plan(("negatives",), tile_side(tile), bounded=bounded)
    sums, _ = pair_sums(rows, None, plan, mode)
    sums = add_extra(sums, rows, extra, plan, mode)
    positive, valid = view_scores(rows)
    loss = one_positive(sums.lse[0], positive, valid)
    return reduce_rows(loss, valid, weights, reduce_fn)


def check_views(x: Array) -> None:
    """Two views have an even number of rows."""
    if x.shape[0] % 2:
        raise ValueError(
            f"x: expected two views (an even number of rows), got shape {list(x.shape)}"
        )


def one_side(
    x: Array, scale: Scale, where: Any, exclude: Any, block: Any, weights: Any
) -> Side:
    """A checked set against itself with its scale, without labels."""
    numerics.check_shapes(
        x=(x, "n d"),
        where=(where, "n"),
        exclude=(exclude, "n"),
        block=(block, "n"),
        weights=(weights, "n"),
    )
    numerics.check_positive(scale=scale)
    for name, ids in (("exclude", exclude), ("block", block)):
        if ids is not None:
            numerics.check_integer(ids, name)
    (x,) = operands(x=x)
    side = Side(x, scale=per_row_scalar(scale, x), me=jnp.arange(x.shape[0]))
    return side._replace(where=mask(where, "where"), exclude=exclude, block=block)


def tiled_supervised_contrastive(
    x: Float[Array, "n d"],
    labels: Int[Array, " n"],
    *,
    scale: Scale = 1.0,
    where: Bool[Array, " n"] | None = None,
    block: Int[Array, " n"] | None = None,
    extra: Side | None = None,
    weights: Float[Array, " n"] | None = None,
    form: Literal["out", "in"] = "out",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    bounded: bool = True,
    tile: int | None = None,
    mode: Mode = "auto",
) -> Float[Array, "..."]:
    """`losses.supervised_contrastive` of one set against itself, without the matrix.

        out: loss_i = mean_{p in P(i)} ( logsumexp_{a != i} s_ia - s_ip )
        in:  loss_i = logsumexp_{a != i} s_ia - logsumexp_{p in P(i)} s_ip + log |P(i)|
                                              s_ij = scale x_i . x_j      (nats)

    P(i) are the other rows with the label of i. Operations: 4 n^2 d with the gradient.

    Args:
      x: all views of all examples.
      labels: class of each row.
      scale: factor of the inner products, one over the temperature; > 0, may be learnt.
      where: rows that count, as anchors and as candidates.
      block: one id per row; only rows with equal ids are pairs.
      extra: more candidates (a queue): a `Side` with embeddings and labels.
      weights: one non-negative weight per anchor.
      form: "out" averages outside of the logarithm, "in" inside.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that have a positive; None gives
        [n].
      bounded: whether to look, when it runs, if scale |x_i| |x_j| <= 40 for all pairs,
        and then to take one exponential per score and no maximum. Equal results in
        less time; the program is twice as large, and under `vmap` both forms are run.
      tile: columns per tile, which has as many rows, or of two sets twice as many;
        None: what suits the backend (`tile_side`).
      mode: "tiled", "dense" (allows forward-mode and second derivatives), or "auto":
        tiles beyond 512 rows; up to there the matrix is kept for the gradient.

    Raises:
      TypeError: arrays of the wrong kind.
      ValueError: shapes that do not fit together, an unknown form, scale not above 0,
        unknown mode.

    References:
      Khosla et al. 2020, arXiv:2004.11362, eq. 2 (out) and eq. 3 (in).

    Examples:
      >>> import jax.numpy as jnp
      >>> from contrastive_jax import parallel
      >>> x, labels = jnp.eye(4), jnp.array([0, 0, 1, 1])
      >>> print(f"{parallel.tiled_supervised_contrastive(x, labels):.3f}")
      1.099
    """
    rows = one_side(x, scale, where, None, block, weights)
    numerics.check_shapes(x=(x, "n d"), labels=(labels, "n"))
    rows = rows._replace(label=numerics.check_integer(labels, "labels"))
    plan = Plan(supervised_sets(form), tile_side(tile), bounded=bounded, positives=True)
    sums, _ = pair_sums(rows, None, plan, mode)
    sums = add_extra(sums, rows, extra, plan, mode)
    loss, valid = many_positives(sums)
    return reduce_rows(loss, valid, weights, reduce_fn)


def supervised_sets(form: str) -> tuple[str, ...]:
    """The sums that each form of the supervised loss needs."""
    if form not in ("out", "in"):
        raise ValueError(f'form: expected "out" or "in", got {form!r}')
    return ("all",) if form == "out" else ("negatives", "positives")


def many_positives(sums: RowSums) -> tuple[Array, Array]:
    """The supervised loss of each row, "out" from one logsumexp, "in" from two."""
    count = jnp.maximum(sums.count, 1)
    if len(sums.lse) == 1:
        return sums.lse[0] - sums.positive / count, sums.count > 0
    return jax.nn.softplus(sums.lse[0] - sums.lse[1]) + jnp.log(count), sums.count > 0


def tiled_sigmoid(
    a: Float[Array, "n d"],
    b: Float[Array, "m d"],
    labels: tuple[Int[Array, " n"], Int[Array, " m"]] | None = None,
    *,
    scale: Scale = 1.0,
    bias: Scale = 0.0,
    where: Bool[Array, " n"] | None = None,
    where_candidates: Bool[Array, " m"] | None = None,
    exclude: tuple[Int[Array, " n"], Int[Array, " m"]] | None = None,
    block: tuple[Int[Array, " n"], Int[Array, " m"]] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    tile: int | None = None,
    mode: Mode = "auto",
) -> Float[Array, "..."]:
    """`losses.pairwise_sigmoid` (SigLIP) of inner products, without the score matrix.

        loss_i = sum_j softplus(-y_ij (scale a_i . b_j + bias)),  y = 1 or -1   (nats)

    Operations: 6 n m d with the gradient; scratch: a few tiles.

    Args:
      a: anchors.
      b: candidates.
      labels: ids of anchors and of candidates; pairs with equal ids match (y = 1). Row
        i matches row i when None.
      scale: factor of the inner products; > 0, may be learnt.
      bias: added to every score; may be learnt.
      where: anchors that count.
      where_candidates: candidates that count.
      exclude: ids of anchors and of candidates; pairs with equal ids that do not match
        are left out.
      block: ids of anchors and of candidates; only pairs with equal ids count.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` over anchors (the published form divides by the number of
        anchors, not of pairs) or `jnp.sum`; None gives [n].
      tile: columns per tile, which has as many rows, or of two sets twice as many;
        None: what suits the backend (`tile_side`).
      mode: "tiled", "dense" (allows forward-mode and second derivatives), or "auto",
        which is tiled at every size.

    Raises:
      TypeError: arrays of the wrong kind.
      ValueError: shapes that do not fit together, scale not above 0, unknown mode.

    References:
      Zhai et al. 2023, arXiv:2303.15343, section 3.2.

    Examples:
      >>> import jax.numpy as jnp
      >>> from contrastive_jax import parallel
      >>> x = jnp.eye(2)
      >>> print(f"{parallel.tiled_sigmoid(x, x, scale=10.0, bias=-5.0):.4f}")
      0.0134
    """
    rows, cols = two_sides(a, b, scale, where, where_candidates, exclude, block)
    n, m = a.shape[0], b.shape[0]
    numerics.check_shapes(a=(a, "n d"), weights=(weights, "n"))
    labels = (jnp.arange(n), jnp.arange(m)) if labels is None else labels
    labels = pair_of_ids("labels", labels, n, m)
    rows, cols = rows._replace(label=labels[0]), cols._replace(label=labels[1])
    rows = rows._replace(bias=per_row_scalar(bias, rows.x))
    plan = Plan((), tile_side(tile))
    if choose_form(mode, n, m) == "dense":
        masks = pair_masks(rows, cols)
        logits = scores(rows, cols)
        loss = jax.nn.softplus(jnp.where(masks["positives"], -logits, logits))
        loss = jnp.sum(jnp.where(masks["all"], loss, 0), axis=1)
        valid = jnp.any(masks["all"], axis=1)
        return reduce_rows(loss, valid, weights, reduce_fn)
    return fused(sigmoid_kernel, plan, rows, cols, weights, reduce_fn)
