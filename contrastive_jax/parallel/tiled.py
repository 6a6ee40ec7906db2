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

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from contrastive_jax import numerics, pairs
from contrastive_jax.parallel.strips import (
    STRIP_SCORES,
    fused,
    info_nce_kernel,
    reduce_rows,
    sigmoid_kernel,
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
