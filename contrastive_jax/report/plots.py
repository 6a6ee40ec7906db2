"""Plots for reports, as matplotlib figures: curves, lines, bars, histograms.

Figures are made without pyplot, so nothing here depends on a screen or keeps state. In
a figure a name has one color in all panels. For one color in all figures of a report,
call `method_colors` once with the names of all methods and hand the result to each
plot.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, NullLocator

# With more measured points than these an axis has matplotlib's ticks.
MOST_TICKS = 12

Colors = Mapping[str, str]


def method_colors(names: Iterable[str]) -> dict[str, str]:
    """A color for each name, all different, by the order of the alphabet.

    The same names have the same colors in whatever order they come.

    Args:
      names: methods of a report, or other things that are compared; may repeat.

    Examples:
      >>> method_colors(["nce", "ebm", "nce"])
      {'ebm': '#1f77b4', 'nce': '#ff7f0e'}
    """
    ordered = sorted(set(names))
    if len(ordered) <= 10:
        palette = matplotlib.color_sequences["tab10"]
    elif len(ordered) <= 20:
        palette = matplotlib.color_sequences["tab20"]
    else:
        spread = np.linspace(0, 1, len(ordered))
        palette = matplotlib.colormaps["turbo"](spread)
    return {name: to_hex(c) for name, c in zip(ordered, palette, strict=False)}


def colors_of(panels: Iterable[Iterable[str]], colors: Colors | None) -> Colors:
    """The given colors, or those of all names in the panels."""
    if colors is not None:
        return colors
    return method_colors(name for names in panels for name in names)


def add_legend(axes, **options) -> None:
    """A legend of the named artists; none where there is no name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**options)


def measured_ticks(axes, values: Sequence[int | float], *, log: bool = False) -> None:
    """Ticks of the horizontal axis at the measured values, if these are few.

    Each value has a tick; labels that would run into the one before are left out.
    """
    places = sorted({float(x) for x in values})
    if not 1 <= len(places) <= MOST_TICKS:
        return
    at = [math.log(x) for x in places] if log else places
    room = 0.07 * (at[-1] - at[0])
    labels, last = [], -math.inf
    for place, value in zip(at, places, strict=True):
        free = place - last >= room
        labels.append(f"{value:g}" if free else "")
        last = place if free else last
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(places, labels)


def curves(
    lines: Sequence[Mapping[str, Any]], names: Sequence[str], *, x: str = "step"
) -> Figure:
    """Training curves: one panel per metric over the steps.

    Args:
      lines: metrics by name, one mapping per logged step.
      names: metrics to draw.
      x: name of the horizontal axis.

    Raises:
      ValueError: a name that no line holds.
    """
    known = {name: None for line in lines for name in line}
    for name in (x, *names):
        if name not in known:
            raise ValueError(f"names: expected among {', '.join(known)}, got {name!r}")
    figure = Figure(figsize=(4.5 * max(len(names), 1), 3.2), layout="constrained")
    for i, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), i + 1)
        steps, values = zip(
            *[(line[x], line[name]) for line in lines if name in line], strict=True
        )
        axes.plot(steps, values, linewidth=1.5)
        measured_ticks(axes, steps)
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
    colors: Colors | None = None,
) -> Figure:
    """Lines through measured points, one panel per title, one line per name.

    Where the points have few different x, each has a tick. More than four names stand
    beside the panels.

    Args:
      panels: {title: {name: (x, y)}}.
      xlabel: quantity on the horizontal axis, with its unit.
      ylabel: quantity on the vertical axis, with its unit.
      log: "x", "y" or "xy" for logarithmic axes.
      colors: color of each name; see `method_colors`.
    """
    colors = colors_of(panels.values(), colors)
    # Many names would hide points.
    beside = dict(loc="upper left", bbox_to_anchor=(1, 1)) if len(colors) > 4 else {}
    width = 6 if beside else 4.6
    figure = Figure(figsize=(width * len(panels), 3.6), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, named) in zip(grid, panels.items(), strict=True):
        for name, (x, y) in named.items():
            color = colors.get(name)
            axes.plot(x, y, marker="o", markersize=4, label=name, color=color)
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
        if "x" in log:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
        measured_ticks(
            axes, [float(v) for x, _ in named.values() for v in x], log="x" in log
        )
        if "y" in log:
            axes.set_yscale("log")
            # Plain numbers, between the powers of ten too where the range is short.
            axes.yaxis.set_major_formatter(LogFormatter())
            axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
        axes.grid(alpha=0.3)
        add_legend(axes, fontsize=8, **beside)
    return figure


def bars(
    groups: Mapping[str, Mapping[str, Any]],
    *,
    ylabel: str,
    colors: Colors | None = None,
) -> Figure:
    """Grouped bars: one cluster per group, one color per name.

    Args:
      groups: {group: {name: value}}, the same names in every group.
      ylabel: quantity on the vertical axis, with its unit. The axis begins at 0.
      colors: color of each name; see `method_colors`.
    """
    colors = colors_of(groups.values(), colors)
    figure = Figure(figsize=(1.5 + 2.4 * len(groups), 3.4), layout="constrained")
    axes = figure.add_subplot()
    names = list(next(iter(groups.values())))
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        heights = [group[name] for group in groups.values()]
        places = np.arange(len(groups)) + (i - (len(names) - 1) / 2) * width
        color = colors.get(name)
        drawn = axes.bar(places, heights, width * 0.92, label=name, color=color)
        axes.bar_label(drawn, fmt="%.3g", fontsize=8, padding=2)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_ylabel(ylabel)
    heights = [x for group in groups.values() for x in group.values()]
    low, high = min(0, *heights), max(0, *heights)
    room = 0.1 * (high - low) or 1  # for the numbers on the bars
    axes.set_ylim(low - room * (low < 0), high + room)
    add_legend(axes, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def precision_recall(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    *,
    chance: float,
    colors: Colors | None = None,
) -> Figure:
    """Precision-recall curves of detectors, one panel per task.

    Args:
      panels: {task: {detector: (precision, recall)}}, as
        `sklearn.metrics.precision_recall_curve` returns them.
      chance: precision of a random detector (fraction of positives), a dotted line.
      colors: color of each detector; see `method_colors`.
    """
    colors = colors_of(panels.values(), colors)
    figure = Figure(figsize=(4.0 * len(panels), 3.6), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, detectors) in zip(grid, panels.items(), strict=True):
        for name, (precision, recall) in detectors.items():
            color = colors.get(name)
            axes.plot(recall, precision, linewidth=1.4, label=name, color=color)
        axes.axhline(chance, color="0.6", linewidth=1, linestyle=":", label="chance")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("recall")
        axes.set_ylim(0.3 * chance, 1.02)
        axes.grid(alpha=0.3)
    grid[0].set_ylabel("precision")
    add_legend(grid[0], fontsize=7, loc="lower left")
    return figure


def histograms(
    panels: Mapping[str, Mapping[str, np.ndarray]],
    *,
    xlabel: str,
    colors: Colors | None = None,
) -> Figure:
    """Overlaid histograms of a score, one panel per title.

    Args:
      panels: {title: {name: [n] values}}. The axis spans three times the range of the
        first name of a panel (1 % to 99 %), but ends where all values end; values
        beyond it are in the outermost bins.
      xlabel: the score, with its unit.
      colors: color of each name; see `method_colors`.
    """
    colors = colors_of(panels.values(), colors)
    width = 3.6 * len(panels)
    figure = Figure(figsize=(width, 3.2), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, groups) in zip(grid, panels.items(), strict=True):
        low, high = np.quantile(np.asarray(next(iter(groups.values()))), [0.01, 0.99])
        room = max(high - low, 1e-6)
        every = np.concatenate([np.ravel(values) for values in groups.values()])
        low, high = max(low - room, every.min()), min(high + room, every.max())
        bins = np.linspace(low, max(high, low + 1e-6), 40)
        for name, values in groups.items():
            axes.hist(
                np.clip(values, bins[0], bins[-1]),
                bins,
                density=True,
                alpha=0.5,
                label=name,
                color=colors.get(name),
            )
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(xlabel)
        axes.set_yticks([])
        add_legend(axes, fontsize=7)
    grid[0].set_ylabel("density")
    return figure
