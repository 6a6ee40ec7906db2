"""The report of MoE-Sim: F1 by field, while training, similarities, and routes."""

import pathlib
from typing import Any

from matplotlib.figure import Figure

from contrastive_jax import training
from contrastive_jax.report import Report, plots
from contrastive_jax.training import metrics
from experiments.moe import measure


def write(workdir, doc, config, results, encoders, usage):
    """report.html; `usage` are the routes of the learned router, or None."""
    page = Report("MoE-Sim", doc.partition("\n")[0])
    page.section(
        "F1 by field",
        "Pairs told from other texts of the field by their cosine, at the best "
        "threshold; to call all of them pairs gives 66.7 %.",
    )
    colors = plots.method_colors(key.partition("/")[0] for key in results)
    figure = by_field(config, results, colors)
    page.figure(figure, "F1 of every method by field")
    page.results(results)
    place = pathlib.Path(workdir)
    lines = {
        folder.name: metrics.read(folder)
        for folder in sorted(place.iterdir())
        if (folder / metrics.FILE).exists() and folder.name != "start"
    }
    while_training = {
        name: points
        for name, own in lines.items()
        if not name.startswith("only ") and (points := evaluated(own))
    }
    if while_training:
        page.section("While training", "Mean F1 of the fields.")
        panel = {"mean of the fields": while_training}
        labels = dict(xlabel="step", ylabel="F1 (%)")
        page.figure(plots.lines(panel, **labels, colors=colors), "F1 over the steps")
    page.section("Similarities", "Cosines of pairs and of other texts of the field.")
    page.figure(similarities(config, encoders), "cosines of pairs and of others")
    if usage is not None:
        page.section(
            "Routes",
            "Share of each field's tokens that the last layer's learned router gives "
            "to each expert first.",
        )
        page.figure(heat(config, usage), "tokens of fields by experts")
    page.training(lines)
    page.config(training.config_text(config))
    page.write(workdir)


def evaluated(lines) -> Any:
    """Steps and values at which F1 was measured; None without."""
    points = [(x["step"], x["test/f1"]) for x in lines if "test/f1" in x]
    return tuple(zip(*points, strict=True)) if points else None


def by_field(config, results, colors):
    """Points rather than bars: what counts are differences of a few points."""
    methods = list(dict.fromkeys(key.partition("/")[0] for key in results))
    groups = [*config.data.fields, "mean"]
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for i, name in enumerate(methods):
        places = [k + (i - (len(methods) - 1) / 2) * 0.07 for k in range(len(groups))]
        values = [results[f"{name}/{group}"] for group in groups]
        axes.plot(places, values, "o", markersize=6, color=colors[name], label=name)
    axes.axhline(200 / 3, color="0.6", linewidth=1, linestyle="--")
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel("F1 at the best threshold (%)")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def similarities(config, encoders):
    """Cosines of the first field by some methods."""
    names = [n for n in ("untrained", "shared_tags", "moe_tags") if n in encoders]
    panels = {}
    for name in names:
        _, cosines, labels = measure.scored(config, encoders[name], 0)
        panels[f"{name}, {config.data.fields[0]}"] = {
            "pairs": cosines[labels],
            "others": cosines[~labels],
        }
    figure = Figure(figsize=(4.0 * len(panels), 3.0), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, parts) in zip(grid, panels.items(), strict=True):
        for name, values in parts.items():
            axes.hist(values, bins=40, range=(-1, 1), alpha=0.6, label=name)
        axes.set(title=title, xlabel="cosine")
        axes.legend(fontsize=8)
    grid[0].set_ylabel("pairs of texts")
    return figure


def heat(config, usage):
    """Fields by experts."""
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(usage, cmap="magma", vmin=0, vmax=1)
    axes.set_xticks(range(usage.shape[1]))
    axes.set_yticks(range(len(usage)), config.data.fields)
    axes.set_xlabel("expert")
    figure.colorbar(drawn, ax=axes, label="share of the field's tokens")
    return figure
