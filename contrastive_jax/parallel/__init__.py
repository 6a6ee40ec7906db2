"""Many devices: one step under three mappers, collectives, and losses that scale."""

from contrastive_jax.parallel.collectives import (
    all_gather,
    axis_size,
    example_keys,
    global_rows,
    log_mean_exp,
    pmean,
    psum,
)
from contrastive_jax.parallel.distributed import is_first, make_mesh, own_rows
from contrastive_jax.parallel.experts import spread_experts
from contrastive_jax.parallel.grad_cache import (
    cached_value_and_grad,
    check_encoders,
)
from contrastive_jax.parallel.losses import (
    choose_exchange,
    info_nce,
    nt_xent,
    pairwise_sigmoid,
    supervised_contrastive,
    two_way_info_nce,
)
from contrastive_jax.parallel.mapper import (
    MAPPERS,
    SHARDED,
    choose_devices,
    data_parallel,
    lower_abstract,
)
from contrastive_jax.parallel.objective import Mean, mean, value_and_grad
from contrastive_jax.parallel.tiled import tiled_logsumexp
from contrastive_jax.parallel.tiles import Side

__all__ = [
    "MAPPERS",
    "SHARDED",
    "Mean",
    "Side",
    "all_gather",
    "axis_size",
    "cached_value_and_grad",
    "check_encoders",
    "choose_devices",
    "choose_exchange",
    "data_parallel",
    "example_keys",
    "global_rows",
    "info_nce",
    "is_first",
    "log_mean_exp",
    "lower_abstract",
    "make_mesh",
    "mean",
    "nt_xent",
    "own_rows",
    "pairwise_sigmoid",
    "pmean",
    "psum",
    "spread_experts",
    "supervised_contrastive",
    "tiled_logsumexp",
    "two_way_info_nce",
    "value_and_grad",
]
