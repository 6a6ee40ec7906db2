"""What a method carries from step to step: pure init and update on pytrees."""

from contrastive_jax.state.ema import cosine_decay, ema_update
from contrastive_jax.state.queue import (
    ClassQueue,
    Queue,
    class_queue_init,
    class_queue_push,
    queue_filled,
    queue_init,
    queue_push,
)

__all__ = [
    "ClassQueue",
    "Queue",
    "class_queue_init",
    "class_queue_push",
    "cosine_decay",
    "ema_update",
    "queue_filled",
    "queue_init",
    "queue_push",
]
