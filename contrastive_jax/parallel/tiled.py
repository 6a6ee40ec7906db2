"""The large-batch losses in tiles: the [n, m] score matrix is never formed.

One machine computes them all (`ring` runs it over devices without gathering):

- A `Side` is a set of embeddings with one id per row for each pair relation (same
  label, same example, ...), so that a tile of any pair mask is built where it is used.
- `sweep` (`tiles`) visits all tiles of rows x columns, or the upper triangle of one
  set, and carries results per row and per column.
- Softmax losses are ordinary functions of a few sums per row (`sums`: logsumexp of the
  negatives; where there may be many positives, their sum and number) and of the score
  of a row's one positive (`one_positive`). The sums have their own gradient rule, which
  recomputes the tiles: two sweeps, 8 n m d operations for two directions, 4 n^2 d for
  one set against itself.
- One-way InfoNCE and the sigmoid loss form their gradient in the forward pass instead
  (`strips`): one sweep, 6 n m d operations.

A row's positive is no part of its logsumexp, so that a saturated batch keeps the digits
of its gradient.

The losses are those of `parallel.losses`, which says what their arrays are and what
raises. Besides, all of them have

    axis_name  the candidates of all devices are gathered, and the result is the mean
               (or sum) over the anchors of all devices
    bounded    at run time, skip the running maximum if every score is at most 40 in
               size (by the norms). Same result, less time; compiles both branches, and
               under `vmap` runs both. Not with log weights, not in the sigmoid loss
    tile       columns per tile. Tiles are square for one set and twice as high as wide
               for two. None: what suits the backend (`tile_side`)
    mode       "tiled"; "dense": the whole matrix, differentiated as usual, which allows
               forward-mode and second derivatives; "auto": tiles beyond 2^20 scores (of
               one set, 512 rows), and up to there the matrix is kept for the gradient

and raise ValueError for an unknown mode.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import numerics, pairs
from contrastive_jax.parallel import collectives
from contrastive_jax.parallel.strips import (
    fused,
    info_nce_kernel,
    reduce_rows,
    sigmoid_kernel,
    strip_scores,
)
from contrastive_jax.parallel.sums import (
    Mode,
    Plan,
    RowSums,
    choose_form,
    pair_sums,
)
from contrastive_jax.parallel.tiles import (
    Scale,
    Side,
    pair_masks,
    scores,
    tile_side,
)


def positive_scores(rows: Side, partners: Side) -> tuple[Array, Array]:
    """[n] score of row i with partner i, and whether that pair counts."""
    dtype = jnp.promote_types(rows.x.dtype, jnp.float32)
    score = jnp.sum(rows.x.astype(dtype) * partners.x.astype(dtype), axis=1)
    if rows.scale is not None:
        score = score * rows.scale
    valid = jnp.ones(score.shape, bool)
    for side in (rows, partners):
        valid = valid if side.where is None else valid & side.where
    if rows.segments is not None:
        valid = valid & (rows.segments == partners.segments)
    return score, valid


def view_scores(rows: Side) -> tuple[Array, Array]:
    """`positive_scores` of first views, then second views, with one another."""
    half = rows.x.shape[0] // 2
    first = jax.tree.map(lambda x: x[:half], rows)
    second = jax.tree.map(lambda x: x[half:], rows)
    score, valid = positive_scores(first, second)
    return jnp.tile(score, 2), jnp.tile(valid, 2)


def at_labels(cols: Side, labels: Array) -> Side:
    """The column of every row's positive; one that does not exist does not count."""
    m = cols.x.shape[0]
    columns = jax.tree.map(lambda x: jnp.take(x, labels, axis=0, mode="clip"), cols)
    exists = (labels >= 0) & (labels < m)
    where = exists if columns.where is None else columns.where & exists
    return columns._replace(where=where)


def one_positive(lse: Array, positive: Array, valid: Array) -> Array:
    """InfoNCE of each row, log(1 + negatives / positive); 0 where not valid.

    Args:
      lse: [n] logsumexp over its negatives.
      positive: [n] score of its positive.
      valid: [n] whether it has one that counts.
    """
    return jnp.where(valid, jax.nn.softplus(lse - positive), 0)


def operands(**embeddings: Array) -> list[Array]:
    """The embeddings in one floating-point type.

    float16 comes up to float32, as slopes of large batches are below its range; on a
    CPU, which has no products of half precision, bfloat16 as well.
    """
    for name, x in embeddings.items():
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(
                f"{name}: expected floating point, got {x.dtype}{list(x.shape)}"
            )
    dtype = jnp.result_type(*embeddings.values())
    if dtype == jnp.float16 or jax.default_backend() == "cpu":
        dtype = jnp.promote_types(dtype, jnp.float32)
    return [x.astype(dtype) for x in embeddings.values()]


def per_row_scalar(value: Scale, x: Array) -> Array:
    """A scale or bias once per row: its gradient then needs no sum inside a rule."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    return jnp.full(x.shape[0], jnp.asarray(value, dtype))


def check_number(**values: Any) -> None:
    """A scale or bias is one number, which may be traced."""
    for name, value in values.items():
        if jnp.ndim(value) > 0:
            raise ValueError(
                f"{name}: expected one number, got shape {list(jnp.shape(value))}"
            )


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


def pair_of_classes(labels: Any, n: int, m: int) -> tuple[Array, Array]:
    """`pair_of_ids` of labels, of which negative ones match none."""
    rows, cols = pair_of_ids("labels", labels, n, m)
    return unlike_negatives(rows, -1), unlike_negatives(cols, -2)


def unlike_negatives(labels: Any, instead: Any) -> Array:
    """Labels, with a negative one (no label) replaced by what no other row has."""
    labels = numerics.check_integer(labels, "labels")
    if jnp.issubdtype(labels.dtype, jnp.unsignedinteger):
        return labels
    labels = labels.astype(jnp.promote_types(labels.dtype, jnp.int32))
    return jnp.where(labels < 0, instead, labels)


def add_extra(sums: RowSums, rows: Side, extra: Any, plan: Plan, mode: Mode) -> RowSums:
    """The sums with further columns, given as an array or a `Side`."""
    if extra is None:
        return sums
    extra = extra if isinstance(extra, Side) else Side(extra)
    numerics.check_shapes(embeddings=(rows.x, "n d"), extra=(extra.x, "k d"))
    extra = extra._replace(x=extra.x.astype(rows.x.dtype))
    if extra.label is not None:
        least = -(2**31)  # beyond what rows without a label have
        extra = extra._replace(label=unlike_negatives(extra.label, least))
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
    exclude: tuple[Integer[Array, " n"], Integer[Array, " m"]] | None = None,
    segments: tuple[Integer[Array, " n"], Integer[Array, " m"]] | None = None,
    log_weights: (
        tuple[Integer[Array, " n"], Integer[Array, " m"], Float[Array, "c g"]] | None
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
      segments: ids of anchors and of candidates; only pairs with equal ids count.
      log_weights: (group of each anchor, group of each candidate, table [c, g]): the
        log weight of a pair is the table's entry for the two groups. A constant.
      bounded: at run time, skip the running maximum if every score is at most 40 in
        size. Same result, less time; compiles both branches, and under `vmap` runs
        both. Not with `log_weights`.
      tile: columns per tile, of twice as many rows; None for what suits the backend.
      mode: "tiled", "dense" (the whole matrix, differentiated as usual: allows
        forward-mode and second derivatives), or "auto": tiles beyond 2^20 scores; up
        to there the matrix is kept for the gradient.

    Returns:
      one value per anchor; `numerics.MASKED` where no candidate counts.

    Examples:
      >>> import jax.numpy as jnp
      >>> from contrastive_jax import parallel
      >>> parallel.tiled_logsumexp(jnp.eye(2), jnp.eye(2), scale=2.0).round(3)
      Array([2.127, 2.127], dtype=float32)
    """
    rows, cols = two_sides(a, b, scale, where, where_candidates, exclude, segments)
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
    segments: Any,
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
    segments = pair_of_ids("segments", segments, n, m)
    check_number(scale=scale)
    numerics.check_positive(scale=scale)
    where, where_candidates = (
        mask(where, "where"),
        mask(where_candidates, "where_candidates"),
    )
    a, b = operands(a=a, b=b)
    rows = Side(a, where=where, exclude=exclude[0], segments=segments[0])
    cols = Side(b, where=where_candidates, exclude=exclude[1], segments=segments[1])
    # Both sides have the scale, since each may be the rows.
    rows = rows._replace(scale=per_row_scalar(scale, a))
    return rows, cols._replace(scale=per_row_scalar(scale, b))


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
    pair_of_ids("log_weights", (own, other), n, m)
    numerics.check_shapes(table=(table, "c c" if cols is None else "c g"))
    own, other = (
        numerics.check_columns(ids, size, f"log_weights of {side}")
        for ids, size, side in zip(
            (own, other), jnp.shape(table), ("rows", "columns"), strict=True
        )
    )
    table = numerics.at_least_f32(table, "log_weights table")
    table = jax.lax.stop_gradient(table.astype(per_row_scalar(0.0, rows.x).dtype))
    table = jnp.maximum(table, numerics.MASKED)
    log_weight = jnp.take(table, own, axis=0, mode="fill", fill_value=0)
    rows = rows._replace(log_weight=log_weight)
    if cols is None:
        return rows._replace(group=other), None
    return rows, cols._replace(group=other)


def mask(where: Any, name: str) -> Any:
    """The mask, checked; None stays None."""
    return None if where is None else numerics.check_mask(where, name)


def info_nce(
    a: Float[Array, "n d"],
    b: Float[Array, "m d"],
    labels: Integer[Array, " n"] | None = None,
    *,
    scale: Scale = 1.0,
    where: Bool[Array, " n"] | None = None,
    where_candidates: Bool[Array, " m"] | None = None,
    exclude: tuple[Integer[Array, " n"], Integer[Array, " m"]] | None = None,
    segments: tuple[Integer[Array, " n"], Integer[Array, " m"]] | None = None,
    extra: Float[Array, "k d"] | Side | None = None,
    log_weights: (
        tuple[Integer[Array, " n"], Integer[Array, " m"], Float[Array, "c g"]] | None
    ) = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    axis_name: collectives.AxisName = None,
    bounded: bool = True,
    tile: int | None = None,
    mode: Mode = "auto",
) -> Float[Array, "..."]:
    """InfoNCE, one way.

    Operations: 6 n m d with the gradient; 8 beyond 131,072 candidates (a GPU or TPU:
    262,144), and with `extra`. Scratch: a strip of rows against all candidates, of at
    most 32 MB (1 GB).
    """
    rows, cols = two_sides(a, b, scale, where, where_candidates, exclude, segments)
    rows, cols = weigh(rows, cols, log_weights)
    (n, _), m = rows.x.shape, cols.x.shape[0]
    numerics.check_shapes(a=(a, "n d"), labels=(labels, "n"), weights=(weights, "n"))
    labels = pairs.positive_columns(labels, (n, m))
    rows = rows._replace(label=among_all(labels, m, axis_name))
    cols = cols._replace(label=collectives.global_rows(m, axis_name))
    positive, valid = positive_scores(rows, at_labels(cols, labels))
    cols = gathered(cols, axis_name)
    m = cols.x.shape[0]
    bounded = bounded and log_weights is None
    plan = Plan(("negatives",), tile_side(tile), bounded=bounded)
    few = choose_form(mode, n, m) != "tiled"
    if few or extra is not None or strip_scores() < plan.tile // 4 * m:
        sums, _ = pair_sums(rows, cols, plan, mode)
        sums = add_extra(sums, rows, extra, plan, mode)
        loss = one_positive(sums.lse[0], positive, valid)
        return reduce_rows(loss, valid, weights, reduce_fn, axis_name)
    rows = rows._replace(positive=jnp.where(valid, positive, 0), where=valid)
    return fused(info_nce_kernel, plan, rows, cols, weights, reduce_fn, axis_name)


def among_all(labels: Array, m: int, axis_name: collectives.AxisName) -> Array:
    """Row numbers among this device's m columns to those among all devices'."""
    if axis_name is None:
        return labels
    return labels + m * jax.lax.axis_index(axis_name)


def gathered(side: Side, axis_name: collectives.AxisName) -> Side:
    """The rows of all devices as columns, without what only anchors need."""
    if axis_name is None:
        return side
    columns = side._replace(scale=None, bias=None, log_weight=None, positive=None)
    return collectives.all_gather(columns, axis_name)


def two_way_info_nce(
    a: Float[Array, "n d"],
    b: Float[Array, "n d"],
    *,
    scale: Scale = 1.0,
    where: Bool[Array, " n"] | None = None,
    exclude: Integer[Array, " n"] | None = None,
    segments: Integer[Array, " n"] | None = None,
    extra_a: Float[Array, "k d"] | Side | None = None,
    extra_b: Float[Array, "l d"] | Side | None = None,
    log_weights: (
        tuple[Integer[Array, " n"], Integer[Array, " n"], Float[Array, "c g"]] | None
    ) = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    axis_name: collectives.AxisName = None,
    bounded: bool = True,
    tile: int | None = None,
    mode: Mode = "auto",
) -> Float[Array, "..."]:
    """InfoNCE in both directions.

    Operations: 8 n^2 d with the gradient; scratch: a few tiles. On a device axis, two
    one-way losses: 12 n m d for m rows of all devices.
    """
    numerics.check_shapes(a=(a, "n d"), b=(b, "n d"), weights=(weights, "n"))
    same = [None if ids is None else (ids, ids) for ids in (exclude, segments)]
    rows, cols = two_sides(a, b, scale, where, where, *same)
    rows, cols = weigh(rows, cols, log_weights)
    if axis_name is not None:
        one_way = functools.partial(
            info_nce,
            scale=scale,
            where=where,
            where_candidates=where,
            exclude=same[0],
            segments=same[1],
            weights=weights,
            reduce_fn=reduce_fn,
            axis_name=axis_name,
            bounded=bounded,
            tile=tile,
            mode=mode,
        )
        there = one_way(a, b, extra=extra_b, log_weights=log_weights)
        if log_weights is not None:
            group_a, group_b, table = log_weights
            log_weights = group_b, group_a, table.T
        return (there + one_way(b, a, extra=extra_a, log_weights=log_weights)) / 2
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


def nt_xent(
    z: Float[Array, "n d"],
    *,
    scale: Scale = 1.0,
    where: Bool[Array, " n"] | None = None,
    exclude: Integer[Array, " n"] | None = None,
    segments: Integer[Array, " n"] | None = None,
    extra: Float[Array, "k d"] | Side | None = None,
    log_weights: tuple[Integer[Array, " n"], Float[Array, "c c"]] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    axis_name: collectives.AxisName = None,
    bounded: bool = True,
    tile: int | None = None,
    mode: Mode = "auto",
) -> Float[Array, "..."]:
    """InfoNCE between two views of each example, in one set.

    Operations: 4 n^2 d with the gradient, as only the upper triangle is visited; on a
    device axis 8 n m d for m rows of all devices.
    """
    rows = one_side(z, scale, where, exclude, segments, weights, axis_name, "z")
    check_views(z)
    views = collectives.global_rows(z.shape[0] // 2, axis_name)
    rows = rows._replace(label=jnp.tile(views, 2))
    rows, _ = weigh(rows, None, log_weights)
    cols = None if axis_name is None else gathered(rows, axis_name)
    bounded = bounded and log_weights is None
    plan = Plan(("negatives",), tile_side(tile), bounded=bounded)
    sums, _ = pair_sums(rows, cols, plan, mode)
    sums = add_extra(sums, rows, extra, plan, mode)
    positive, valid = view_scores(rows)
    loss = one_positive(sums.lse[0], positive, valid)
    return reduce_rows(loss, valid, weights, reduce_fn, axis_name)


def check_views(z: Array) -> None:
    """Two views have an even number of rows."""
    if z.shape[0] % 2:
        raise ValueError(
            f"z: expected two views (an even number of rows), got shape {list(z.shape)}"
        )


def one_side(
    x: Array,
    scale: Scale,
    where: Any,
    exclude: Any,
    segments: Any,
    weights: Any,
    axis_name: collectives.AxisName,
    name: str = "x",
) -> Side:
    """A checked set against itself with its scale, without labels."""
    numerics.check_shapes(
        **{name: (x, "n d")},
        where=(where, "n"),
        exclude=(exclude, "n"),
        segments=(segments, "n"),
        weights=(weights, "n"),
    )
    check_number(scale=scale)
    numerics.check_positive(scale=scale)
    for relation, ids in (("exclude", exclude), ("segments", segments)):
        if ids is not None:
            numerics.check_integer(ids, relation)
    (x,) = operands(**{name: x})
    side = Side(x, scale=per_row_scalar(scale, x))
    side = side._replace(me=collectives.global_rows(x.shape[0], axis_name))
    return side._replace(where=mask(where, "where"), exclude=exclude, segments=segments)


def supervised_contrastive(
    x: Float[Array, "n d"],
    labels: Integer[Array, " n"],
    *,
    scale: Scale = 1.0,
    where: Bool[Array, " n"] | None = None,
    segments: Integer[Array, " n"] | None = None,
    extra: Side | None = None,
    weights: Float[Array, " n"] | None = None,
    form: Literal["out", "in"] = "out",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    axis_name: collectives.AxisName = None,
    bounded: bool = True,
    tile: int | None = None,
    mode: Mode = "auto",
) -> Float[Array, "..."]:
    """The supervised contrastive loss of one set against itself.

    Operations: 4 n^2 d with the gradient; on a device axis 8 n m d for m rows of all
    devices.
    """
    rows = one_side(x, scale, where, None, segments, weights, axis_name)
    numerics.check_shapes(x=(x, "n d"), labels=(labels, "n"))
    rows = rows._replace(label=unlike_negatives(labels, -1 - rows.me))
    cols = None if axis_name is None else gathered(rows, axis_name)
    plan = Plan(supervised_sets(form), tile_side(tile), bounded=bounded, positives=True)
    sums, _ = pair_sums(rows, cols, plan, mode)
    sums = add_extra(sums, rows, extra, plan, mode)
    loss, valid = many_positives(sums)
    return reduce_rows(loss, valid, weights, reduce_fn, axis_name)


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


def pairwise_sigmoid(
    a: Float[Array, "n d"],
    b: Float[Array, "m d"],
    labels: tuple[Integer[Array, " n"], Integer[Array, " m"]] | None = None,
    *,
    scale: Scale = 1.0,
    bias: Scale = 0.0,
    where: Bool[Array, " n"] | None = None,
    where_candidates: Bool[Array, " m"] | None = None,
    exclude: tuple[Integer[Array, " n"], Integer[Array, " m"]] | None = None,
    segments: tuple[Integer[Array, " n"], Integer[Array, " m"]] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    axis_name: collectives.AxisName = None,
    tile: int | None = None,
    mode: Mode = "auto",
) -> Float[Array, "..."]:
    """The sigmoid loss; "auto" is tiled at every size.

    Operations: 6 n m d with the gradient; scratch: a few tiles.
    """
    rows, cols = two_sides(a, b, scale, where, where_candidates, exclude, segments)
    n, m = a.shape[0], b.shape[0]
    numerics.check_shapes(a=(a, "n d"), weights=(weights, "n"))
    if labels is None:
        own = among_all(jnp.arange(n), m, axis_name)
        labels = own, collectives.global_rows(m, axis_name)
    labels = pair_of_classes(labels, n, m)
    check_number(bias=bias)
    rows = rows._replace(label=labels[0], bias=per_row_scalar(bias, rows.x))
    cols = gathered(cols._replace(label=labels[1]), axis_name)
    plan = Plan((), tile_side(tile))
    if choose_form(mode, n, cols.x.shape[0]) == "dense":
        masks = pair_masks(rows, cols)
        logits = scores(rows, cols)
        loss = jax.nn.softplus(jnp.where(masks["positives"], -logits, logits))
        loss = jnp.sum(jnp.where(masks["all"], loss, 0), axis=1)
        valid = jnp.any(masks["all"], axis=1)
        return reduce_rows(loss, valid, weights, reduce_fn, axis_name)
    return fused(sigmoid_kernel, plan, rows, cols, weights, reduce_fn, axis_name)
