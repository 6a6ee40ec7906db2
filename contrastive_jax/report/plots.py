"""Pictures for reports, as matplotlib figures: curves, bars, maps, image grids.

Figures are made without pyplot, so nothing here depends on a screen or keeps state.
"""

from collections.abc import Mapping, Sequence
from typing import Any

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
    """Bars side by side: one cluster per group, one color per name inside.

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


def precision_recall(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    *,
    chance: float,
) -> Figure:
    """Precision against recall of detectors, one panel per task.

    Args:
      panels: {task: {detector: (precision, recall)}}, as
        `sklearn.metrics.precision_recall_curve` returns them.
      chance: precision of a guess, the share of positives; drawn as a dotted line.
    """
    figure = Figure(figsize=(4.0 * len(panels), 3.6), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, detectors) in zip(grid, panels.items(), strict=True):
        for name, (precision, recall) in detectors.items():
            axes.plot(recall, precision, linewidth=1.4, label=name)
        axes.axhline(chance, color="0.6", linewidth=1, linestyle=":")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("recall")
        axes.set_ylim(0.3 * chance, 1.02)
        axes.grid(alpha=0.3)
    grid[0].set_ylabel("precision")
    grid[0].legend(fontsize=7, loc="lower left")
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
