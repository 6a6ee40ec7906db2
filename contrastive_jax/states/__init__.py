"""State of a method from step to step: pure init and update functions on pytrees.

Updates take the rows of all devices and stop gradients, unless they say otherwise.
Averages are at least float32, whatever the rows are: in half precision they would stand
still. So a state that was made in half precision comes back wider, which `jax.lax.scan`
refuses in its carry: begin with the init functions. A wrong dtype raises TypeError;
shapes that do not fit together, sizes below 1 and a decay outside of [0, 1] raise
ValueError, naming the argument.
"""

from contrastive_jax.states.bank import Bank, bank_init, bank_update
from contrastive_jax.states.center import Center, center_init, center_update
from contrastive_jax.states.ema import (
    cosine_schedule,
    ema_init,
    ema_schedule,
    ema_update,
)
from contrastive_jax.states.prototypes import (
    Prototypes,
    assigned_means,
    prototypes_init,
    prototypes_update,
)
from contrastive_jax.states.queue import (
    ClassQueue,
    Queue,
    class_queue_init,
    class_queue_push,
    queue_filled,
    queue_init,
    queue_push,
)
from contrastive_jax.states.rehearsal import (
    Rehearsal,
    herd_barycenter,
    herd_nearest,
    herd_random,
    rehearsal_init,
    rehearsal_quota,
    rehearsal_rows,
    rehearsal_store,
    rehearsal_trim,
)
from contrastive_jax.states.whitening import (
    Moments,
    batch_moments,
    channel_permutations,
    group_whiten,
    moments_init,
    moments_update,
    shuffled_group_whiten,
    whitening_matrix,
)

__all__ = [
    "Bank",
    "Center",
    "ClassQueue",
    "Moments",
    "Prototypes",
    "Queue",
    "Rehearsal",
    "assigned_means",
    "bank_init",
    "bank_update",
    "batch_moments",
    "center_init",
    "center_update",
    "channel_permutations",
    "class_queue_init",
    "class_queue_push",
    "cosine_schedule",
    "ema_init",
    "ema_schedule",
    "ema_update",
    "group_whiten",
    "herd_barycenter",
    "herd_nearest",
    "herd_random",
    "moments_init",
    "moments_update",
    "prototypes_init",
    "prototypes_update",
    "queue_filled",
    "queue_init",
    "queue_push",
    "rehearsal_init",
    "rehearsal_quota",
    "rehearsal_rows",
    "rehearsal_store",
    "rehearsal_trim",
    "shuffled_group_whiten",
    "whitening_matrix",
]
