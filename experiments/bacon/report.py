"""The report of a run: accuracies, confusion, estimated and true class sizes."""

import json

import numpy as np
from matplotlib.figure import Figure

from contrastive_jax import training
from contrastive_jax.report import Report, plots
from contrastive_jax.report.record import write_atomic
from contrastive_jax.tasks import images
from contrastive_jax.training import metrics


def read(place, start):
    """The lines logged in a stage, by the steps of the whole run."""
    return [{**line, "step": line["step"] + start} for line in metrics.read(place)]


def save(place, lines):
    """Writes the lines of all stages into one file."""
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    write_atomic(place / metrics.FILE, text)


def write(workdir, doc, config, results, predicted, trained, logged):
    """Writes report.html."""
    summary = doc.partition("\n")[0]
    page = Report(f"BaCon on {config.data.name}", summary)
    names = images.class_names(config.data)
    page.section(
        "Accuracy on test rows",
        "In percent, under one best match of clusters and classes. The test classes "
        "are of equal size; head, medium and tail are thirds of the classes by their "
        "training rows.",
    )
    groups = {
        part: {name: results[f"{name}/{part}"] for name in predicted}
        for part in ("all", "known", "new", "head", "medium", "tail")
    }
    page.figure(
        plots.bars(groups, ylabel="accuracy (%)"), "bars: accuracy of every method"
    )
    page.results(results)
    page.section(
        "Confusion", "Rows are true classes, the known ones first; in percent."
    )
    page.figure(confusion(predicted, names), "confusion matrices after the match")
    page.section(
        "Class sizes", "Training rows of each class and the last estimate of them."
    )
    sizes = {name: given.sizes for name, given in predicted.items() if name in trained}
    page.figure(class_sizes(sizes, names), "estimated and true class sizes")
    images.add_training(page, logged)
    page.config(training.config_text(config))
    return page.write(workdir)


def confusion(predicted, names):
    """One matrix for each method, three beside each other."""
    columns = min(3, len(predicted))
    rows = -(-len(predicted) // columns)
    size = (2.6 * columns + 1.0, 2.7 * rows + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    used, left = list(grid.flat[: len(predicted)]), grid.flat[len(predicted) :]
    for axes, (name, given) in zip(used, predicted.items(), strict=True):
        counts = np.zeros((len(names), len(names)))
        np.add.at(counts, (given.label, given.predicted), 1)
        share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        drawn = axes.imshow(share, vmin=0, vmax=100, cmap="viridis")
        axes.set_title(name, fontsize=9)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
    for axes in left:
        axes.set_axis_off()
    for axes in used[-columns:]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
    figure.supxlabel("matched class", fontsize=9)
    figure.supylabel("true class", fontsize=9)
    figure.colorbar(drawn, ax=list(grid.flat), label="rows of the class (%)")
    return figure


def class_sizes(sizes, names):
    """True sizes as bars, estimates as points."""
    colors = plots.method_colors(sizes)
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(names))
    axes.bar(places, next(iter(sizes.values()))[1], color="0.85", label="true")
    for i, (name, (estimated, _)) in enumerate(sizes.items()):
        shift = 0.14 * (i - (len(sizes) - 1) / 2)
        style = dict(marker="o", linestyle="", markersize=4, color=colors[name])
        axes.plot(places + shift, estimated, label=name, **style)
    axes.set_yscale("log")
    axes.set_xticks(places, names, rotation=30, fontsize=8)
    axes.set_xlabel("class")
    axes.set_ylabel("training rows")
    axes.legend(fontsize=7, ncols=2)
    return figure
