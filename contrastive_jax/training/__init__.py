"""Training: the state, the loop, checkpoints, metrics and optimisers.

Needs the extra `experiments`.
"""

from contrastive_jax.training.checkpoint import CheckpointError
from contrastive_jax.training.config import config_text
from contrastive_jax.training.loop import NonFinite, fit
from contrastive_jax.training.optim import make_optimizer, warmup_cosine
from contrastive_jax.training.signals import Preempted
from contrastive_jax.training.state import (
    TrainState,
    apply_gradients,
    global_norm,
    init_fields,
)

__all__ = [
    "CheckpointError",
    "NonFinite",
    "Preempted",
    "TrainState",
    "apply_gradients",
    "config_text",
    "fit",
    "global_norm",
    "init_fields",
    "make_optimizer",
    "warmup_cosine",
]
