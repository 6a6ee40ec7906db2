"""The report of DebCSE: meaning against looks, what is drawn, and training."""

import numpy as np
from matplotlib.figure import Figure

from contrastive_jax import training
from contrastive_jax.report import Report, plots
from contrastive_jax.training import metrics

LABELS = {
    "spearman": "rank correlation with WordNet (%)",
    "retrieval": "nearest text of the same topic (%)",
    "overlap": "rank correlation with overlap of tokens",
}
EXAMPLES = 8


def write(workdir, doc, config, results, chances, own):
    """report.html; `chances` are the probabilities of every method's positives."""
    page = Report("DebCSE", doc.partition("\n")[0])
    trained, colors = list(chances), plots.method_colors(chances)
    page.results(results)
    goal = next((x for x in LABELS if f"{trained[0]}/{x}" in results), None)
    if goal:
        page.section(
            "Meaning against looks",
            "Up is meaning; to the left, cosines go less by the words that two texts "
            "share, at fixed grade.",
        )
        page.figure(meaning(results, trained, goal, colors), "meaning against looks")
        page.figure(over_steps(workdir, trained, goal, colors), "validation by step")
    drawn = {}
    for name, probs in chances.items():  # each way to draw once
        if probs is not None and not any(
            np.array_equal(probs, x) for x in drawn.values()
        ):
            drawn[name] = probs
    if drawn:
        page.section(
            "What is drawn",
            "The candidates of all texts by how alike they look, as every method draws "
            "positives from them.",
        )
        page.figure(looks(own, drawn, colors), "surface similarity of positives")
        if own.tokenizer is not None:
            page.table(["text", *drawn], examples(own, drawn))
    page.training({name: metrics.read(f"{workdir}/{name}") for name in trained})
    page.config(training.config_text(config))
    page.write(workdir)


def meaning(results, trained, goal, colors):
    """A named point for each method."""
    figure = Figure(figsize=(5.2, 3.8), layout="constrained")
    axes = figure.subplots()
    for name in trained:
        x, y = results[f"{name}/overlap"], results[f"{name}/{goal}"]
        axes.plot(x, y, "o", color=colors[name], label=name)
    axes.set(xlabel=LABELS["overlap"], ylabel=LABELS[goal])
    axes.margins(0.12)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def over_steps(workdir, trained, goal, colors):
    """Both measures of the validation pairs while the methods are trained."""
    panels = {}
    for key in (goal, "overlap"):
        panels[LABELS[key]] = named = {}
        for name in trained:
            lines = metrics.read(f"{workdir}/{name}")
            points = [(x["step"], x[f"validation/{key}"]) for x in lines if has(x, key)]
            named[name] = tuple(zip(*points, strict=True)) if points else ((), ())
    return plots.lines(panels, xlabel="step", ylabel="validation pairs", colors=colors)


def has(line, key):
    """Whether a logged line holds a measure of the validation pairs."""
    return f"validation/{key}" in line


def looks(own, drawn, colors):
    """Distribution of the surface similarity of the positives that are drawn."""
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    surface = own.candidates["positives"].surface
    bins = np.linspace(0, max(float(np.quantile(surface, 0.999)), 0.05), 26)
    for name, probs in drawn.items():
        values = surface[: len(probs)].ravel()
        share, _ = np.histogram(values, bins, weights=probs.ravel() / len(probs))
        axes.stairs(share, bins, color=colors[name], linewidth=1.6, label=name)
    axes.set(xlabel="surface similarity to the anchor", ylabel="share of positives")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def examples(own, drawn):
    """Texts with the likeliest positive of each method."""
    near = own.candidates["positives"].rows
    rows = []
    for i in range(EXAMPLES):
        picks = [i, *(near[i, np.argmax(probs[i])] for probs in drawn.values())]
        decoded = own.tokenizer.decode_batch([own.train.tokens[j] for j in picks])
        rows.append(decoded)
    return rows
