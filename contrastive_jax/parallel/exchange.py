"""Losses between two sets that pick by themselves how the rows of devices meet.

Without a device axis the tiled loss, dense by itself for small batches. With one, the
columns are gathered while that fits into a share of the memory, and go around a ring
beyond (`choose_exchange`). Values and gradients are the same in all of them.
"""

from typing import Literal

from jaxtyping import Array, Float

from contrastive_jax.parallel import collectives, ring, tiled

Exchange = Literal["auto", "gather", "ring"]


def use_ring(
    a: Array, axis_name: collectives.AxisName, exchange: Exchange, memory: float
) -> bool:
    """Whether columns travel around a ring.

    Raises:
      ValueError: an unknown exchange.
    """
    if exchange not in ("auto", "gather", "ring"):
        raise ValueError(f"exchange: expected auto, gather or ring, got {exchange!r}")
    devices = collectives.axis_size(axis_name)
    if exchange != "auto" or devices == 1:
        return exchange == "ring" and axis_name is not None
    batch, width = a.shape[0] * devices, a.shape[1]
    found = ring.choose_exchange(
        batch, width, devices, memory, element_bytes=a.dtype.itemsize
    )
    return found == "ring"


def two_way_info_nce(
    a: Float[Array, "n d"],
    b: Float[Array, "n d"],
    axis_name: collectives.AxisName,
    *,
    scale: tiled.Scale = 1.0,
    exchange: Exchange = "auto",
    memory: float = 16e9,
) -> Float[Array, ""]:
    """`losses.two_way_info_nce` (CLIP) over the pairs of all devices.

        mean_i (info_nce(a_i -> b) + info_nce(b_i -> a)) / 2          (nats)

    Args:
      a: one side of this device's pairs.
      b: the other side.
      axis_name: device axis, or None.
      scale: factor of the inner products, one over the temperature; > 0, may be learnt.
      exchange: "gather" or "ring", or "auto" for `choose_exchange`.
      memory: bytes of memory of one device.

    Returns:
      this device's mean with "gather", the mean over all pairs else: for
      `parallel.value_and_grad` the same.

    Examples:
      >>> from jax import numpy as jnp
      >>> a, b = jnp.eye(3), jnp.array([[0.0, 1.0, 0.0]] * 3)
      >>> print(f"{two_way_info_nce(a, b, None):.4f}")
      1.1584

    References:
      Radford et al. 2021, arXiv:2103.00020, figure 3.
    """
    if use_ring(a, axis_name, exchange, memory):
        return ring.ring_two_way_info_nce(a, b, axis_name, scale=scale)
    if axis_name is None:
        return tiled.tiled_two_way_info_nce(a, b, scale=scale)
    rows = collectives.global_rows(a.shape[0], axis_name)
    every_a, every_b = collectives.all_gather((a, b), axis_name)
    there = tiled.tiled_info_nce(a, every_b, rows, scale=scale)
    back = tiled.tiled_info_nce(b, every_a, rows, scale=scale)
    return (there + back) / 2


def sigmoid(
    a: Float[Array, "n d"],
    b: Float[Array, "n d"],
    axis_name: collectives.AxisName,
    *,
    scale: tiled.Scale = 1.0,
    bias: tiled.Scale = 0.0,
    exchange: Exchange = "auto",
    memory: float = 16e9,
) -> Float[Array, ""]:
    """`losses.pairwise_sigmoid` (SigLIP) over the pairs of all devices.

        mean_i sum_j softplus(-y_ij (scale a_i . b_j + bias)),  y = 1 or -1   (nats)

    Args:
      a: one side of this device's pairs.
      b: the other side.
      axis_name: device axis, or None.
      scale: factor of the inner products; > 0, may be learnt.
      bias: added to every score; may be learnt.
      exchange: "gather" or "ring", or "auto" for `choose_exchange`.
      memory: bytes of memory of one device.

    Returns:
      as `two_way_info_nce`.

    Examples:
      >>> from jax import numpy as jnp
      >>> a = jnp.eye(2)
      >>> print(f"{sigmoid(a, a, None, scale=10.0, bias=-5.0):.4f}")
      0.0134

    References:
      Zhai et al. 2023, arXiv:2303.15343, section 3.2.
    """
    if use_ring(a, axis_name, exchange, memory):
        return ring.ring_sigmoid(a, b, axis_name, scale=scale, bias=bias)
    every_b = collectives.all_gather(b, axis_name)
    rows = collectives.global_rows(a.shape[0], axis_name)
    columns = collectives.global_rows(every_b.shape[0], None)
    return tiled.tiled_sigmoid(a, every_b, (rows, columns), scale=scale, bias=bias)
