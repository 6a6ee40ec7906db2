"""Pictures for reports, as matplotlib figures: curves, bars, maps, image grids.

Figures are made without pyplot, so nothing here depends on a screen or keeps state.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter


def curves(
    lines: Sequence[Mapping[str, Any]], names: Sequence[str], *, x: str = "step"
) -> Figure:
    """One panel per metric over the steps.

    Args:
      lines: metrics by name, one mapping per logged step.
      names: the metrics to draw; those that no line holds are left out.
      x: the name of the horizontal axis.
    """
    names = [name for name in names if any(name in line for line in lines)]
    figure = Figure(figsize=(4.5 * max(len(names), 1), 3.2), layout="constrained")
    for i, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), i + 1)
        points = [(line[x], line[name]) for line in lines if name in line]
        axes.plot(*zip(*points, strict=True), linewidth=1.5)
        axes.set_xlabel(x)
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    return figure


def lines(
    panels: Mapping[str, Mapping[str, tuple[Sequence[int | float], Sequence[float]]]],
    *,
    xlabel: str,
    ylabel: str,
    log: str = "",
) -> Figure:
    """Lines through points, one panel per title, one line per name.

    Args:
      panels: {title: {name: (x, y)}}.
      xlabel: what x means, with its unit.
      ylabel: what y means, with its unit.
      log: "x", "y" or "xy" for logarithmic axes.
    """
    figure = Figure(figsize=(4.6 * len(panels), 3.6), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, named) in zip(grid, panels.items(), strict=True):
        for name, (x, y) in named.items():
            axes.plot(x, y, marker="o", markersize=4, label=name)
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
        if "x" in log:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
        if "y" in log:
            axes.set_yscale("log")
            # Plain numbers, between the powers of ten too where the range is short.
            axes.yaxis.set_major_formatter(LogFormatter())
            axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def bars(groups: Mapping[str, Mapping[str, Any]], *, ylabel: str) -> Figure:
    """Bars side by side: one cluster per group, one colour per name inside.

    Args:
      groups: {group: {name: value}}, the same names in every group.
      ylabel: what the height means, with its unit. The axis begins at 0.
    """
    figure = Figure(figsize=(1.5 + 2.4 * len(groups), 3.4), layout="constrained")
    axes = figure.add_subplot()
    names = list(next(iter(groups.values())))
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        heights = [group[name] for group in groups.values()]
        places = np.arange(len(groups)) + (i - (len(names) - 1) / 2) * width
        drawn = axes.bar(places, heights, width * 0.92, label=name)
        axes.bar_label(drawn, fmt="%.3g", fontsize=8, padding=2)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_ylabel(ylabel)
    heights = [x for group in groups.values() for x in group.values()]
    low, high = min(0, *heights), max(0, *heights)
    room = 0.1 * (high - low) or 1  # for the numbers on the bars
    axes.set_ylim(low - room * (low < 0), high + room)
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def embedding_map(
    features: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    title: str = "",
    seed: int = 0,
) -> Figure:
    """A 2-D map of embeddings, coloured by class.

    t-SNE of the normalised rows, started from PCA; below 500 rows PCA alone.

    Args:
      features: [n, d]; a few hundred to a few thousand rows.
      labels: [n] class of each row.
      class_names: one name per class.
      title: what is shown.
      seed: seed of the map.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    features = np.asarray(features, np.float64)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    rows = features / np.maximum(norms, 1e-12)
    if len(rows) < 500:
        flat = PCA(2, random_state=seed).fit_transform(rows)
    else:
        flat = TSNE(init="pca", random_state=seed).fit_transform(rows)
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    colours = matplotlib.colormaps["tab10" if len(class_names) <= 10 else "tab20"]
    for label, name in enumerate(class_names):
        mine = flat[labels == label]
        colour = colours(label % colours.N)
        axes.scatter(*mine.T, s=9, color=colour, label=name, linewidths=0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=7, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_image(axes, image: np.ndarray) -> None:
    """Draws one image ([h, w, 1 or 3] in [0, 1] or uint8) without ticks."""
    image = np.asarray(image)
    image = image / 255 if image.dtype == np.uint8 else np.clip(image, 0, 1)
    axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0)
    axes.set_xticks([])
    axes.set_yticks([])


def neighbours(
    queries: np.ndarray,
    found: np.ndarray,
    query_labels: np.ndarray,
    found_labels: np.ndarray,
    class_names: Sequence[str],
) -> Figure:
    """Query images and, to their right, their nearest neighbours, best first.

    A green frame marks a neighbour of the query's class, a red one any other.

    Args:
      queries: [n, h, w, c] images.
      found: [n, k, h, w, c] images.
      query_labels: [n].
      found_labels: [n, k].
      class_names: one name per class.
    """
    n, k = found.shape[:2]
    figure = Figure(figsize=(0.85 * (k + 1) + 0.9, 0.9 * n), layout="constrained")
    grid = figure.subplots(n, k + 1, squeeze=False)
    for i in range(n):
        draw_image(grid[i][0], queries[i])
        grid[i][0].set_ylabel(
            class_names[query_labels[i]], fontsize=7, rotation=0, ha="right"
        )
        for j in range(k):
            axes = grid[i][j + 1]
            draw_image(axes, found[i, j])
            same = found_labels[i, j] == query_labels[i]
            for spine in axes.spines.values():
                spine.set(color="tab:green" if same else "tab:red", linewidth=2)
    grid[0][0].set_title("query", fontsize=8)
    grid[0][1].set_title("neighbours", fontsize=8, loc="left")
    return figure


def image_rows(rows: Mapping[str, np.ndarray]) -> Figure:
    """Rows of images under each other, each with its name on the left.

    Args:
      rows: {name: [n, h, w, c]}, the same n in every row.
    """
    n = len(next(iter(rows.values())))
    figure = Figure(figsize=(0.85 * n + 1.1, 0.9 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), n, squeeze=False)
    for axes_row, (name, images) in zip(grid, rows.items(), strict=True):
        for axes, image in zip(axes_row, images, strict=True):
            draw_image(axes, image)
        axes_row[0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    return figure


def precision_recall(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
) -> Figure:
    """Precision against recall of detectors, one panel per task, with chance level.

    Args:
      panels: {task: {detector: (scores of usual examples, scores of anomalies)}},
        scores high for anomalies.
    """
    from sklearn.metrics import precision_recall_curve

    figure = Figure(figsize=(4.0 * len(panels), 3.6), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, detectors) in zip(grid, panels.items(), strict=True):
        for name, (usual, strange) in detectors.items():
            truth = np.arange(len(usual) + len(strange)) >= len(usual)
            scores = np.concatenate([usual, strange])
            precision, recall, _ = precision_recall_curve(truth, scores)
            axes.plot(recall, precision, linewidth=1.4, label=name)
        axes.axhline(truth.mean(), color="0.6", linewidth=1, linestyle=":")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("recall")
        axes.set_ylim(0.3 * truth.mean(), 1.02)
        axes.grid(alpha=0.3)
    grid[0].set_ylabel("precision")
    grid[0].legend(fontsize=7, loc="lower left")
    return figure


def pair_map(panels: Mapping[str, tuple[Sequence[str], np.ndarray]]) -> Figure:
    """One number per pair of types, as the upper triangle of a coloured table.

    Args:
      panels: {title: (names of m types, [m (m - 1) / 2] numbers in the order (0, 1),
        (0, 2), ... (1, 2), ...)}.
    """
    figure = Figure(figsize=(4.8 * len(panels), 4.2), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, (names, values)) in zip(grid, panels.items(), strict=True):
        m = len(names)
        table = np.full((m, m), np.nan)
        table[np.triu_indices(m, 1)] = values
        drawn = axes.imshow(table[:-1, 1:], cmap="viridis", vmin=0)
        for i, j in zip(*np.triu_indices(m, 1), strict=True):
            dark = table[i, j] < 0.6 * np.nanmax(table)
            colour = "white" if dark else "black"
            place = dict(ha="center", va="center", fontsize=7, color=colour)
            axes.text(j - 1, i, f"{table[i, j]:.2f}", **place)
        axes.set_xticks(range(m - 1), names[1:], rotation=40, ha="right", fontsize=8)
        axes.set_yticks(range(m - 1), names[:-1], fontsize=8)
        axes.set_title(title, fontsize=10)
        figure.colorbar(drawn, ax=axes, shrink=0.8)
    return figure


def entity_maps(
    panels: Mapping[str, tuple[np.ndarray, np.ndarray, Sequence[str], str]],
    *,
    columns: int = 3,
) -> Figure:
    """The first two principal components of embeddings, one panel per kind of entity.

    Args:
      panels: {title: (embeddings [n, d], label of each [n], names of the labels, what
        the labels are)}. The ten most frequent labels get a colour, others are grey.
      columns: panels side by side.
    """
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    colours = matplotlib.colormaps["tab10"]
    for axes, (title, (x, labels, names, what)) in zip(
        grid, panels.items(), strict=False
    ):
        centred = x - x.mean(axis=0)
        _, _, directions = np.linalg.svd(centred, full_matrices=False)
        flat = np.zeros((len(x), 2))
        flat[:, : min(2, len(directions))] = centred @ directions[:2].T
        common = np.argsort(-np.bincount(labels, minlength=len(names)))[:10]
        other = ~np.isin(labels, common)
        axes.scatter(*flat[other].T, s=8, color="0.75", linewidths=0)
        for k, label in enumerate(common):
            mine = flat[labels == label]
            name = str(names[label])[:18]
            if len(mine):
                axes.scatter(*mine.T, s=10, color=colours(k), label=name, linewidths=0)
        axes.set_title(f"{title} ({len(x)}), colour: {what}", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.legend(fontsize=5.5, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def heat_maps(
    panels: Mapping[str, np.ndarray],
    extent: tuple[float, float, float, float],
    *,
    points: np.ndarray | None = None,
    label: str = "density",
) -> Figure:
    """Functions on a rectangle beside each other in one colour scale, after the data.

    Args:
      panels: {title: [h, w] values, the first row lowest}.
      extent: left, right, bottom and top of the rectangle.
      points: [n, 2] data, shown in a panel of their own.
      label: what the colours mean.
    """
    number = len(panels) + (points is not None)
    figure = Figure(figsize=(2.7 * number + 0.9, 3.0), layout="constrained")
    grid = list(figure.subplots(1, number, squeeze=False)[0])
    top = max(float(np.nanmax(values)) for values in panels.values())
    shown = grid[1:] if points is not None else grid
    for axes, (title, values) in zip(shown, panels.items(), strict=True):
        drawn = axes.imshow(
            values, origin="lower", extent=extent, cmap="magma", vmin=0, vmax=top
        )
        axes.set_title(title, fontsize=9)
    if points is not None:
        grid[0].scatter(*points.T, s=2, alpha=0.5, linewidths=0)
        grid[0].set_aspect("equal")
        grid[0].set_title("test data", fontsize=9)
    for axes in grid:
        axes.set_xlim(extent[:2])
        axes.set_ylim(extent[2:])
        axes.tick_params(labelsize=7)
    figure.colorbar(drawn, ax=grid, shrink=0.8, label=label)
    return figure


def histograms(
    panels: Mapping[str, Mapping[str, np.ndarray]], *, xlabel: str
) -> Figure:
    """Distributions of a score over each other, one panel per kind of score.

    Args:
      panels: {title: {name: [n] values}}. The axis is chosen for the first name of a
        panel, with as much room on both sides; values beyond it stand in the end bins.
      xlabel: what the values are.
    """
    width = 3.6 * len(panels)
    figure = Figure(figsize=(width, 3.2), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, groups) in zip(grid, panels.items(), strict=True):
        low, high = np.quantile(np.asarray(next(iter(groups.values()))), [0.01, 0.99])
        room = max(high - low, 1e-6)
        bins = np.linspace(low - room, high + room, 40)
        for name, values in groups.items():
            axes.hist(
                np.clip(values, bins[0], bins[-1]),
                bins,
                density=True,
                alpha=0.5,
                label=name,
            )
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(xlabel)
        axes.set_yticks([])
        axes.legend(fontsize=7)
    return figure
