"""The report: families side by side, the long tail, negatives, curves; check of NCE."""

import pathlib

import numpy as np
from matplotlib.figure import Figure

from contrastive_jax import training
from contrastive_jax.report import Report, plots
from contrastive_jax.training import metrics
from experiments.primer import data, measure, model

SHOWN = {
    "rare_ap": "average precision, rare half (%)",
    "few_shot": "few-shot accuracy, unseen labels (%)",
    "zero_shot": "zero-shot accuracy, unseen labels (%)",
}
BANDS = 5
# Whose curves are drawn, where they were trained: one or two of each family.
DRAWN = (
    "cross_entropy",
    "ranking_50",
    "ranking_free",
    "binary_50",
    "input_label",
    "proxy_anchor",
    "input_input_labels",
    "triplet",
    "input_input",
    "non_contrastive",
    "distillation",
    "words",
)


def write(workdir, doc, config, results, by_label, trained):
    """report.html of the comparison."""
    page = Report("Families of contrastive objectives", doc.partition("\n")[0])
    colors = plots.method_colors(by_label)
    page.section(
        "Families",
        "The same encoder, texts and number of steps under each. Rare half: the rarer "
        "half of the labels with training texts. Unseen labels have none; few-shot "
        "compares with the mean of a few texts, zero-shot with the label's own text.",
    )
    page.figure(families(results, by_label, colors), "families side by side")
    page.results(results)
    page.section(
        "The long tail",
        "Average precision by the number of training texts: labels in bands of equal "
        "size, from the rarest.",
    )
    page.figure(tail(config, by_label, colors), "average precision by frequency")
    if any(name.endswith("_50") for name in trained):
        page.section("Negatives", "Sampled labels per text, K.")
        page.figure(by_negatives(results, trained), "measures over negatives")
    runs = {n: metrics.read(pathlib.Path(workdir) / n) for n in trained}
    page.section("While training", "Measured on validation texts and labels.")
    page.figure(curves(runs, colors), "validation measures over steps")
    page.training({name: losses_of(lines) for name, lines in runs.items()})
    page.config(training.config_text(config))
    page.write(workdir)


def losses_of(lines):
    """Lines without what was measured on validation texts."""
    return [{k: x for k, x in line.items() if "/" not in k} for line in lines]


def families(results, names, colors):
    """A row per method, a panel per measure; chance and words as dotted lines."""
    names = list(names)[::-1]
    figure, grid = plots.panels_of(len(SHOWN), 3.8, 0.2 * len(names) + 0.8)
    for axes, (key, label) in zip(grid, SHOWN.items(), strict=True):
        values = [results[f"{name}/{key}"] for name in names]
        rows = np.arange(len(names))
        axes.hlines(rows, 0, values, color="0.85", linewidth=1)
        axes.scatter(values, rows, color=[colors[name] for name in names], zorder=2)
        for row, value in zip(rows, values, strict=True):
            axes.annotate(
                f"{value:.1f}",
                (value, row),
                xytext=(6, -3),
                textcoords="offset points",
                fontsize=8,
            )
        if f"chance/{key}" in results:
            axes.axvline(
                results[f"chance/{key}"], color="0.3", linestyle=":", label="chance"
            )
            axes.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 1))
        axes.set(xlabel=label, xlim=(0, 1.2 * max(values)))
        axes.set_yticks(rows, names)
    return figure


def tail(config, by_label, colors):
    """Mean average precision in bands of labels over their number of texts."""
    counts = data.texts_of(config).counts[::-1]
    places = [round(float(x.mean()), 1) for x in np.array_split(counts, BANDS)]
    drawn = {
        name: (
            places,
            [100 * float(x.mean()) for x in np.array_split(own[::-1], BANDS)],
        )
        for name, own in by_label.items()
        if name in DRAWN
    }
    return plots.lines(
        {"": drawn},
        xlabel="training texts per label (mean of the band)",
        ylabel="average precision (%)",
        log="x",
        colors=colors,
    )


def by_negatives(results, trained):
    """The measures of binary and ranking NCE over K."""
    kinds, found = ("binary", "ranking"), {}
    for key, label in SHOWN.items():
        lines = {}
        for kind in kinds:
            ks = [
                int(n.split("_")[1])
                for n in trained
                if n.startswith(f"{kind}_") and n.split("_")[1].isdigit()
            ]
            lines[kind] = (ks, [results[f"{kind}_{k}/{key}"] for k in ks])
        found[label] = lines
    return plots.lines(found, xlabel="negatives K", ylabel="%", log="x")


def curves(runs, colors):
    """Validation measures of all methods over steps, one panel each."""
    panels = {}
    for key, label in {**SHOWN, "effective_rank": "effective rank"}.items():
        name = f"validation/{key}"
        panels[label] = {
            method: (
                [line["step"] for line in lines if name in line],
                [line[name] for line in lines if name in line],
            )
            for method, lines in runs.items()
            if method in DRAWN
        }
    return plots.lines(panels, xlabel="step", ylabel="", colors=colors)


def write_nce(workdir, doc, config, results, trained, make_model):
    """report.html of the check of NCE."""
    page = Report("Binary and ranking NCE of a known model", doc.partition("\n")[0])
    page.section(
        "Log-ratios",
        "Learned scores of all outcomes in all contexts against the true ones, each "
        "less its context's mean. A scatter off the diagonal is a bias.",
    )
    truth = measure.log_ratios(model.truth_of(config).scores)
    colors = plots.method_colors(trained)
    figure = Figure(figsize=(4 * len(trained), 4), layout="constrained")
    grid = figure.subplots(1, len(trained), sharey=True, squeeze=False)[0]
    for axes, (name, (own, state)) in zip(grid, trained.items(), strict=True):
        scores = measure.outcome_scores(own, state, make_model)
        found = measure.log_ratios(scores)
        axes.plot(truth.ravel(), truth.ravel(), color="0.6", linewidth=1)
        axes.scatter(truth, found, s=8, color=colors[name])
        error = results[f"{name}/log_ratio_error"]
        axes.set(title=f"{name}: mean error {error:.3f}")
        axes.set(xlabel="true log-ratio (nats)")
        axes.grid(alpha=0.3)
    grid[0].set_ylabel("learned log-ratio (nats)")
    page.figure(figure, "learned against true log-ratios")
    page.results(results)
    page.training({n: metrics.read(pathlib.Path(workdir) / n) for n in trained})
    page.config(training.config_text(config))
    page.write(workdir)
