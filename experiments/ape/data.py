"""What APE is run on: usual events of a set and anomalous twins of them."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Int

from contrastive_jax.data import DataMissing, events
from contrastive_jax.methods import ape

# Events or their scores by the number of entities changed; 0: usual events.
ByChange = Mapping[int, np.ndarray]


def anomalous_twins(
    usual: Int[np.ndarray, "n m"],
    sizes: Sequence[int] | Int[np.ndarray, " m"],
    *,
    seed: int,
    limit: int,
    most: int = 3,
) -> dict[int, np.ndarray]:
    """Some usual events and, of each, anomalies with 1, 2, ... entities changed.

    Args:
      usual: events to choose from.
      sizes: entities of each type, n_i.
      seed: seed of the choice and of the changes.
      limit: events to choose at most.
      most: entities changed at most, fewer where not so many types have two entities.

    Returns:
      events by number of changed entities; 0 has the usual ones.

    Examples:
      >>> twins = anomalous_twins(np.zeros((9, 3), int), [4, 4, 4], seed=0, limit=5)
      >>> [int((x != 0).sum()) for x in twins.values()]
      [0, 5, 10, 15]
    """
    rows = np.random.default_rng(seed).permutation(len(usual))[:limit]
    chosen, key = usual[rows], jax.random.key(seed)
    twins = {
        c: ape.inject_anomalies(
            jax.random.fold_in(key, c), chosen, sizes, num_changed=c
        )
        for c in range(1, min(most, int(np.sum(np.asarray(sizes) > 1))) + 1)
    }
    return {0: chosen} | {c: np.asarray(x) for c, x in twins.items()}


def load(config):
    """The first of the sets that the config names; all of them have to be there."""
    d = config.data
    first, *_ = [
        events.load(name, d.data_dir, d.train_share, d.test_share) for name in d.sets
    ]
    return first


def usual_and_anomalous(config):
    """Usual events (key 0) and anomalous twins by number of changed entities."""
    logs = load(config)
    usual = events.known_only(getattr(logs, config.eval.split))
    if not len(usual):
        raise DataMissing(
            f"{config.data.sets[0]}: every event of its {config.eval.split} part has "
            "an entity that its training part lacks; nothing to measure"
        )
    return anomalous_twins(
        usual, logs.sizes, seed=config.seed, limit=config.eval.num_events
    )
