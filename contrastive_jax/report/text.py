"""Pictures of texts: tokens in a row, each colored by a number."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure


def token_map(
    rows: Sequence[tuple[str, Sequence[str], Sequence[float] | np.ndarray]],
    *,
    label: str,
    cmap: str = "Reds",
    center: float | None = None,
) -> Figure:
    """Tokens of texts, one text per row, each on a ground colored by its number.

    Args:
      rows: of each text its title, its tokens and their numbers.
      label: what the numbers are, with their unit.
      cmap: a color map of matplotlib.
      center: number of the middle color, for a map with two ends; from 0 or the
        smallest number to the largest when None.

    Raises:
      ValueError: no text, or not as many numbers as tokens.
    """
    for title, tokens, values in rows:
        if len(tokens) != len(values):
            raise ValueError(
                f"rows: expected {len(tokens)} numbers (tokens) in {title!r}, got "
                f"{len(values)}"
            )
    flat = np.concatenate([np.asarray(v, float) for _, _, v in rows] or [np.zeros(0)])
    if not flat.size:
        raise ValueError("rows: expected a text of a token or more, got none")
    low, high = min(0.0, flat.min()), flat.max()
    if center is not None:
        reach = np.abs(flat - center).max()
        low, high = center - reach, center + reach
    norm = Normalize(low, high if high > low else low + 1)
    colors = matplotlib.colormaps[cmap]
    widths = [[0.8 + 0.62 * max(len(shown(t)), 1) for t in row] for _, row, _ in rows]
    longest = max(sum(w) for w in widths)
    margin = 1.6 + 0.075 * max(len(title) for title, _, _ in rows)
    size = (margin + max(0.125 * longest, 1.0), 1.0 + 0.4 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    place: dict[str, Any] = dict(ha="center", va="center", fontsize=8)
    for y, ((_, tokens, values), wide) in enumerate(zip(rows, widths, strict=True)):
        starts = np.concatenate([[0], np.cumsum(wide)])
        for x, token, value, width in zip(
            starts[:-1], tokens, values, wide, strict=True
        ):
            color = colors(norm(value))
            axes.barh(y, width, 0.8, x, color=color, edgecolor="0.8", linewidth=0.5)
            dark = np.dot(color[:3], (0.3, 0.59, 0.11)) < 0.5
            ink = "white" if dark else "black"
            axes.text(x + width / 2, y, shown(token), color=ink, **place)
    axes.set_yticks(range(len(rows)), [title for title, _, _ in rows], fontsize=8)
    axes.set_xticks([])
    axes.set_xlim(0, 1.01 * longest)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.spines[:].set_visible(False)
    scale = ScalarMappable(norm, colors)
    figure.colorbar(scale, ax=axes, label=label, shrink=0.9, pad=0.02)
    return figure


def shown(token: str) -> str:
    """A token as it is drawn: its blanks can be seen, its dollars are no formula."""
    return literal(token.replace("\n", "\\n")).strip(" ") or "_"


def literal(text: str) -> str:
    """A text of the data as matplotlib has to get it, so that it is no formula."""
    return text.replace("$", r"\$")
