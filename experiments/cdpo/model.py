"""Low-rank adapters beside the weights of a decoder."""

from typing import Any

import jax
import jax.numpy as jnp

MLP = ("gate_up", "up", "down")
ALL = (*MLP, "qkv", "out")
TARGETS = {"mlp": MLP, "all": ALL}


def lora_init(rng: Any, base: Any, settings: Any) -> Any:
    """Two factors for the kernel of each chosen layer, whose product is 0.

    Args:
      rng: random key.
      base: parameters of a `models.Decoder`.
      settings: rank, the inner size of the factors; targets, "mlp" for the projections
        of the MLPs, "all" for attention too; blocks, how many of the last ones.

    References:
      Hu et al. 2021, arXiv:2106.09685, section 4.1.
    """
    rank, targets, blocks = settings.rank, settings.targets, settings.blocks
    names = sorted(
        (x for x in base if x.startswith("block_")), key=lambda x: int(x[6:])
    )
    flat, factors = jax.tree_util.tree_leaves_with_path(base), {}
    for path, kernel in flat:
        keys = [str(k.key) for k in path]
        if (
            keys[0] in names[-blocks:]
            and keys[-2] in TARGETS[targets]
            and kernel.ndim == 2
        ):
            rng, own = jax.random.split(rng)
            down = (
                jax.random.normal(own, (kernel.shape[0], rank)) / kernel.shape[0] ** 0.5
            )
            factors["/".join(keys)] = {
                "down": down,
                "up": jnp.zeros((rank, kernel.shape[1])),
            }
    return factors


def lora_merge(base: Any, factors: Any, scale: float) -> Any:
    """The weights with scale * down @ up added to each adapted kernel."""

    def add(path, x):
        own = factors.get("/".join(str(k.key) for k in path))
        return (
            x if own is None else x + (scale * own["down"] @ own["up"]).astype(x.dtype)
        )

    return jax.tree_util.tree_map_with_path(add, base)
