"""Low-rank adapters (LoRA) beside the frozen weights of a decoder.

factors = lora_init(rng, params, rank=8)                    what is trained
weights = lora_merge(params, factors, scale=alpha / rank)   what the decoder takes
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

MLP = ("gate_up", "up", "down")
TARGETS = {"mlp": MLP, "all": (*MLP, "qkv", "out")}


def name_of(path: Any) -> str:
    """Keys of a leaf, as "block_0/down/kernel"."""
    return "/".join(str(entry.key) for entry in path)


def lora_init(
    rng: Key[Array, ""],
    params: Any,
    *,
    rank: int,
    targets: str = "all",
    blocks: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Two factors for each adapted kernel, whose product is 0 at first.

    Args:
      rng: random key.
      params: parameters of a `models.Decoder`, with kernels [i, o].
      rank: inner size r of the factors, at least 1.
      targets: "all" for the projections of attention and of the MLPs (q, k and v have
        one adapter together, and so have gate and up), "mlp" for the latter alone.
      blocks: how many of the last blocks, at least 1; None for all.

    Returns:
      by the name of the kernel `down` [i, r], normal with variance 1 / i, and `up`
      [r, o], zero. Both are float32.

    Raises:
      ValueError: a rank or a number of blocks below 1, other targets, or parameters
        without such a kernel.

    References:
      Hu et al. 2021, arXiv:2106.09685, section 4.1.
    """
    if rank < 1 or (blocks is not None and blocks < 1):
        raise ValueError(
            f"rank, blocks: expected 1 or more, got rank {rank}, blocks {blocks}"
        )
    if targets not in TARGETS:
        raise ValueError(f"targets: expected one of {[*TARGETS]}, got {targets!r}")
    every = [name for name in params if name.startswith("block_")]
    every.sort(key=lambda name: int(name.removeprefix("block_")))
    last, factors = every if blocks is None else every[-blocks:], {}
    for path, kernel in jax.tree_util.tree_leaves_with_path(params):
        keys = name_of(path).split("/")
        if keys[0] in last and keys[-2] in TARGETS[targets] and kernel.ndim == 2:
            rng, own = jax.random.split(rng)
            inputs, outputs = kernel.shape
            down = jax.random.normal(own, (inputs, rank)) / inputs**0.5
            factors["/".join(keys)] = {"down": down, "up": jnp.zeros((rank, outputs))}
    if not factors:
        raise ValueError(
            f"params: expected kernels {TARGETS[targets]} in blocks of a decoder, got "
            f"{[*params]}"
        )
    return factors


def lora_merge(
    params: Any, factors: dict[str, dict[str, Any]], *, scale: float = 1.0
) -> Any:
    """Parameters with scale * down @ up added to each adapted kernel.

    Args:
      params: the frozen ones.
      factors: of some of their kernels, see `lora_init`; gradients go to these.
      scale: weight of the product, the paper's alpha / r.

    Returns:
      a tree like `params`, of the same dtypes.

    Raises:
      ValueError: factors of a kernel that is not there.
    """
    names = {name_of(p) for p, _ in jax.tree_util.tree_leaves_with_path(params)}
    if not factors.keys() <= names:
        raise ValueError(f"factors: no kernels {sorted(factors.keys() - names)}")

    def add(path, x):
        own = factors.get(name_of(path))
        if own is None:
            return x
        return x + (scale * own["down"] @ own["up"]).astype(x.dtype)

    return jax.tree_util.tree_map_with_path(add, params)
