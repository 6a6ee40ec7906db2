"""What experiments on event logs share: scoring by name, the report of one set."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from contrastive_jax.data import event_sets
from contrastive_jax.evaluation import events, figures
from contrastive_jax.training import report


class Scored(NamedTuple):
    """One scored event.

    Attributes:
      anomaly: minus the unnormalised log-probability; higher is stranger.
      unseen: types whose entity training did not have. What the model says of pairs
        with them is left out, neither for nor against; as usual events have pairs that
        speak for them, leaving some out makes an event stranger.
    """

    anomaly: float
    unseen: tuple[str, ...]


def make_scorer(
    found: event_sets.EventSet, log_prob: Callable[[jax.Array, jax.Array], jax.Array]
) -> Callable[[Sequence[str]], Scored]:
    """`score(event)` for single events, as they come in, given by names of entities.

    The returned function takes one entity of each type, known or not, and raises
    ValueError for another number of them. It is compiled once.

    Args:
      found: the set that the model was trained on.
      log_prob: from events [m] and a mask of what to count [m] to log-probabilities.
    """
    compiled = jax.jit(lambda x: log_prob(x, x >= 0))

    def score(event: Sequence[str]) -> Scored:
        numbers = found.encode([event])[0]
        unseen = [t for t, x in zip(found.types, numbers, strict=True) if x < 0]
        return Scored(-float(compiled(numbers)), tuple(unseen))

    return score


def add_set(
    page: report.Report,
    name: str,
    found: event_sets.EventSet,
    *,
    scores: Mapping[str, events.ByChange],
    embeddings: np.ndarray,
    usual: np.ndarray,
    score: Callable[[Sequence[str]], Scored],
    seed: int,
) -> None:
    """Adds how well every method finds anomalies, and what the embeddings look like.

    Args:
      page: the report.
      name: name of the set.
      found: its events.
      scores: anomaly scores by method and number of changed entities.
      embeddings: of all entities, type after type.
      usual: the usual events that `scores` has at 0 changes.
      score: what `make_scorer` returned.
      seed: seed of the choice of entities that are drawn.
    """
    measured = {method: events.detection(x) for method, x in scores.items()}
    changes = [c for c in next(iter(scores.values())) if c]
    page.section(
        f"{name}: anomalies among events",
        f"{len(usual)} events of the latest part of the set against as many copies of "
        "them with 1, 2 or 3 entities replaced; ROC area / average precision in "
        "percent. The dotted line is chance.",
    )
    page.table(
        ["method", *[f"{c} changed" for c in changes]],
        [
            [m, *[f"{x[f'auc_{c}']:.1f} / {x[f'ap_{c}']:.1f}" for c in changes]]
            for m, x in measured.items()
        ],
    )
    panels = {
        f"{name}, {c} changed": {m: (x[0], x[c]) for m, x in scores.items()}
        for c in changes
    }
    page.figure(
        figures.precision_recall(panels), "precision-recall curves of every method"
    )
    page.section(
        f"{name}: embeddings of the entities of each type",
        "Principal components of learned embeddings of up to 1,500 entities; the "
        "colour is the entity of another type most often seen with it in training.",
    )
    page.figure(
        figures.entity_maps(entity_panels(found, embeddings, seed)),
        "one map of embeddings per type of entity",
    )
    page.section(
        f"{name}: single events by name",
        "The two most usual and the three strangest of the events above, and two of "
        "the test window with an entity that training lacks (shown as ?).",
    )
    order = np.argsort(next(iter(scores.values()))[0])
    later = found.test[(found.test < 0).any(axis=1)]
    rows = []
    for event in [*usual[[*order[:2], *order[-3:]]], *later[:2]]:
        named = [
            names[x] if x >= 0 else "?"
            for names, x in zip(found.entities, event, strict=True)
        ]
        anomaly, unseen = score(named)
        rows.append([", ".join(named), float(anomaly), ", ".join(unseen) or "-"])
    page.table([", ".join(found.types), "anomaly score", "unseen"], rows)


def entity_panels(
    found: event_sets.EventSet, embeddings: np.ndarray, seed: int
) -> dict[str, Any]:
    """What `figures.entity_maps` draws: every type with two entities or more."""
    panels, first = {}, 0
    for i, (name, size) in enumerate(zip(found.types, found.sizes, strict=True)):
        rows = np.random.default_rng(seed).permutation(size)[:1500]
        if size > 1:
            other, partner = events.usual_partners(found.train, found.sizes, i)
            panels[name] = (
                np.asarray(embeddings)[first + rows],
                partner[rows],
                found.entities[other],
                found.types[other],
            )
        first += size
    return panels
