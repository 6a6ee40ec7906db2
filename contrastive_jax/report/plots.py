"""Plots for reports, as matplotlib figures: curves, lines, bars, histograms.

Figures are made without pyplot, so nothing here depends on a screen or keeps state. In
a figure a name has one color, one marker, one line and one hatching in all panels, and
one entry in the legend below them. For one color in all figures of a report, call
`method_colors` once with the names of all methods and hand the result to each plot.
Panels stand in rows that fit the column of a page.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, NullLocator

# With more measured points than these an axis has matplotlib's ticks.
MOST_TICKS = 12
# Inches of the column of a report: a wider figure is shrunk, its letters with it.
WIDTH = 7.6
MARKERS, LINES = "osD^vPX*<>hdp", ("-", "--", "-.", ":")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo", "+++")

Colors = Mapping[str, str]
# x, y and, where it is known, the deviation of each y.
Points = tuple[Sequence[int | float], Sequence[float]]
Spread = tuple[Sequence[int | float], Sequence[float], Sequence[float]]


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


def marks_of(colors: Colors) -> dict[str, tuple[str, Any, str]]:
    """Marker, line and hatching of each name: what tells it without its color.

    Examples:
      >>> marks_of({"ebm": "blue", "nce": "red"})["nce"]
      ('s', '--', '///')
    """
    return {
        name: (
            MARKERS[i % len(MARKERS)],
            LINES[i % len(LINES)],
            HATCHES[i % len(HATCHES)],
        )
        for i, name in enumerate(colors)
    }


def panels_of(
    number: int, width: float, height: float, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure and its panels, as many side by side as the page is wide.

    Args:
      number: panels.
      width: of a panel, in inches; three panels are made to stand in one row.
      height: of a panel, in inches.
      options: of `Figure.subplots`.
    """
    width = min(width, WIDTH / 3) if number == 3 else width
    columns = max(1, min(number, int(WIDTH / width + 1e-6)))
    rows = -(-number // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **options).ravel()
    for spare in grid[number:]:
        spare.set_axis_off()
    return figure, list(grid[:number])


def add_legend(axes: Axes, **options: Any) -> None:
    """A legend of the named artists of a panel; none where there is no name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**options)


def legend_below(figure: Figure) -> None:
    """One legend for all panels, under them: an entry for each name."""
    named: dict[str, Any] = {}
    for axes in figure.axes:
        handles, names = axes.get_legend_handles_labels()
        named |= dict(zip(names, handles, strict=True))
    if named:
        inches = 0.6 + 0.075 * max(map(len, named))
        columns = max(1, min(len(named), int(figure.get_figwidth() / inches)))
        rows = -(-len(named) // columns)
        figure.set_figheight(figure.get_figheight() + 0.2 * rows + 0.1)
        place: dict[str, Any] = dict(
            loc="outside lower center", ncols=columns, frameon=False
        )
        figure.legend(named.values(), named, **place)


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
    lines: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    *,
    x: str = "step",
    chance: Mapping[str, float] | None = None,
) -> Figure:
    """Training curves: one panel per metric over the steps.

    Args:
      lines: metrics by name, one mapping per logged step.
      names: metrics to draw.
      x: name of the horizontal axis.
      chance: values of metrics that a model which knows nothing has; a dotted line.

    Raises:
      ValueError: a name that no line holds.
    """
    known = {name: None for line in lines for name in line}
    for name in (x, *names):
        if name not in known:
            raise ValueError(f"names: expected among {', '.join(known)}, got {name!r}")
    figure, grid = panels_of(max(len(names), 1), 3.8, 2.8)
    for axes, name in zip(grid, names, strict=False):
        steps, values = zip(
            *[(line[x], line[name]) for line in lines if name in line], strict=True
        )
        axes.plot(steps, values, linewidth=1.5)
        measured_ticks(axes, steps)
        if chance and name in chance:
            add_chance(axes, chance[name])
        axes.set_xlabel(x)
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    legend_below(figure)
    return figure


def add_chance(axes: Axes, value: float) -> None:
    """A dotted line where chance is."""
    label = f"chance ({value:.3g})"
    axes.axhline(value, color="0.5", linewidth=1, linestyle=":", label=label)


def lines(
    panels: Mapping[str, Mapping[str, Points | Spread]],
    *,
    xlabel: str,
    ylabel: str,
    log: str = "",
    colors: Colors | None = None,
) -> Figure:
    """Lines through measured points, one panel per title, one line per name.

    Where the points have few different x, each has a tick.

    Args:
      panels: {title: {name: (x, y)}}, or (x, y, deviation of y) for error bars.
      xlabel: quantity on the horizontal axis, with its unit.
      ylabel: quantity on the vertical axis, with its unit.
      log: "x", "y" or "xy" for logarithmic axes.
      colors: color of each name; see `method_colors`.
    """
    colors = colors_of(panels.values(), colors)
    marks = marks_of(colors)
    figure, grid = panels_of(len(panels), 5.6 if len(panels) == 1 else 3.8, 3.2)
    for axes, (title, named) in zip(grid, panels.items(), strict=True):
        for name, (x, y, *spread) in named.items():
            color = colors.get(name)
            marker, line, _ = marks.get(name, ("o", "-", ""))
            style: dict[str, Any] = dict(
                marker=marker, markersize=4, linestyle=line, color=color
            )
            (drawn,) = axes.plot(x, y, label=name, **style)
            for deviation in spread:
                bars: dict[str, Any] = dict(
                    fmt="none", ecolor=drawn.get_color(), capsize=2
                )
                axes.errorbar(x, y, deviation, elinewidth=1, **bars)
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
        if "x" in log:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
        measured_ticks(
            axes, [float(v) for x, *_ in named.values() for v in x], log="x" in log
        )
        if "y" in log:
            axes.set_yscale("log")
            # Plain numbers, between the powers of ten too where the range is short.
            axes.yaxis.set_major_formatter(LogFormatter())
            axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
        axes.grid(alpha=0.3)
    legend_below(figure)
    return figure


def bars(
    groups: Mapping[str, Mapping[str, Any]],
    *,
    ylabel: str,
    colors: Colors | None = None,
    chance: float | None = None,
) -> Figure:
    """Grouped bars: one cluster per group, one color per name.

    Args:
      groups: {group: {name: value}}, the same names in every group; a value may be
        (mean, deviation), which has an error bar.
      ylabel: quantity on the vertical axis, with its unit. The axis begins at 0.
      colors: color of each name; see `method_colors`.
      chance: what guessing gives; a dotted line.
    """
    colors = colors_of(groups.values(), colors)
    marks = marks_of(colors)
    names = list(next(iter(groups.values())))
    room = 0.4 * len(names) + 0.4  # inches of a group
    columns = max(1, min(len(groups), int((WIDTH - 0.7) / room)))
    rows = -(-len(groups) // columns)
    size = (max(3.2, 0.7 + room * columns), 2.6 * rows)
    figure = Figure(figsize=size, layout="constrained")
    pairs = {
        group: {n: np.broadcast_to(x, 2) * (1, np.ndim(x)) for n, x in named.items()}
        for group, named in groups.items()
    }
    every = [m + s * d for g in pairs.values() for m, d in g.values() for s in (-1, 1)]
    low, high = min(0, *every), max(0, *every)
    above = 0.12 * (high - low) or 1  # for the numbers on the bars
    width = 0.8 / len(names)
    for row in range(rows):
        axes = figure.add_subplot(rows, 1, row + 1)
        shown = list(pairs.items())[row * columns : (row + 1) * columns]
        for i, name in enumerate(names):
            heights, spread = zip(*(named[name] for _, named in shown), strict=True)
            places = np.arange(len(shown)) + (i - (len(names) - 1) / 2) * width
            hatch = marks.get(name, ("", "", ""))[2]
            style: dict[str, Any] = dict(
                color=colors.get(name), hatch=hatch, edgecolor="white"
            )
            if any(spread):
                style |= dict(yerr=spread, capsize=2, error_kw=dict(elinewidth=1))
            drawn = axes.bar(places, heights, width * 0.92, label=name, **style)
            axes.bar_label(drawn, fmt="%.3g", fontsize=8, padding=2)
        if chance is not None:
            add_chance(axes, chance)
        axes.set_xticks(range(len(shown)), [group for group, _ in shown])
        axes.set_xlim(-0.6, columns - 0.4)
        axes.set_ylabel(ylabel)
        axes.set_ylim(low - above * (low < 0), high + above)
        axes.spines[["top", "right"]].set_visible(False)
    legend_below(figure)
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
        `sklearn.metrics.precision_recall_curve` returns them. The first detector lies
        over the others.
      chance: precision of a random detector (fraction of positives), a dotted line.
      colors: color of each detector; see `method_colors`.
    """
    colors = colors_of(panels.values(), colors)
    marks = marks_of(colors)
    figure, grid = panels_of(len(panels), 3.7, 3.0)
    for axes, (title, detectors) in zip(grid, panels.items(), strict=True):
        for i, (name, (precision, recall)) in enumerate(detectors.items()):
            color, line = colors.get(name), marks.get(name, ("", "-"))[1]
            style: dict[str, Any] = dict(
                color=color, linestyle=line, zorder=3 if i == 0 else 2
            )
            width = 2.4 if i == 0 else 1.3
            axes.plot(recall, precision, linewidth=width, label=name, **style)
        add_chance(axes, chance)
        axes.set_title(title)
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
        axes.set_ylim(0.3 * chance, 1.02)
        axes.grid(alpha=0.3)
    legend_below(figure)
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
        beyond it are left out, and the axis says how many.
      xlabel: the score, with its unit.
      colors: color of each name; see `method_colors`.
    """
    colors = colors_of(panels.values(), colors)
    marks = marks_of(colors)
    figure, grid = panels_of(len(panels), 3.6, 2.8)
    for axes, (title, groups) in zip(grid, panels.items(), strict=True):
        low, high = np.quantile(np.asarray(next(iter(groups.values()))), [0.01, 0.99])
        room = max(high - low, 1e-6)
        every = np.concatenate([np.ravel(values) for values in groups.values()])
        low, high = max(low - room, every.min()), min(high + room, every.max())
        bins = np.linspace(low, max(high, low + 1e-6), 40)
        for name, values in groups.items():
            values, color = np.ravel(values), colors.get(name)
            line = marks.get(name, ("", "-"))[1]
            counts = np.histogram(values, bins)[0] / (values.size * np.diff(bins))
            axes.stairs(counts, bins, fill=True, alpha=0.3, color=color)
            axes.stairs(counts, bins, label=name, color=color, linestyle=line)
        beyond = np.mean((every < bins[0]) | (every > bins[-1]))
        axes.set_title(title)
        note = f"\n({100 * beyond:.2g} % of all values lie beyond)" if beyond else ""
        axes.set_xlabel(xlabel + note)
        axes.set_ylabel("density")
        axes.set_yticks([])
    legend_below(figure)
    return figure
