"""What experiments on event logs share: scoring by name, the report of one set."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from contrastive_jax.data import events
from contrastive_jax.report import Report, plots
from contrastive_jax.report.text import literal
from experiments.ape import measure
from experiments.ape.data import ByChange


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
    found: events.EventSet, log_prob: Callable[[jax.Array, jax.Array], jax.Array]
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
    page: Report,
    name: str,
    found: events.EventSet,
    *,
    scores: Mapping[str, ByChange],
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
    measured = {method: measure.detection(x) for method, x in scores.items()}
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
        f"{name}, {c} changed": {
            m: measure.precision_recall(x, c) for m, x in scores.items()
        }
        for c in changes
    }
    page.figure(
        plots.precision_recall(panels, chance=0.5),
        "precision-recall curves of every method",
    )
    page.section(
        f"{name}: embeddings of the entities of each type",
        "Principal components of learned embeddings of up to 1,500 entities; the "
        "color is the entity of another type most often seen with it in training.",
    )
    page.figure(
        entity_maps(entity_panels(found, embeddings, seed)),
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
    found: events.EventSet, embeddings: np.ndarray, seed: int
) -> dict[str, Any]:
    """What `entity_maps` draws: every type with two entities or more."""
    panels, first = {}, 0
    for i, (name, size) in enumerate(zip(found.types, found.sizes, strict=True)):
        rows = np.random.default_rng(seed).permutation(size)[:1500]
        if size > 1:
            other, partner = measure.usual_partners(found.train, found.sizes, i)
            panels[name] = (
                np.asarray(embeddings)[first + rows],
                partner[rows],
                found.entities[other],
                found.types[other],
                [found.entities[i][row] for row in rows],
            )
        first += size
    return panels


def pair_map(panels: Mapping[str, tuple[Sequence[str], np.ndarray]]) -> Figure:
    """One number per pair of types, as the upper triangle of a colored table.

    Args:
      panels: {title: (names of m types, [m (m - 1) / 2] numbers in the order (0, 1),
        (0, 2), ... (1, 2), ...)}.
    """
    figure, grid = plots.panels_of(len(panels), 3.8, 3.4)
    for axes, (title, (names, values)) in zip(grid, panels.items(), strict=True):
        m = len(names)
        table = np.full((m, m), np.nan)
        table[np.triu_indices(m, 1)] = values
        drawn = axes.imshow(table[:-1, 1:], cmap="viridis", vmin=0)
        for i, j in zip(*np.triu_indices(m, 1), strict=True):
            dark = table[i, j] < 0.6 * np.nanmax(table)
            color = "white" if dark else "black"
            place = dict(ha="center", va="center", color=color)
            axes.text(j - 1, i, f"{table[i, j]:.2f}", **place)
        names = [literal(name) for name in names]
        axes.set_xticks(range(m - 1), names[1:], rotation=40, ha="right")
        axes.set_yticks(range(m - 1), names[:-1])
        axes.set_title(literal(title))
        figure.colorbar(drawn, ax=axes, shrink=0.8)
    return figure


def entity_maps(
    panels: Mapping[
        str, tuple[np.ndarray, np.ndarray, Sequence[str], str, Sequence[str]]
    ],
) -> Figure:
    """The first two principal components of embeddings, one panel per kind of entity.

    Args:
      panels: {title: (embeddings [n, d], label of each [n], names of the labels, what
        the labels are, names of the points)}. The ten most frequent labels of a panel
        have a color and a marker, the same in all panels; others are grey. Up to
        twenty points have their names beside them.
    """
    common = {
        title: np.argsort(-np.bincount(labels, minlength=len(names)))[:10]
        for title, (_, labels, names, *_) in panels.items()
    }
    colors = plots.method_colors(
        str(panels[title][2][label])
        for title, numbers in common.items()
        for label in numbers
    )
    marks = plots.marks_of(colors)
    figure, grid = plots.panels_of(len(panels), 3.8, 3.3)
    for axes, (title, (x, labels, names, what, own)) in zip(
        grid, panels.items(), strict=True
    ):
        centered = x - x.mean(axis=0)
        _, _, directions = np.linalg.svd(centered, full_matrices=False)
        flat = np.zeros((len(x), 2))
        flat[:, : min(2, len(directions))] = centered @ directions[:2].T
        other = ~np.isin(labels, common[title])
        if other.any():
            axes.scatter(*flat[other].T, s=8, color="0.7", label="other", linewidths=0)
        size = 9 if len(x) > 100 else 25
        for label in common[title]:
            mine, name = flat[labels == label], str(names[label])
            style = dict(color=colors[name], marker=marks[name][0], linewidths=0)
            if len(mine):
                axes.scatter(*mine.T, s=size, label=literal(name[:18]), **style)
        for place, name in zip(flat, own if len(x) <= 20 else (), strict=False):
            off = dict(xytext=(4, 3), textcoords="offset points")
            axes.annotate(literal(str(name)[:12]), place, **off)
        axes.set_title(literal(f"{title} ({len(x)}), color: {what}"))
        axes.set_xlabel("component 1")
        axes.set_ylabel("component 2")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.legend(markerscale=1.5, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
