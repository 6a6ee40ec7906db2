"""Tiles of a score matrix, and loops over them.

A tile is a block of scores of some rows and columns. A `Side` holds the embeddings of
rows or of columns and their ids; `scores` and `pair_masks` form one tile from two of
them, and `sweep` visits all tiles of rows by columns. `split`, `join`, `slab` and `put`
cut arrays into blocks and update them; `vary` marks arrays for `shard_map`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Scale = float | Float[Array, ""]
# Columns of a tile by backend: 256 or 512 KB of scores stay in a core's L2 on a CPU. A
# GPU wants larger products than its L2 has room for: of the rate of a product in
# bfloat16 an H200 reaches 0.30 at 1,024 columns, 0.52 at 2,048, 0.60 at 4,096 and 0.63
# at 8,192, where the scratch doubles (`launch/device_check`). TPU: not measured.
TILES = {"cpu": 256}
LARGE_TILE = 4096


class Side(NamedTuple):
    """Embeddings of one side and the ids that decide which pairs count.

    A relation holds between a row and a column with equal ids; None: it never does
    (`segments`: it always does).
    """

    x: Any  # [n, d]
    scale: Any = None  # [n] factor of a row's scores
    bias: Any = None  # [n] added to a row's scores
    label: Any = None  # equal: a positive pair
    me: Any = None  # equal: one and the same example, which is no pair
    where: Any = None  # [n] booleans: False is as if absent
    exclude: Any = None  # equal: no negative (a positive stays one)
    segments: Any = None  # different: no pair
    log_weight: Any = None  # [n, k] log weight of each row's negatives by their group
    group: Any = None  # [n] which of the k groups a row is in, as a negative
    positive: Any = None  # [n] score of a row's one positive, where a kernel wants it


def product(a: Array, b: Array, contract: tuple[int, int] = (1, 1)) -> Array:
    """`a @ b.T` (or other axes), operands as they are, sums in at least float32."""
    dtype = jnp.promote_types(a.dtype, jnp.float32)
    axes = (((contract[0],), (contract[1],)), ((), ()))
    return jax.lax.dot_general(
        a, b, axes, precision=jax.lax.Precision.HIGHEST, preferred_element_type=dtype
    )


def scaled(side: Side) -> Array:
    """Embeddings times their scale, as an operand."""
    if side.scale is None:
        return side.x
    return (side.x * side.scale[:, None]).astype(side.x.dtype)


def scores(rows: Side, cols: Side) -> Array:
    """The scores of a tile: inner products times scale plus bias of the row."""
    logits = product(rows.x, cols.x)
    if rows.scale is not None:
        logits = logits * rows.scale[:, None]
    return logits if rows.bias is None else logits + rows.bias[:, None]


def pair_masks(rows: Side, cols: Side) -> dict[str, Any]:
    """The pairs of a tile that are "positives", "negatives", and "all" (either)."""

    def same(field):
        r, c = getattr(rows, field), getattr(cols, field)
        return None if r is None or c is None else r[:, None] == c[None, :]

    conditions = [same("segments")]
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
    table = anchors.log_weight
    extra = jnp.take(table, others.group, axis=1, mode="fill", fill_value=0)
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


def tile_side(tile: int | None) -> int:
    """Columns of a tile: as given, or by the backend: 256 on a CPU, else 2,048."""
    if tile is None:
        return TILES.get(jax.default_backend(), LARGE_TILE)
    if tile < 1:
        raise ValueError(f"tile: expected at least 1, got {tile}")
    return tile
