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

__all__ = [
    "MAPPERS",
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
    "value_and_grad",
]
