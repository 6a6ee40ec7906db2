"""Training: the state, the loop, checkpoints, metrics and optimisers.

Needs the extra `experiments`.
"""

from contrastive_jax.training.checkpoint import CheckpointError
from contrastive_jax.training.config import (
    Checks,
    changed,
    check_variant,
    config_text,
    defaults,
)
from contrastive_jax.training.finite import NonFinite
from contrastive_jax.training.loop import fit
from contrastive_jax.training.observe import observing
from contrastive_jax.training.optim import make_optimizer, warmup_cosine
from contrastive_jax.training.runs import Trained, map_step, train, train_each
from contrastive_jax.training.shapes import check_step
from contrastive_jax.training.signals import Preempted
from contrastive_jax.training.state import (
    TrainState,
    apply_gradients,
    apply_model,
    global_norm,
    init_fields,
)

__all__ = [
    "CheckpointError",
    "Checks",
    "NonFinite",
    "Preempted",
    "TrainState",
    "Trained",
    "apply_gradients",
    "apply_model",
    "changed",
    "check_step",
    "check_variant",
    "config_text",
    "defaults",
    "fit",
    "global_norm",
    "init_fields",
    "make_optimizer",
    "map_step",
    "observing",
    "train",
    "train_each",
    "warmup_cosine",
]
