"""Maps of tokens: one cell per token, coloured by its number."""

import matplotlib
import numpy as np
import pytest

from contrastive_jax.report import text


def test_cells_and_their_colors():
    rows = [("one", ["a", " bc", "\n"], [0.0, 0.5, 1.0]), ("two", ["$x$"], [1.0])]
    figure = text.token_map(rows, label="nats")
    axes = figure.axes[0]
    cells = [bar.patches[0].get_facecolor() for bar in axes.containers]
    reds = matplotlib.colormaps["Reds"]
    np.testing.assert_allclose(cells, [reds(0.0), reds(0.5), reds(1.0), reds(1.0)])
    assert [t.get_text() for t in axes.texts] == ["a", "bc", "\\n", r"\$x\$"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["one", "two"]
    figure.canvas.draw()


def test_a_middle():
    rows = [("one", ["a", "b"], [-1.0, 3.0])]
    axes = text.token_map(rows, label="nats", cmap="RdBu", center=0.0).axes[0]
    cells = [bar.patches[0].get_facecolor() for bar in axes.containers]
    colors = matplotlib.colormaps["RdBu"]
    np.testing.assert_allclose(cells, [colors(1 / 3), colors(1.0)])


def test_what_is_refused():
    with pytest.raises(
        ValueError, match=r"^rows: expected 1 numbers \(tokens\) in 'x'"
    ):
        text.token_map([("x", ["a"], [1.0, 2.0])], label="")
    with pytest.raises(ValueError, match=r"^rows: expected a text of a token or more"):
        text.token_map([], label="")
