"""The large-batch losses over devices that each hold only their own rows.

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

The losses are those of `parallel.losses`, which says what their arrays are and what
raises. Besides, they have `group_size`, devices per group, a divisor of their number
(None for one ring), and `tile`, columns per tile: tiles are square for one set and
twice as high as wide for two; None is what suits the backend (`tile_side`).
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import numerics, pairs
from contrastive_jax.parallel import collectives
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
    among_all,
    at_labels,
    check_number,
    check_views,
    many_positives,
    one_positive,
    one_side,
    pair_of_classes,
    per_row_scalar,
    positive_scores,
    supervised_sets,
    two_directions,
    two_sides,
    unlike_negatives,
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


def count_devices(axis_name: str) -> int:
    """Devices on the axis.

    Raises:
      ValueError: no such axis here.
    """
    if not axis_exists(axis_name):
        raise ValueError(
            f"axis_name: no device axis {axis_name!r} here; call inside pmap, "
            f"vmap(axis_name=) or shard_map"
        )
    return jax.lax.axis_size(axis_name)


def check_groups(devices: int, group_size: int | None) -> None:
    """Groups must divide the devices.

    Raises:
      ValueError: when they do not.
    """
    if group_size is not None and (group_size < 1 or devices % group_size):
        raise ValueError(
            f"group_size: expected a divisor of the {devices} devices, got {group_size}"
        )


def ring_plan(
    axis_name: str,
    group_size: int | None,
    tile: int | None,
    *sets: str,
    two_way: bool = False,
) -> Plan:
    """The plan of a loss over the ring."""
    size = count_devices(axis_name)
    check_groups(size, group_size)
    walk = functools.partial(
        ring_walk, axis_name=axis_name, size=size, group_size=group_size or size
    )
    return Plan(sets, tile_side(tile), two_way, walk)


def info_nce(
    a: Float[Array, "n d"],
    b: Float[Array, "m d"],
    labels: Integer[Array, " n"] | None = None,
    *,
    axis_name: str,
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
    group_size: int | None = None,
    tile: int | None = None,
) -> Float[Array, "..."]:
    """InfoNCE, one way. Operations: 8 n m d per device and hop."""
    plan = ring_plan(axis_name, group_size, tile, "negatives")
    rows, cols = two_sides(a, b, scale, where, where_candidates, exclude, segments)
    rows, cols = weigh(rows, cols, log_weights)
    (n, _), m = a.shape, b.shape[0]
    numerics.check_shapes(a=(a, "n d"), labels=(labels, "n"), weights=(weights, "n"))
    labels = pairs.positive_columns(labels, (n, m))
    rows = rows._replace(label=among_all(labels, m, axis_name))
    cols = cols._replace(label=collectives.global_rows(m, axis_name))
    sums, _ = pair_sums(rows, cols, plan, "tiled")
    sums = add_extra(sums, rows, extra, local(plan), "auto")
    positive, valid = positive_scores(rows, at_labels(cols, labels))
    loss = one_positive(sums.lse[0], positive, valid)
    return reduce_rows(loss, valid, weights, reduce_fn, axis_name)


def local(plan: Plan) -> Plan:
    """The plan for columns that every device holds."""
    return plan._replace(walk=sweep)


def two_way_info_nce(
    a: Float[Array, "n d"],
    b: Float[Array, "n d"],
    *,
    axis_name: str,
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
    group_size: int | None = None,
    tile: int | None = None,
) -> Float[Array, "..."]:
    """InfoNCE in both directions. Operations: 8 n^2 d per device and hop."""
    plan = ring_plan(axis_name, group_size, tile, "negatives", two_way=True)
    numerics.check_shapes(a=(a, "n d"), b=(b, "n d"), weights=(weights, "n"))
    same = [None if ids is None else (ids, ids) for ids in (exclude, segments)]
    rows, cols = two_sides(a, b, scale, where, where, *same)
    rows, cols = weigh(rows, cols, log_weights)
    ids = collectives.global_rows(a.shape[0], axis_name)
    rows, cols = rows._replace(label=ids), cols._replace(label=ids)
    row_sums, col_sums = pair_sums(rows, cols, plan, "tiled")
    loss, valid = two_directions(
        rows,
        cols,
        add_extra(row_sums, rows, extra_b, local(plan), "auto"),
        add_extra(col_sums, cols, extra_a, local(plan), "auto"),
    )
    return reduce_rows(loss, valid, weights, reduce_fn, axis_name)


def nt_xent(
    z: Float[Array, "n d"],
    *,
    axis_name: str,
    scale: Scale = 1.0,
    where: Bool[Array, " n"] | None = None,
    exclude: Integer[Array, " n"] | None = None,
    segments: Integer[Array, " n"] | None = None,
    extra: Float[Array, "k d"] | Side | None = None,
    log_weights: tuple[Integer[Array, " n"], Float[Array, "c c"]] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    group_size: int | None = None,
    tile: int | None = None,
) -> Float[Array, "..."]:
    """InfoNCE between two views of each example, in one set."""
    plan = ring_plan(axis_name, group_size, tile, "negatives")
    rows = one_side(z, scale, where, exclude, segments, weights, axis_name, "z")
    check_views(z)
    views = collectives.global_rows(z.shape[0] // 2, axis_name)
    rows = rows._replace(label=jnp.tile(views, 2))
    rows, _ = weigh(rows, None, log_weights)
    sums, _ = pair_sums(rows, None, plan, "tiled")
    sums = add_extra(sums, rows, extra, local(plan), "auto")
    positive, valid = view_scores(rows)
    loss = one_positive(sums.lse[0], positive, valid)
    return reduce_rows(loss, valid, weights, reduce_fn, axis_name)


def supervised_contrastive(
    x: Float[Array, "n d"],
    labels: Integer[Array, " n"],
    *,
    axis_name: str,
    scale: Scale = 1.0,
    where: Bool[Array, " n"] | None = None,
    segments: Integer[Array, " n"] | None = None,
    extra: Side | None = None,
    weights: Float[Array, " n"] | None = None,
    form: Literal["out", "in"] = "out",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    group_size: int | None = None,
    tile: int | None = None,
) -> Float[Array, "..."]:
    """The supervised contrastive loss of one set against itself."""
    plan = ring_plan(axis_name, group_size, tile, *supervised_sets(form))
    plan = plan._replace(positives=True)
    rows = one_side(x, scale, where, None, segments, weights, axis_name)
    numerics.check_shapes(x=(x, "n d"), labels=(labels, "n"))
    rows = rows._replace(label=unlike_negatives(labels, -1 - rows.me))
    sums, _ = pair_sums(rows, None, plan, "tiled")
    sums = add_extra(sums, rows, extra, local(plan), "auto")
    loss, valid = many_positives(sums)
    return reduce_rows(loss, valid, weights, reduce_fn, axis_name)


def pairwise_sigmoid(
    a: Float[Array, "n d"],
    b: Float[Array, "m d"],
    labels: tuple[Integer[Array, " n"], Integer[Array, " m"]] | None = None,
    *,
    axis_name: str,
    scale: Scale = 1.0,
    bias: Scale = 0.0,
    where: Bool[Array, " n"] | None = None,
    where_candidates: Bool[Array, " m"] | None = None,
    exclude: tuple[Integer[Array, " n"], Integer[Array, " m"]] | None = None,
    segments: tuple[Integer[Array, " n"], Integer[Array, " m"]] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    group_size: int | None = None,
    tile: int | None = None,
) -> Float[Array, "..."]:
    """The sigmoid loss. Operations: 6 n m d per device and hop."""
    plan = ring_plan(axis_name, group_size, tile)
    rows, cols = two_sides(a, b, scale, where, where_candidates, exclude, segments)
    n, m = a.shape[0], b.shape[0]
    numerics.check_shapes(a=(a, "n d"), weights=(weights, "n"))
    if labels is None:
        own = among_all(jnp.arange(n), m, axis_name)
        labels = own, collectives.global_rows(m, axis_name)
    labels = pair_of_classes(labels, n, m)
    rows, cols = rows._replace(label=labels[0]), cols._replace(label=labels[1])
    check_number(bias=bias)
    rows = rows._replace(bias=per_row_scalar(bias, rows.x))
    return fused(sigmoid_kernel, plan, rows, cols, weights, reduce_fn, axis_name)
