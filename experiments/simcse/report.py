"""The report of SimCSE: alignment against uniformity, the test sets, training."""

import pathlib

from contrastive_jax import training
from contrastive_jax.report import Report, plots
from contrastive_jax.training import metrics

AXES = ("uniformity", "alignment")


def write(workdir, doc, config, results):
    """Draws report.html."""
    page = Report("SimCSE", doc.partition("\n")[0])
    lines = {n: metrics.read(pathlib.Path(workdir) / n) for n in config.methods}
    colors = plots.method_colors(["start", *lines])
    page.results(results)
    page.section(
        "Alignment against uniformity",
        "Of held-out pairs, while the methods train; lower is better in both. All begin "
        "at the start, the masked language model; the last point has the name.",
    )
    page.figure(plane(results, lines, colors), "alignment against uniformity")
    page.section("Test sets", "Correlations with judgments and retrieval, in percent.")
    page.figure(bars(results, colors), "test sets")
    page.training(lines)
    page.config(training.config_text(config))
    page.write(workdir)


def plane(results, lines, colors):
    """The way of every method, from the common start to its end."""
    start = [results[f"start/{name}"] for name in AXES]
    ways = {}
    for name, logged in lines.items():
        looks = [x for x in logged if f"held_out/{AXES[0]}" in x]
        ways[name] = [
            [begin, *(x[f"held_out/{axis}"] for x in looks)]
            for begin, axis in zip(start, AXES, strict=True)
        ]
    ways = {"start": [[x] for x in start], **ways}
    figure = plots.lines(
        {"": ways}, xlabel="uniformity (nats)", ylabel="alignment", colors=colors
    )
    for name, (x, y) in ways.items():
        figure.axes[0].annotate(name, (x[-1], y[-1]), fontsize=8, color=colors[name])
    return figure


def bars(results, colors):
    """The test sets, one measure of each."""
    keys = [k for k in results if k.endswith(("/spearman", "/mrr"))]
    groups = {}
    for key in keys:
        method, _, measure = key.partition("/")
        groups.setdefault(measure.replace("/", "\n"), {})[method] = results[key]
    return plots.bars(groups, ylabel="percent", colors=colors)
