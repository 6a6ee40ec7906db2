"""Many devices: one step under three mappers, collectives, and losses that scale."""

from contrastive_jax.parallel.collectives import (
    all_gather,
    axis_size,
    example_keys,
    global_rows,
    log_mean_exp,
    pmean,
    psum,
    value_and_grad,
)
from contrastive_jax.parallel.exchange import sigmoid, two_way_info_nce
from contrastive_jax.parallel.grad_cache import (
    cached_value_and_grad,
    check_encoders,
)
from contrastive_jax.parallel.mapper import (
    MAPPERS,
    SHARDED,
    check_batch,
    choose_devices,
    data_parallel,
    lower_abstract,
    make_mesh,
)
from contrastive_jax.parallel.ring import (
    choose_exchange,
    ring_info_nce,
    ring_nt_xent,
    ring_sigmoid,
    ring_supervised_contrastive,
    ring_two_way_info_nce,
)
from contrastive_jax.parallel.tiled import (
    tiled_info_nce,
    tiled_logsumexp,
    tiled_nt_xent,
    tiled_sigmoid,
    tiled_supervised_contrastive,
    tiled_two_way_info_nce,
)
from contrastive_jax.parallel.tiles import Side

__all__ = [
    "MAPPERS",
    "SHARDED",
    "Side",
    "all_gather",
    "axis_size",
    "cached_value_and_grad",
    "check_batch",
    "check_encoders",
    "choose_devices",
    "choose_exchange",
    "data_parallel",
    "example_keys",
    "global_rows",
    "log_mean_exp",
    "lower_abstract",
    "make_mesh",
    "pmean",
    "psum",
    "ring_info_nce",
    "ring_nt_xent",
    "ring_sigmoid",
    "ring_supervised_contrastive",
    "ring_two_way_info_nce",
    "sigmoid",
    "tiled_info_nce",
    "tiled_logsumexp",
    "tiled_nt_xent",
    "tiled_sigmoid",
    "tiled_supervised_contrastive",
    "tiled_two_way_info_nce",
    "two_way_info_nce",
    "value_and_grad",
]
