"""Maps in the plane: embeddings by class, functions as heat maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from contrastive_jax.report import plots
from contrastive_jax.report.text import literal


def embedding_map(
    points: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    title: str = "",
    marks: np.ndarray | None = None,
    mark_labels: np.ndarray | None = None,
) -> Figure:
    """Scatter plot of embeddings in the plane, a color and a marker for each class.

    Args:
      points: [n, 2], such as `evaluation.plane` makes of embeddings.
      labels: [n] class of each row.
      class_names: one name per class.
      title: title of the plot.
      marks: [m, 2] points that are drawn as stars, such as prototypes.
      mark_labels: [m] class of each; black when None.
    """
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    colors = matplotlib.colormaps["tab10" if len(class_names) <= 10 else "tab20"]
    for label, name in enumerate(class_names):
        members = points[labels == label]
        color = colors(label % colors.N)
        marker = plots.MARKERS[label % len(plots.MARKERS)]
        style = dict(color=color, marker=marker, linewidths=0)
        axes.scatter(*members.T, s=9, label=literal(name), **style)
    if marks is not None:
        fill = "black" if mark_labels is None else colors(mark_labels % colors.N)
        axes.scatter(*marks.T, s=110, marker="*", c=fill, edgecolors="white")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title)
    axes.legend(markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def heat_maps(
    panels: Mapping[str, np.ndarray],
    extent: tuple[float, float, float, float],
    *,
    points: np.ndarray | None = None,
    label: str = "density",
) -> Figure:
    """Heat maps of functions on a rectangle in one color scale, beside the data.

    Colors go with the square root, so that low values show beside high ones.

    Args:
      panels: {title: [h, w] values of 0 or more, the first row lowest}.
      extent: left, right, bottom and top of the rectangle.
      points: [n, 2] data, shown in a panel of their own.
      label: quantity of the color scale.
    """
    number = len(panels) + (points is not None)
    figure, grid = plots.panels_of(number, 2.5, 2.4)
    top = max(float(np.nanmax(values)) for values in panels.values())
    shown = grid[1:] if points is not None else grid
    for axes, (title, values) in zip(shown, panels.items(), strict=True):
        norm = PowerNorm(0.5, vmin=0, vmax=top)
        options: dict[str, Any] = dict(
            origin="lower", extent=extent, cmap="magma_r", norm=norm
        )
        drawn = axes.imshow(values, **options)
        axes.set_title(title)
    if points is not None:
        grid[0].scatter(*points.T, s=2, alpha=0.5, linewidths=0)
        grid[0].set_aspect("equal")
        grid[0].set_title("test data")
    for axes in grid:
        axes.set_xlim(extent[:2])
        axes.set_ylim(extent[2:])
        axes.set_xlabel("$x_1$")
        axes.set_ylabel("$x_2$")
    figure.colorbar(drawn, ax=grid, shrink=0.8, label=label)
    return figure
