"""Pictures of images: neighbors and rows of views, as matplotlib figures."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from contrastive_jax.report.text import literal


def draw_image(axes, image: np.ndarray) -> None:
    """Draws one image ([h, w, 1 or 3] in [0, 1] or uint8) without ticks."""
    image = np.asarray(image)
    image = image / 255 if image.dtype == np.uint8 else np.clip(image, 0, 1)
    axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0)
    axes.set_xticks([])
    axes.set_yticks([])


def neighbors(
    queries: np.ndarray,
    nearest: np.ndarray,
    query_labels: np.ndarray,
    nearest_labels: np.ndarray,
    class_names: Sequence[str],
) -> Figure:
    """Query images and, to their right, their nearest neighbors, best first.

    A green frame marks a neighbor of the query's class, a red one any other.

    Args:
      queries: [n, h, w, c] images.
      nearest: [n, k, h, w, c] images.
      query_labels: [n].
      nearest_labels: [n, k].
      class_names: one name per class.
    """
    n, k = nearest.shape[:2]
    figure = Figure(figsize=(0.85 * (k + 1) + 0.9, 0.9 * n), layout="constrained")
    grid = figure.subplots(n, k + 1, squeeze=False)
    for i in range(n):
        draw_image(grid[i][0], queries[i])
        grid[i][0].set_ylabel(
            literal(str(class_names[query_labels[i]])),
            fontsize=7,
            rotation=0,
            ha="right",
        )
        for j in range(k):
            axes = grid[i][j + 1]
            draw_image(axes, nearest[i, j])
            same = nearest_labels[i, j] == query_labels[i]
            for spine in axes.spines.values():
                spine.set(color="tab:green" if same else "tab:red", linewidth=2)
    grid[0][0].set_title("query", fontsize=8)
    grid[0][1].set_title("neighbors", fontsize=8, loc="left")
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
