"""Maps: marks lie over the points, in the color of their class."""

import numpy as np
from matplotlib.colors import to_hex

from contrastive_jax.report import maps

POINTS, LABELS = np.arange(8.0).reshape(4, 2), np.array([0, 1, 0, 1])


def test_marks_have_the_color_of_their_class():
    options = dict(marks=POINTS[:2] + 0.5, mark_labels=np.array([1, 0]))
    figure = maps.embedding_map(POINTS, LABELS, ["a", "b"], **options)
    first, second, marks = figure.axes[0].collections
    want = [to_hex(x.get_facecolor()[0]) for x in (second, first)]
    assert [to_hex(color) for color in marks.get_facecolor()] == want
    np.testing.assert_array_equal(marks.get_offsets(), POINTS[:2] + 0.5)
    figure = maps.embedding_map(POINTS, LABELS, ["a", "b"], marks=POINTS)
    *_, marks = figure.axes[0].collections
    assert {to_hex(color) for color in marks.get_facecolor()} == {"#000000"}
    assert len(maps.embedding_map(POINTS, LABELS, "ab").axes[0].collections) == 2
