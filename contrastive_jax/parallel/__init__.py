"""Many devices: one step under three mappers, collectives, and losses that scale."""

from contrastive_jax.parallel.collectives import (
    axis_size,
    example_keys,
    gather,
    global_rows,
    log_mean_exp,
    mean,
    sum,
    value_and_grad,
)
from contrastive_jax.parallel.mapper import (
    MAPPERS,
    check_batch,
    choose_devices,
    data_parallel,
    make_mesh,
)
from contrastive_jax.parallel.tiled import (
    Side,
    tiled_info_nce,
    tiled_logsumexp,
    tiled_nt_xent,
    tiled_sigmoid,
    tiled_supervised_contrastive,
    tiled_two_way_info_nce,
)

__all__ = [
    "MAPPERS",
    "Side",
    "axis_size",
    "check_batch",
    "choose_devices",
    "data_parallel",
    "example_keys",
    "gather",
    "global_rows",
    "log_mean_exp",
    "make_mesh",
    "mean",
    "sum",
    "tiled_info_nce",
    "tiled_logsumexp",
    "tiled_nt_xent",
    "tiled_sigmoid",
    "tiled_supervised_contrastive",
    "tiled_two_way_info_nce",
    "value_and_grad",
]
