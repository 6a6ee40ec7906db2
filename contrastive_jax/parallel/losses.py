"""The large-batch losses, one public name each, on one device or on many.

Every function takes embeddings, [n, d], and is the loss of the same name in
`contrastive_jax.losses` of their scaled inner products. With `axis_name`, inside of
`pmap`, `shard_map` or `vmap(axis_name=)`, the arrays are one device's rows, and all
devices have equally many:

- the candidates are those of all devices;
- the value is the mean (or sum) over the anchors that count of all devices, the same on
  every device, with weights, masks and anchors without positives as on one device;
- gradients are taken with `parallel.value_and_grad`.

`exchange` says how the rows of devices meet; value and gradient are equal in all ways:

- "dense": rows are gathered, and a device forms its [n, m] scores and differentiates
  them as usual. Takes the most memory, and allows second derivatives.
- "tiles": rows are gathered, scores formed tile by tile (up to 2^20 of them at once).
- "ring": the rows of other devices pass by, and nothing is gathered.
- "auto": "tiles" while the gathered rows fit into 5 % of `memory`, else "ring"
  (`choose_exchange`).

Without a device axis there is nothing to exchange, and "ring" is "tiles".

All raise TypeError for an array of the wrong dtype, and ValueError for shapes that do
not fit together, a temperature or scale that is not above 0, both of them, labels out
of range, an axis that does not exist here, and an option that the exchange has not.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import numerics
from contrastive_jax.parallel import collectives, ring, tiled
from contrastive_jax.parallel.tiles import Scale, Side

Exchange = Literal["auto", "dense", "tiles", "ring"]


def choose_exchange(
    batch: int,
    width: int,
    devices: int,
    memory: float,
    *,
    element_bytes: int = 2,
    share: float = 0.05,
) -> Literal["tiles", "ring"]:
    """Whether to gather the candidates ("tiles") or to pass them around a ring.

    Both move the same bytes, B D e forward and B D (e + 4) backward per device. They
    differ in what a device has to hold besides its own rows:

        tiles:  B D (e + 4)               all candidates and their float32 gradient
        ring:   2 (B / N) D (2 e + 4)     two buffers of a shard and its gradient

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
      share: share of the memory that the gathered candidates may take.

    Examples:
      >>> from contrastive_jax import parallel
      >>> parallel.choose_exchange(131_072, 1024, 64, 80e9)
      'tiles'
      >>> parallel.choose_exchange(1_048_576, 1024, 64, 80e9)
      'ring'
    """
    numerics.check_positive(batch=batch, width=width, devices=devices, memory=memory)
    if batch % devices:
        raise ValueError(f"batch: {batch} rows do not split over {devices} devices")
    gathered = batch * width * (element_bytes + 4)
    return "tiles" if devices == 1 or gathered <= share * memory else "ring"


def choose(
    functions: tuple[Callable[..., Array], Callable[..., Array]],
    candidates: Array,
    axis_name: collectives.AxisName,
    exchange: str,
    memory: float,
    group_size: int | None,
    tile: int | None,
) -> tuple[Callable[..., Array], dict[str, Any]]:
    """Which of (tiled, ring) computes a loss, and its options."""
    if exchange not in ("auto", "dense", "tiles", "ring"):
        raise ValueError(
            f"exchange: expected auto, dense, tiles or ring, got {exchange!r}"
        )
    if exchange == "dense" and tile is not None:
        raise ValueError("tile: the dense exchange has no tiles")
    if exchange in ("dense", "tiles") and group_size is not None:
        raise ValueError(f"group_size: the {exchange} exchange has no ring of groups")
    devices = 1 if axis_name is None else ring.count_devices(axis_name)
    ring.check_groups(devices, group_size)
    if exchange == "auto" and candidates.ndim == 2:
        rows, width = candidates.shape
        exchange = choose_exchange(
            rows * devices,
            width,
            devices,
            memory,
            element_bytes=candidates.dtype.itemsize,
        )
    options = dict(axis_name=axis_name, tile=tile)
    if exchange == "ring" and axis_name is not None:
        return functions[1], options | dict(group_size=group_size)
    mode = "dense" if exchange == "dense" else "auto"
    return functions[0], options | dict(mode=mode)


def one_scale(temperature: Scale | None, scale: Scale | None) -> Scale:
    """The factor of the inner products; 1 when neither is given."""
    if temperature is None:
        return 1.0 if scale is None else scale
    if scale is not None:
        raise ValueError("temperature, scale: expected at most one of them")
    numerics.check_positive(temperature=temperature)
    return 1 / temperature


def info_nce(
    a: Float[Array, "n d"],
    b: Float[Array, "m d"],
    labels: Integer[Array, " n"] | None = None,
    *,
    axis_name: collectives.AxisName = None,
    exchange: Exchange = "auto",
    temperature: Scale | None = None,
    scale: Scale | None = None,
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
    memory: float = 16e9,
    group_size: int | None = None,
    tile: int | None = None,
) -> Float[Array, "..."]:
    """Cross entropy of each anchor's positive among the candidates of all devices.

        loss_i = log sum_j exp(s_ij) - s_i,labels[i],   s_ij = scale a_i . b_j   (nats)

    Args:
      a: anchors.
      b: candidates, hard negatives among them.
      labels: row of b (on a device axis, of the device's own b) that is each anchor's
        positive; `arange(n)` when None. An anchor whose label is out of range, where it
        is traced and cannot be checked, drops out.
      axis_name: device axis; None for one device.
      exchange: "auto", "dense", "tiles" or "ring".
      temperature: divides the inner products; > 0, may be learned.
      scale: multiplies them, instead of a temperature; > 0, may be learned.
      where: anchors that count.
      where_candidates: candidates that count; an anchor whose positive is masked drops
        out.
      exclude: ids of anchors and of candidates; pairs with equal ids are no negatives.
        Ids mean the same on all devices, here and below.
      segments: ids of anchors and of candidates; only pairs with equal ids count.
      extra: more negatives, the same on every device (a queue): an array, or a
        `parallel.Side` with masks.
      log_weights: (group of each anchor, group of each candidate, table [c, g]): the
        log weight of a negative is the table's entry for the two groups. A constant.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that count; None gives [n].
      memory: bytes of memory of one device, for "auto".
      group_size: devices per group with fast links, a divisor of their number, for a
        ring in two levels.
      tile: columns per tile; None for what suits the backend.

    References:
      van den Oord et al. 2018, arXiv:1807.03748, eq. 4. Ring over devices: Cheng et
      al. 2024, arXiv:2410.17243.

    Examples:
      >>> from contrastive_jax import parallel
      >>> print(f"{parallel.info_nce(jnp.eye(2), jnp.eye(2), temperature=0.5):.3f}")
      0.127
    """
    loss, options = choose(
        (tiled.info_nce, ring.info_nce),
        b,
        axis_name,
        exchange,
        memory,
        group_size,
        tile,
    )
    return loss(
        a,
        b,
        labels,
        scale=one_scale(temperature, scale),
        where=where,
        where_candidates=where_candidates,
        exclude=exclude,
        segments=segments,
        extra=extra,
        log_weights=log_weights,
        weights=weights,
        reduce_fn=reduce_fn,
        **options,
    )


def two_way_info_nce(
    a: Float[Array, "n d"],
    b: Float[Array, "n d"],
    *,
    axis_name: collectives.AxisName = None,
    exchange: Exchange = "auto",
    temperature: Scale | None = None,
    scale: Scale | None = None,
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
    memory: float = 16e9,
    group_size: int | None = None,
    tile: int | None = None,
) -> Float[Array, "..."]:
    """InfoNCE of the pairs (a_i, b_i) of all devices, in both directions (CLIP).

        loss_i = (info_nce(a_i -> b) + info_nce(b_i -> a)) / 2          (nats)

    Args:
      a: one side of the pairs.
      b: the other side.
      axis_name: device axis; None for one device.
      exchange: "auto", "dense", "tiles" or "ring".
      temperature: divides the inner products; > 0, may be learned.
      scale: multiplies them, instead of a temperature; > 0, may be learned.
      where: pairs that count, as anchors and as candidates.
      exclude: one id per pair; a_i and b_j with equal ids are no negatives. Ids mean
        the same on all devices, here and below.
      segments: one id per pair; only a_i and b_j with equal ids count.
      extra_a: more candidates for the anchors in b, the same on every device: an array,
        or a `parallel.Side` with masks.
      extra_b: more candidates for the anchors in a.
      log_weights: (group of each a_i, group of each b_j, table [c, g]): the log weight
        of a negative pair, in both directions, is the table's entry for the two groups.
        A constant.
      weights: one non-negative weight per pair.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs that count; None gives [n].
      memory: bytes of memory of one device, for "auto".
      group_size: devices per group with fast links, a divisor of their number, for a
        ring in two levels.
      tile: columns per tile; None for what suits the backend.

    References:
      Radford et al. 2021, arXiv:2103.00020, figure 3. Ring over devices: Cheng et al.
      2024, arXiv:2410.17243.

    Examples:
      >>> from contrastive_jax import parallel
      >>> a, b = jnp.eye(3), jnp.array([[0.0, 1.0, 0.0]] * 3)
      >>> print(f"{parallel.two_way_info_nce(a, b):.4f}")
      1.1584
    """
    loss, options = choose(
        (tiled.two_way_info_nce, ring.two_way_info_nce),
        b,
        axis_name,
        exchange,
        memory,
        group_size,
        tile,
    )
    return loss(
        a,
        b,
        scale=one_scale(temperature, scale),
        where=where,
        exclude=exclude,
        segments=segments,
        extra_a=extra_a,
        extra_b=extra_b,
        log_weights=log_weights,
        weights=weights,
        reduce_fn=reduce_fn,
        **options,
    )


def nt_xent(
    z: Float[Array, "n d"],
    *,
    axis_name: collectives.AxisName = None,
    exchange: Exchange = "auto",
    temperature: Scale | None = None,
    scale: Scale | None = None,
    where: Bool[Array, " n"] | None = None,
    exclude: Integer[Array, " n"] | None = None,
    segments: Integer[Array, " n"] | None = None,
    extra: Float[Array, "k d"] | Side | None = None,
    log_weights: tuple[Integer[Array, " n"], Float[Array, "c c"]] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    memory: float = 16e9,
    group_size: int | None = None,
    tile: int | None = None,
) -> Float[Array, "..."]:
    """InfoNCE between two views of each example, in one set (SimCLR).

        loss_i = log sum_{j != i} exp(s_ij) - s_i,other(i),  s_ij = scale z_i . z_j
                                                                        (nats)

    Args:
      z: first views, then second views in the same order (a device's first views and
        its second views).
      axis_name: device axis; None for one device.
      exchange: "auto", "dense", "tiles" or "ring".
      temperature: divides the inner products; > 0, may be learned.
      scale: multiplies them, instead of a temperature; > 0, may be learned.
      where: rows that count, as anchors and as candidates.
      exclude: one id per row; rows with equal ids are no negatives of each other. Ids
        mean the same on all devices, here and below.
      segments: one id per row; only rows with equal ids are pairs.
      extra: more negatives, the same on every device (a queue): an array, or a
        `parallel.Side` with masks.
      log_weights: (group of each row, table [c, c]): the log weight of candidate j as a
        negative of anchor i is table[group_i, group_j]. A constant.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that count; None gives [n].
      memory: bytes of memory of one device, for "auto".
      group_size: devices per group with fast links, a divisor of their number, for a
        ring in two levels.
      tile: columns per tile; None for what suits the backend.

    Raises:
      ValueError: an odd number of rows.

    References:
      Chen et al. 2020, arXiv:2002.05709, eq. 1.

    Examples:
      >>> from contrastive_jax import parallel
      >>> views = jnp.concatenate([jnp.eye(2), jnp.eye(2)])
      >>> print(f"{parallel.nt_xent(views, temperature=0.5):.3f}")
      0.240
    """
    loss, options = choose(
        (tiled.nt_xent, ring.nt_xent), z, axis_name, exchange, memory, group_size, tile
    )
    return loss(
        z,
        scale=one_scale(temperature, scale),
        where=where,
        exclude=exclude,
        segments=segments,
        extra=extra,
        log_weights=log_weights,
        weights=weights,
        reduce_fn=reduce_fn,
        **options,
    )


def supervised_contrastive(
    x: Float[Array, "n d"],
    labels: Integer[Array, " n"],
    *,
    axis_name: collectives.AxisName = None,
    exchange: Exchange = "auto",
    temperature: Scale | None = None,
    scale: Scale | None = None,
    where: Bool[Array, " n"] | None = None,
    segments: Integer[Array, " n"] | None = None,
    extra: Side | None = None,
    weights: Float[Array, " n"] | None = None,
    form: Literal["out", "in"] = "out",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    memory: float = 16e9,
    group_size: int | None = None,
    tile: int | None = None,
) -> Float[Array, "..."]:
    """Attracts all rows with an anchor's label, in one set (SupCon).

        out: loss_i = mean_{p in P(i)} ( logsumexp_{a != i} s_ia - s_ip )
        in:  loss_i = logsumexp_{a != i} s_ia - logsumexp_{p in P(i)} s_ip + log |P(i)|
                                              s_ij = scale x_i . x_j      (nats)

    P(i) are the other rows with the label of i, on all devices.

    Args:
      x: all views of all examples.
      labels: class of each row; a row with a negative one has no positive.
      axis_name: device axis; None for one device.
      exchange: "auto", "dense", "tiles" or "ring".
      temperature: divides the inner products; > 0, may be learned.
      scale: multiplies them, instead of a temperature; > 0, may be learned.
      where: rows that count, as anchors and as candidates.
      segments: one id per row, with the same meaning on all devices; only rows with
        equal ids are pairs.
      extra: more candidates, the same on every device (a queue): a `parallel.Side` with
        embeddings and labels.
      weights: one non-negative weight per anchor.
      form: "out" averages outside of the logarithm, "in" inside.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that have a positive; None gives
        [n].
      memory: bytes of memory of one device, for "auto".
      group_size: devices per group with fast links, a divisor of their number, for a
        ring in two levels.
      tile: columns per tile; None for what suits the backend.

    Raises:
      ValueError: an unknown form.

    References:
      Khosla et al. 2020, arXiv:2004.11362, eq. 2 (out) and eq. 3 (in).

    Examples:
      >>> from contrastive_jax import parallel
      >>> x, labels = jnp.eye(4), jnp.array([0, 0, 1, 1])
      >>> print(f"{parallel.supervised_contrastive(x, labels):.3f}")
      1.099
    """
    loss, options = choose(
        (tiled.supervised_contrastive, ring.supervised_contrastive),
        x,
        axis_name,
        exchange,
        memory,
        group_size,
        tile,
    )
    return loss(
        x,
        labels,
        scale=one_scale(temperature, scale),
        where=where,
        segments=segments,
        extra=extra,
        weights=weights,
        form=form,
        reduce_fn=reduce_fn,
        **options,
    )


def pairwise_sigmoid(
    a: Float[Array, "n d"],
    b: Float[Array, "m d"],
    labels: tuple[Integer[Array, " n"], Integer[Array, " m"]] | None = None,
    *,
    axis_name: collectives.AxisName = None,
    exchange: Exchange = "auto",
    temperature: Scale | None = None,
    scale: Scale | None = None,
    bias: Scale = 0.0,
    where: Bool[Array, " n"] | None = None,
    where_candidates: Bool[Array, " m"] | None = None,
    exclude: tuple[Integer[Array, " n"], Integer[Array, " m"]] | None = None,
    segments: tuple[Integer[Array, " n"], Integer[Array, " m"]] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
    memory: float = 16e9,
    group_size: int | None = None,
    tile: int | None = None,
) -> Float[Array, "..."]:
    """Logistic loss of every pair, matching or not (SigLIP).

        loss_i = sum_j softplus(-y_ij (scale a_i . b_j + bias)),  y = 1 or -1   (nats)

    Args:
      a: anchors.
      b: candidates.
      labels: ids of anchors and of candidates, with the same meaning on all devices;
        pairs with equal ids, not negative, match (y = 1). Row i matches row i of its
        device when None.
      axis_name: device axis; None for one device.
      exchange: "auto", "dense", "tiles" or "ring".
      temperature: divides the inner products; > 0, may be learned.
      scale: multiplies them, instead of a temperature; > 0, may be learned.
      bias: added to every score; may be learned.
      where: anchors that count.
      where_candidates: candidates that count.
      exclude: ids of anchors and of candidates; pairs with equal ids that do not match
        are left out.
      segments: ids of anchors and of candidates; only pairs with equal ids count.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` over anchors (the published form divides by the number of
        anchors, not of pairs) or `jnp.sum`; None gives [n].
      memory: bytes of memory of one device, for "auto".
      group_size: devices per group with fast links, a divisor of their number, for a
        ring in two levels.
      tile: columns per tile; None for what suits the backend.

    References:
      Zhai et al. 2023, arXiv:2303.15343, section 3.2; over devices, section 3.3.

    Examples:
      >>> from contrastive_jax import parallel
      >>> a = jnp.eye(2)
      >>> print(f"{parallel.pairwise_sigmoid(a, a, scale=10.0, bias=-5.0):.4f}")
      0.0134
    """
    loss, options = choose(
        (tiled.pairwise_sigmoid, ring.pairwise_sigmoid),
        b,
        axis_name,
        exchange,
        memory,
        group_size,
        tile,
    )
    return loss(
        a,
        b,
        labels,
        scale=one_scale(temperature, scale),
        bias=bias,
        where=where,
        where_candidates=where_candidates,
        exclude=exclude,
        segments=segments,
        weights=weights,
        reduce_fn=reduce_fn,
        **options,
    )
