"""The tiled losses over many devices that each hold only their own rows.

The columns (and, on the way back, their gradients) travel around a ring of devices by
`ppermute`; each device compares its rows with the columns that are passing, tile by
tile. Nothing is gathered.

- The next columns are requested before the tiles of the present ones are computed, so
  that transfer and arithmetic overlap.
- One set against itself goes around half of the ring only: each pair of devices meets
  once, and what the visited rows gained is sent home.
- Two levels (`group_size`): groups of devices with fast links between them. Columns
  circle inside the group between two hops to the next group, so that a slow link
  carries each row once per group and not once per device.

Every loss here returns the value of the whole batch, on every device (rows of its own
with `reduce_fn=None`). What a gradient is depends on the context:

| context | gradient in the local embeddings, in replicated parameters |
|---|---|
| taken outside of `pmap`, `vmap(axis_name=)`, `shard_map` | exact, exact |
| inside `shard_map(check_vma=True)` | exact, exact (summed over devices) |
| inside `pmap`, `vmap`, `shard_map(check_vma=False)` | N times, N times own share |
| `parallel.value_and_grad`, in all of these | mean over devices: exact parameters |

so a step uses `parallel.value_and_grad` and nothing else.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from contrastive_jax import numerics, pairs
from contrastive_jax.parallel.strips import (
    fused,
    reduce_rows,
    sigmoid_kernel,
)
from contrastive_jax.parallel.sums import (
    Plan,
    pair_sums,
)
from contrastive_jax.parallel.tiled import (
    add_extra,
    at_labels,
    check_views,
    many_positives,
    one_positive,
    one_side,
    pair_of_ids,
    per_row_scalar,
    positive_scores,
    supervised_sets,
    two_directions,
    two_sides,
    view_scores,
    weigh,
)
from contrastive_jax.parallel.tiles import (
    Scale,
    Side,
    sweep,
    tile_side,
)

# (mine, columns, theirs) -> (mine, theirs): all tiles of own rows by visiting columns.
Visit = Callable[[Any, Any, Any], tuple[Any, Any]]


def choose_exchange(
    batch: int,
    width: int,
    devices: int,
    memory: float,
    *,
    element_bytes: int = 2,
    share: float = 0.05,
) -> Literal["gather", "ring"]:
    """Whether to gather the columns or to pass them around a ring.

    Both move the same bytes, B D e forward and B D (e + 4) backward per device. They
    differ in what a device has to hold besides its own rows:

        gather:  B D (e + 4)               all columns and their float32 gradient
        ring:    2 (B / N) D (2 e + 4)     two buffers of a shard and its gradient

    Gathering sends 3 large messages, the ring 2 (N - 1) small ones that hide behind its
    tiles once B / N >= u F / W (F peak operations per second, u the share reached, W
    bytes per second of the link). So gather while it fits into `share` of the memory:
    B = 131,072, D = 1,024 in bfloat16 takes 0.8 GB.

    Args:
      batch: rows of all devices, B.
      width: columns of an embedding, D.
      devices: devices on the axis, N.
      memory: bytes of memory of one device.
      element_bytes: bytes of an embedding element, e.
      share: share of the memory that the gathered columns may take.

    Returns:
      "gather" or "ring".

    Examples:
      >>> from contrastive_jax import parallel
      >>> parallel.choose_exchange(131_072, 1024, 64, 80e9)
      'gather'
      >>> parallel.choose_exchange(1_048_576, 1024, 64, 80e9)
      'ring'
    """
    numerics.check_positive(batch=batch, width=width, devices=devices, memory=memory)
    if batch % devices:
        raise ValueError(f"batch: {batch} rows do not split over {devices} devices")
    gathered = batch * width * (element_bytes + 4)
    return "gather" if devices == 1 or gathered <= share * memory else "ring"


# The ways around


class Send(NamedTuple):
    """Moves every leaf a number of devices ahead, within groups or by whole groups."""

    axis_name: str
    size: int  # devices on the axis
    group: int  # devices per group
    whole: bool  # by whole groups
    in_loops: bool  # whether loops may hold collectives

    def __call__(self, tree: Any, steps: int) -> Any:
        perm = []
        for i in range(self.size):
            first = i - i % self.group
            inside = first + (i - first + steps) % self.group
            between = (i + steps * self.group) % self.size
            perm.append((i, between if self.whole else inside))
        return jax.tree.map(lambda x: jax.lax.ppermute(x, self.axis_name, perm), tree)


def hops(
    visit: Visit, mine: Any, cols: Any, theirs: Any, send: Send, count: int
) -> tuple[Any, Any, Any]:
    """`count` visits; between two of them columns and their results move one ahead."""

    def one(_, carry):
        mine, cols, theirs = carry
        ahead = send(cols, 1)  # needs no tile: travels while they are computed
        mine, theirs = visit(mine, cols, theirs)
        return mine, ahead, send(theirs, 1)

    carry = (mine, cols, theirs)
    if send.in_loops and count > 1:
        carry = jax.lax.fori_loop(0, count - 1, one, carry)
    else:
        for i in range(count - 1):
            carry = one(i, carry)
    mine, cols, theirs = carry
    mine, theirs = visit(mine, cols, theirs)
    return mine, cols, theirs


def circle(
    visit: Visit, mine: Any, cols: Any, theirs: Any, send: Send, size: int
) -> tuple[Any, Any]:
    """Visits by the columns of all devices; their results come home."""
    mine, _, theirs = hops(visit, mine, cols, theirs, send, size)
    return mine, send(theirs, 1) if size > 1 else theirs


def half_circle(
    visit_self: Callable[[Any], Any],
    visit: Visit,
    combine: Callable[[Any, Any], Any],
    mine: Any,
    cols: Any,
    theirs: Any,
    send: Send,
    size: int,
) -> Any:
    """One set against itself: every pair of devices meets once, on one of the two.

    Opposite devices of an even ring meet on both, each for its own rows.
    """
    mine = visit_self(mine)
    both = (size - 1) // 2
    if both:
        mine, cols, theirs = hops(visit, mine, send(cols, 1), theirs, send, both)
        mine = combine(mine, send(theirs, -both))
    if size % 2 == 0:
        mine, _ = visit(mine, send(cols, size // 2 - both), None)
    return mine


def ring_walk(
    make_tile: Callable[..., Any],
    rows: Any,
    cols: Any,
    mine: Any,
    theirs: Any,
    *,
    triangle: Callable[[Any, Any], Any] | None = None,
    axis_name: str,
    size: int,
    group_size: int,
) -> tuple[Any, Any]:
    """`tiles.sweep` of own rows by the columns of all devices, in two levels."""
    groups = size // group_size
    # The backward pass of a function under `vmap` runs when the axis is gone: there
    # collectives still work, but not inside of loops, so hops are written out.
    send = Send(axis_name, size, group_size, False, axis_exists(axis_name))
    send_group = send._replace(whole=True)

    def tiles(mine, cols, theirs):
        return sweep(make_tile, rows, cols, mine, theirs)

    def group(mine, cols, theirs):
        return circle(tiles, mine, cols, theirs, send, group_size)

    if triangle is None:
        return circle(group, mine, cols, theirs, send_group, groups)

    def own_tiles(mine):
        return sweep(make_tile, rows, rows, mine, theirs, triangle=triangle)[0]

    def own_group(mine):
        return half_circle(
            own_tiles, tiles, triangle, mine, cols, theirs, send, group_size
        )

    mine = half_circle(
        own_group, group, triangle, mine, cols, theirs, send_group, groups
    )
    return mine, None


def axis_exists(axis_name: str) -> bool:
    """Whether the device axis is bound here."""
    try:
        jax.lax.axis_size(axis_name)
    except NameError:
        return False
    return True


def ring_plan(
    axis_name: str,
    group_size: int | None,
    tile: int | None,
    *sets: str,
    two_way: bool = False,
) -> Plan:
    """The plan of a loss over the ring.

    Raises:
      ValueError: no such axis, groups that do not divide it.
    """
    if not axis_exists(axis_name):
        raise ValueError(
            f"axis_name: no device axis {axis_name!r} here; call inside pmap, "
            f"vmap(axis_name=) or shard_map"
        )
    size = jax.lax.axis_size(axis_name)
    group_size = size if group_size is None else group_size
    if group_size < 1 or size % group_size:
        raise ValueError(
            f"group_size: expected a divisor of the {size} devices, got {group_size}"
        )
    walk = functools.partial(
        ring_walk, axis_name=axis_name, size=size, group_size=group_size
    )
    return Plan(sets, tile_side(tile), two_way, walk)


def global_ids(num_local: int, axis_name: str) -> Int[Array, " n"]:
    """Numbers of the local rows among those of all devices."""
    return jnp.arange(num_local) + num_local * jax.lax.axis_index(axis_name)


# The losses


def ring_info_nce(
    a: Float[Array, "n d"],
    b: Float[Array, "m d"],
    axis_name: str,
    *,
    labels: Int[Array, " n"] | None = None,
    scale: Scale = 1.0,
    where: Bool[Array, " n"] | None = None,
    where_candidates: Bool[Array, " m"] | None = None,
    exclude: tuple[Int[Array, " n"], Int[Array, " m"]] | None = None,
    block: tuple[Int[Array, " n"], Int[Array, " m"]] | None = None,
    extra: Float[Array, "k d"] | Side | None = None,
    log_weights: (
        tuple[Int[Array, " n"], Int[Array, " m"], Float[Array, "c g"]] | None
    ) = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    group_size: int | None = None,
    tile: int | None = None,
) -> Float[Array, "..."]:
    """`tiled_info_nce` over the rows of all devices, each holding its own.

        loss_i = log sum_j exp(scale a_i . b_j) - scale a_i . b_labels[i]     (nats)

    The sum runs over the b of all devices. Operations: 8 n m d per device and hop.

    Args:
      a: this device's anchors.
      b: this device's candidates, its hard negatives among them.
      axis_name: device axis.
      labels: row of the local b that is each anchor's positive; `arange(n)` when None.
        With one that does not exist, where it is traced and cannot be looked at, the
        anchor drops out.
      scale: factor of the inner products, one over the temperature; > 0, may be learnt.
      where: local anchors that count.
      where_candidates: local candidates that count.
      exclude: ids of local anchors and candidates, the same numbers on all devices;
        pairs with equal ids are no negatives.
      block: ids of local anchors and candidates; only pairs with equal ids count.
      extra: more negatives that every device holds (a queue): array or `Side`.
      log_weights: (group of each local anchor, group of each local candidate, table
        [c, g]): the log weight of a negative is the table's entry for the two groups.
        A constant.
      weights: one non-negative weight per local anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over the anchors of all devices; None gives the
        local [n].
      group_size: devices per group with fast links, a divisor of their number; None
        for one ring.
      tile: columns per tile, which has as many rows, or of two sets twice as many;
        None: what suits the backend (`tiles.tile_side`).

    Raises:
      TypeError: arrays of the wrong kind.
      ValueError: shapes that do not fit together, labels beyond the local candidates,
        an unknown axis name, a group size that is no divisor, scale not above 0.

    References:
      van den Oord et al. 2018, arXiv:1807.03748, eq. 4. Ring over devices: Cheng et
      al. 2024, arXiv:2410.17243.

    Examples:
      >>> x = jnp.eye(4).reshape(2, 2, 4)  # two rows on each of two devices
      >>> loss = lambda x: ring_info_nce(x, x, "data")
      >>> first, second = jax.vmap(loss, axis_name="data")(x)
      >>> print(f"{first:.4f} {second:.4f}")
      0.7437 0.7437
    """
    plan = ring_plan(axis_name, group_size, tile, "negatives")
    rows, cols = two_sides(a, b, scale, where, where_candidates, exclude, block)
    rows, cols = weigh(rows, cols, log_weights)
    (n, _), m = a.shape, b.shape[0]
    numerics.check_shapes(a=(a, "n d"), labels=(labels, "n"), weights=(weights, "n"))
    labels = pairs.positive_columns(labels, (n, m))
    ids = global_ids(m, axis_name)
    rows = rows._replace(label=labels + ids[0])
    cols = cols._replace(label=ids)
    sums, _ = pair_sums(rows, cols, plan, "tiled")
    sums = add_extra(sums, rows, extra, local(plan), "auto")
    positive, valid = positive_scores(rows, at_labels(cols, labels))
    loss = one_positive(sums.lse[0], positive, valid)
    return reduce_rows(loss, valid, weights, reduce_fn, axis_name)


def local(plan: Plan) -> Plan:
    """The plan for columns that every device holds."""
    return plan._replace(walk=sweep)


def ring_two_way_info_nce(
    a: Float[Array, "n d"],
    b: Float[Array, "n d"],
    axis_name: str,
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
    group_size: int | None = None,
    tile: int | None = None,
) -> Float[Array, "..."]:
    """`tiled_two_way_info_nce` (CLIP) over the pairs of all devices.

        loss_i = (info_nce(a_i -> b) + info_nce(b_i -> a)) / 2          (nats)

    Args:
      a: one side of this device's pairs.
      b: the other side.
      axis_name: device axis.
      scale: factor of the inner products, one over the temperature; > 0, may be learnt.
      where: local pairs that count, as anchors and as candidates.
      exclude: one id per local pair, the same numbers on all devices; a_i and b_j with
        equal ids are no negatives.
      block: one id per local pair; only a_i and b_j with equal ids count.
      extra_a: more candidates for the anchors in b that every device holds.
      extra_b: more candidates for the anchors in a that every device holds.
      log_weights: (group of each local a_i, group of each local b_j, table [c, g]): the
        log weight of a negative pair, in both directions, is the table's entry for the
        two groups. A constant.
      weights: one non-negative weight per local pair.
      reduce_fn: `jnp.mean` or `jnp.sum` over the pairs of all devices; None gives the
        local [n].
      group_size: devices per group with fast links, a divisor of their number; None
        for one ring.
      tile: columns per tile, which has as many rows, or of two sets twice as many;
        None: what suits the backend (`tiles.tile_side`).

    Raises:
      TypeError: arrays of the wrong kind.
      ValueError: shapes that do not fit together, an unknown axis name, a group size
        that is no divisor, scale not above 0.

    References:
      Radford et al. 2021, arXiv:2103.00020, figure 3. Ring over devices: Cheng et al.
      2024, arXiv:2410.17243.

    Examples:
      >>> x = jnp.eye(4).reshape(2, 2, 4)  # two rows on each of two devices
      >>> loss = lambda x: ring_two_way_info_nce(x, x, "data")
      >>> first, second = jax.vmap(loss, axis_name="data")(x)
      >>> print(f"{first:.4f} {second:.4f}")
      0.7437 0.7437
    """
    plan = ring_plan(axis_name, group_size, tile, "negatives", two_way=True)
    numerics.check_shapes(a=(a, "n d"), b=(b, "n d"), weights=(weights, "n"))
    same = [None if ids is None else (ids, ids) for ids in (exclude, block)]
    rows, cols = two_sides(a, b, scale, where, where, *same)
    rows, cols = weigh(rows, cols, log_weights)
    ids = global_ids(a.shape[0], axis_name)
    rows, cols = rows._replace(label=ids), cols._replace(label=ids)
    row_sums, col_sums = pair_sums(rows, cols, plan, "tiled")
    loss, valid = two_directions(
        rows,
        cols,
        add_extra(row_sums, rows, extra_b, local(plan), "auto"),
        add_extra(col_sums, cols, extra_a, local(plan), "auto"),
    )
    return reduce_rows(loss, valid, weights, reduce_fn, axis_name)


def ring_nt_xent(
    x: Float[Array, "n d"],
    axis_name: str,
    *,
    scale: Scale = 1.0,
    where: Bool[Array, " n"] | None = None,
    exclude: Int[Array, " n"] | None = None,
    block: Int[Array, " n"] | None = None,
    extra: Float[Array, "k d"] | Side | None = None,
    log_weights: tuple[Int[Array, " n"], Float[Array, "c c"]] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    group_size: int | None = None,
    tile: int | None = None,
) -> Float[Array, "..."]:
    """`tiled_nt_xent` (SimCLR) over the rows of all devices.

        loss_i = log sum_{j != i} exp(scale x_i . x_j) - scale x_i . x_other(i)  (nats)

    Args:
      x: this device's first views, then its second views in the same order.
      axis_name: device axis.
      scale: factor of the inner products, one over the temperature; > 0, may be learnt.
      where: local rows that count, as anchors and as candidates.
      exclude: one id per local row, the same numbers on all devices; rows with equal
        ids are no negatives of each other.
      block: one id per local row; only rows with equal ids are pairs.
      extra: more negatives that every device holds (a queue): array or `Side`.
      log_weights: (group of each local row, table [c, c]): the log weight of candidate
        j as a negative of anchor i is table[group_i, group_j]. A constant.
      weights: one non-negative weight per local anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over the anchors of all devices; None gives the
        local [n].
      group_size: devices per group with fast links, a divisor of their number; None
        for one ring.
      tile: columns per tile, which has as many rows, or of two sets twice as many;
        None: what suits the backend (`tiles.tile_side`).

    Raises:
      TypeError: arrays of the wrong kind.
      ValueError: an odd number of rows, shapes that do not fit together, an unknown
        axis name, a group size that is no divisor, scale not above 0.

    References:
      Chen et al. 2020, arXiv:2002.05709, eq. 1.

    Examples:
      >>> x = jnp.eye(4).reshape(2, 2, 4)  # two rows on each of two devices
      >>> loss = lambda x: ring_nt_xent(x, "data")
      >>> first, second = jax.vmap(loss, axis_name="data")(x)
      >>> print(f"{first:.4f} {second:.4f}")
      1.0986 1.0986
    """
    plan = ring_plan(axis_name, group_size, tile, "negatives")
    rows = one_side(x, scale, where, exclude, block, weights)
    check_views(x)
    views = global_ids(x.shape[0] // 2, axis_name)
    me = global_ids(x.shape[0], axis_name)
    rows = rows._replace(label=jnp.concatenate([views, views]), me=me)
    rows, _ = weigh(rows, None, log_weights)
    sums, _ = pair_sums(rows, None, plan, "tiled")
    sums = add_extra(sums, rows, extra, local(plan), "auto")
    positive, valid = view_scores(rows)
    loss = one_positive(sums.lse[0], positive, valid)
    return reduce_rows(loss, valid, weights, reduce_fn, axis_name)


def ring_supervised_contrastive(
    x: Float[Array, "n d"],
    labels: Int[Array, " n"],
    axis_name: str,
    *,
    scale: Scale = 1.0,
    where: Bool[Array, " n"] | None = None,
    block: Int[Array, " n"] | None = None,
    extra: Side | None = None,
    weights: Float[Array, " n"] | None = None,
    form: Literal["out", "in"] = "out",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    group_size: int | None = None,
    tile: int | None = None,
) -> Float[Array, "..."]:
    """`tiled_supervised_contrastive` (SupCon) over the rows of all devices.

        out: loss_i = mean_{p in P(i)} ( logsumexp_{a != i} s_ia - s_ip )
        in:  loss_i = logsumexp_{a != i} s_ia - logsumexp_{p in P(i)} s_ip + log |P(i)|
                                              s_ij = scale x_i . x_j      (nats)

    Args:
      x: this device's rows, all views of all its examples.
      labels: class of each local row.
      axis_name: device axis.
      scale: factor of the inner products, one over the temperature; > 0, may be learnt.
      where: local rows that count, as anchors and as candidates.
      block: one id per local row; only rows with equal ids are pairs.
      extra: more candidates that every device holds: a `Side` with labels.
      weights: one non-negative weight per local anchor.
      form: "out" averages outside of the logarithm, "in" inside.
      reduce_fn: `jnp.mean` or `jnp.sum` over the anchors of all devices that have a
        positive; None gives the local [n].
      group_size: devices per group with fast links, a divisor of their number; None
        for one ring.
      tile: columns per tile, which has as many rows, or of two sets twice as many;
        None: what suits the backend (`tiles.tile_side`).

    Raises:
      TypeError: arrays of the wrong kind.
      ValueError: shapes that do not fit together, an unknown form or axis name, a group
        size that is no divisor, scale not above 0.

    References:
      Khosla et al. 2020, arXiv:2004.11362, eq. 2 (out) and eq. 3 (in).

    Examples:
      >>> x = jnp.eye(4).reshape(2, 2, 4)  # two rows on each of two devices
      >>> y = jnp.array([0, 1])
      >>> loss = lambda x: ring_supervised_contrastive(x, y, "data")
      >>> first, second = jax.vmap(loss, axis_name="data")(x)
      >>> print(f"{first:.4f} {second:.4f}")
      1.0986 1.0986
    """
    plan = ring_plan(axis_name, group_size, tile, *supervised_sets(form))
    plan = plan._replace(positives=True)
    rows = one_side(x, scale, where, None, block, weights)
    numerics.check_shapes(x=(x, "n d"), labels=(labels, "n"))
    me = global_ids(x.shape[0], axis_name)
    rows = rows._replace(label=numerics.check_integer(labels, "labels"), me=me)
    sums, _ = pair_sums(rows, None, plan, "tiled")
    sums = add_extra(sums, rows, extra, local(plan), "auto")
    loss, valid = many_positives(sums)
    return reduce_rows(loss, valid, weights, reduce_fn, axis_name)


def ring_sigmoid(
    a: Float[Array, "n d"],
    b: Float[Array, "m d"],
    axis_name: str,
    *,
    labels: tuple[Int[Array, " n"], Int[Array, " m"]] | None = None,
    scale: Scale = 1.0,
    bias: Scale = 0.0,
    where: Bool[Array, " n"] | None = None,
    where_candidates: Bool[Array, " m"] | None = None,
    exclude: tuple[Int[Array, " n"], Int[Array, " m"]] | None = None,
    block: tuple[Int[Array, " n"], Int[Array, " m"]] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    group_size: int | None = None,
    tile: int | None = None,
) -> Float[Array, "..."]:
    """`tiled_sigmoid` (SigLIP) over the rows of all devices; one way around the ring.

        loss_i = sum_j softplus(-y_ij (scale a_i . b_j + bias)),  y = 1 or -1   (nats)

    Args:
      a: this device's anchors.
      b: this device's candidates.
      axis_name: device axis.
      labels: ids of local anchors and candidates, the same numbers on all devices;
        pairs with equal ids match. Row i matches row i of its device when None.
      scale: factor of the inner products; > 0, may be learnt.
      bias: added to every score; may be learnt.
      where: local anchors that count.
      where_candidates: local candidates that count.
      exclude: ids of local anchors and candidates; pairs with equal ids that do not
        match are left out.
      block: ids of local anchors and candidates; only pairs with equal ids count.
      weights: one non-negative weight per local anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over the anchors of all devices; None gives the
        local [n].
      group_size: devices per group with fast links, a divisor of their number; None
        for one ring.
      tile: columns per tile, which has as many rows, or of two sets twice as many;
        None: what suits the backend (`tiles.tile_side`).

    Raises:
      TypeError: arrays of the wrong kind.
      ValueError: shapes that do not fit together, an unknown axis name, a group size
        that is no divisor, scale not above 0.

    References:
      Zhai et al. 2023, arXiv:2303.15343, section 3.3.

    Examples:
      >>> x = jnp.eye(4).reshape(2, 2, 4)  # two rows on each of two devices
      >>> loss = lambda x: ring_sigmoid(x, x, "data")
      >>> first, second = jax.vmap(loss, axis_name="data")(x)
      >>> print(f"{first:.4f} {second:.4f}")
      2.3927 2.3927
    """
    plan = ring_plan(axis_name, group_size, tile)
    rows, cols = two_sides(a, b, scale, where, where_candidates, exclude, block)
    n, m = a.shape[0], b.shape[0]
    numerics.check_shapes(a=(a, "n d"), weights=(weights, "n"))
    if labels is None:
        ids = global_ids(m, axis_name)
        labels = (jnp.arange(n) + ids[0], ids)
    labels = pair_of_ids("labels", labels, n, m)
    rows, cols = rows._replace(label=labels[0]), cols._replace(label=labels[1])
    rows = rows._replace(bias=per_row_scalar(bias, rows.x))
    return fused(sigmoid_kernel, plan, rows, cols, weights, reduce_fn, axis_name)
