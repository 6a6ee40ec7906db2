"""One color per name, ticks where something was measured, axes and lines with names."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import StepPatch

from contrastive_jax.report import plots

POINTS = ([1, 4, 64], [3.0, 2.0, 1.0])


def legend_colors(figure):
    """{name: colors of its legend entries in all panels}."""
    colors = {}
    for axes in figure.axes:
        handles, names = axes.get_legend_handles_labels()
        for handle, name in zip(handles, names, strict=True):
            artist = handle[0] if hasattr(handle, "patches") else handle
            face = "edge" if isinstance(artist, StepPatch) else "face"
            color = getattr(artist, "get_color", None)
            color = color or getattr(artist, f"get_{face}color")
            colors.setdefault(name, set()).add(to_hex(color()))
    return colors


@pytest.mark.parametrize("number", [3, 10, 11, 20, 21, 40])
def test_colors_are_different_and_do_not_depend_on_the_order(number):
    names = [f"method {i:02}" for i in range(number)]
    colors = plots.method_colors(names)
    assert set(colors) == set(names) and len(set(colors.values())) == number
    assert plots.method_colors([*names[::-1], names[0]]) == colors


def test_a_name_has_one_color_in_every_figure_of_a_report():
    names = ["ours", "moco", "simclr", "chance level", "clip"]
    colors = plots.method_colors(names)
    parts = [names, names[::-1], names[1:], names[3:]]
    curve = np.array([1.0, 0.5]), np.array([0.0, 1.0])
    lines = {str(i): dict.fromkeys(part, POINTS) for i, part in enumerate(parts)}
    recalls = {str(i): dict.fromkeys(part, curve) for i, part in enumerate(parts)}
    values = {str(i): {n: np.arange(9.0) for n in part} for i, part in enumerate(parts)}
    figures = [
        plots.lines(lines, xlabel="k", ylabel="accuracy", colors=colors),
        plots.lines({"": lines["3"]}, xlabel="k", ylabel="loss", colors=colors),
        plots.bars({"knn": dict.fromkeys(names[2:], 1.0)}, ylabel="%", colors=colors),
        plots.precision_recall(recalls, chance=0.5, colors=colors),
        plots.histograms({"f": {"clip": np.arange(9.0)}}, xlabel="f", colors=colors),
    ]
    for figure in figures:
        drawn = legend_colors(figure)
        drawn = {n: x for n, x in drawn.items() if not n.startswith("chance (")}
        assert drawn == {name: {colors[name]} for name in drawn} and drawn
    # Without colors from outside, one color in all panels of a figure.
    for figure in (
        plots.lines(lines, xlabel="k", ylabel="accuracy"),
        plots.histograms(values, xlabel="f"),
    ):
        assert all(len(drawn) == 1 for drawn in legend_colors(figure).values())


@pytest.mark.parametrize("log", ["", "x", "xy"])
def test_ticks_are_where_something_was_measured(log):
    panels = {"a": {"m": POINTS, "n": ([4, 1000], [1.0, 2.0])}}
    figure = plots.lines(panels, xlabel="steps", ylabel="loss", log=log)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_xticks().tolist() == [1, 4, 64, 1000]
    assert len(axes.get_xticks(minor=True)) == 0
    labels = [x.get_text() for x in axes.get_xticklabels()]
    # On the linear axis the labels of 4 and 64 would run into that of 1.
    assert labels == (["1", "4", "64", "1000"] if log else ["1", "", "", "1000"])


def test_many_points_have_ordinary_ticks():
    x = list(range(1, 101))
    figure = plots.lines({"a": {"m": (x, [1 / v for v in x])}}, xlabel="x", ylabel="y")
    assert len(figure.axes[0].get_xticks()) < 12


def test_every_axis_and_every_line_has_a_name():
    curve = np.array([1.0, 0.5]), np.array([0.0, 1.0])
    figures = [
        plots.curves([{"step": 1, "loss": 2.0}, {"step": 9, "loss": 1.0}], ["loss"]),
        plots.lines({"a": {"m": POINTS, "": POINTS}}, xlabel="x", ylabel="y"),
        plots.lines({"a": {"": POINTS}}, xlabel="x", ylabel="y"),
        plots.precision_recall({"task": {"m": curve}}, chance=0.5),
        plots.histograms({"a": {"m": np.arange(9.0)}}, xlabel="f"),
    ]
    legends = []
    for figure in figures:
        assert all(a.get_xlabel() and a.get_ylabel() for a in figure.axes)
        found = [x.get_text() for legend in figure.legends for x in legend.get_texts()]
        legends.append(found)
    assert legends == [[], ["m"], [], ["m", "chance (0.5)"], ["m"]]


def test_names_are_told_without_their_colors():
    """By marker and line, by hatching: different up to the number there are."""
    names = [str(i) for i in range(7)]
    axes = plots.lines({"": dict.fromkeys(names, POINTS)}, xlabel="", ylabel="").axes[0]
    assert len({x.get_marker() for x in axes.lines}) == len(names)
    drawn = plots.bars({"a": dict.fromkeys(names, 1.0)}, ylabel="").axes[0].containers
    assert len({x[0].get_hatch() for x in drawn}) == len(names)


def test_deviations_are_error_bars():
    named = {"m": ([1, 2], [3.0, 4.0], [0.5, 0.25]), "n": ([1, 2], [3.0, 4.0])}
    (axes,) = plots.lines({"": named}, xlabel="", ylabel="").axes
    (bars,) = (c for c in axes.collections if len(c.get_segments()) == 2)
    assert [s[:, 1].tolist() for s in bars.get_segments()] == [[2.5, 3.5], [3.75, 4.25]]
    figure = plots.bars({"g": {"m": (3.0, 0.5), "n": (1.0, 0.0)}}, ylabel="")
    errors = [c.errorbar for c in figure.axes[0].containers if hasattr(c, "errorbar")]
    ends = [x.lines[2][0].get_segments()[0][:, 1].tolist() for x in errors if x]
    assert ends == [[2.5, 3.5]]


def test_chance_is_a_line_with_its_value():
    lines = [{"step": 1, "loss": 3.0, "norm": 1.0}, {"step": 2, "loss": 2.0, "norm": 1}]
    figure = plots.curves(lines, ["loss", "norm"], chance={"loss": 2.5})
    loss, norm = figure.axes
    assert [x.get_label() for x in loss.lines][1:] == ["chance (2.5)"]
    assert set(loss.lines[1].get_ydata()) == {2.5} and len(norm.lines) == 1
    assert [x.get_text() for x in figure.legends[0].get_texts()] == ["chance (2.5)"]


def test_panels_stand_in_rows_that_fit_a_page():
    named = {str(i): {"m": POINTS} for i in range(5)}
    figure = plots.lines(named, xlabel="x", ylabel="y")
    assert figure.get_figwidth() <= plots.WIDTH
    assert len(figure.axes) == 6 and not figure.axes[-1].axison  # three rows of two
    groups = {str(i): dict.fromkeys("abcdef", 1.0) for i in range(9)}
    figure = plots.bars(groups, ylabel="%")
    assert figure.get_figwidth() <= plots.WIDTH
    ticks = [x.get_text() for a in figure.axes for x in a.get_xticklabels()]
    assert ticks == list(groups)


def test_what_lies_beyond_the_axis_is_told():
    near = np.linspace(0, 1, 90)
    (axes,) = plots.histograms({"": {"a": near, "b": near * 40}}, xlabel="f").axes
    assert "% of all values lie beyond)" in axes.get_xlabel()
    assert plots.histograms({"": {"a": near}}, xlabel="f").axes[0].get_xlabel() == "f"


def test_the_first_detector_lies_over_the_others():
    curve = np.array([1.0, 0.5]), np.array([0.0, 1.0])
    panels = {"": {"ours": curve, "theirs": curve}}
    ours, theirs, _ = plots.precision_recall(panels, chance=0.5).axes[0].lines
    assert ours.zorder > theirs.zorder and ours.get_linewidth() > theirs.get_linewidth()
