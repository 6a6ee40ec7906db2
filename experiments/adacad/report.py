"""The report of AdaCAD: accuracy over strengths, divergences, maps of tokens."""

import pathlib

import numpy as np
from matplotlib.figure import Figure

from contrastive_jax import training
from contrastive_jax.report import Report, plots, text
from contrastive_jax.training import metrics
from experiments.adacad import data, measure

ADAPTIVE = ("coiecd", "adacad", "adacad_bits")


def write(workdir, doc, config, language, queries, answers, results):
    """Draws report.html."""
    page = Report("AdaCAD", doc.partition("\n")[0])
    kinds = [kind for kind in data.KINDS if f"greedy/{kind}" in results]
    page.section(
        "Accuracy",
        f"{len(queries)} questions, in percent. Right is what the context says in a "
        "conflict, and the fact elsewhere. memory: without the context.",
    )
    page.results({k: x for k, x in results.items() if "divergence" not in k})
    page.figure(over_strengths(results, config.decode.strengths, kinds), "accuracy")
    shown = [*kinds, "mean"] if len(kinds) > 1 else kinds
    page.figure(bars(results, shown), "bars: accuracy of every rule on every kind")
    page.section(
        "Divergence",
        "Jensen-Shannon divergence of the next-token distributions with and without "
        "the context, before the first token of the answer: the strength of AdaCAD.",
    )
    by_kind = {k: [q.kind == k for q in queries] for k in kinds}
    panels = {
        "all questions": {
            k: answers.divergence[np.array(x)] for k, x in by_kind.items()
        }
    }
    page.figure(plots.histograms(panels, xlabel="JSD (nats)"), "histograms of the JSD")
    page.table(
        ["kind", "mean JSD (nats)"], [[k, results[f"divergence/{k}"]] for k in kinds]
    )
    page.section(
        "Divergence per token",
        "Along what AdaCAD answered; the same question with contexts of each kind.",
    )
    firsts = [[q for q in queries if q.kind == kind][:3] for kind in kinds]
    some = [q for triple in zip(*firsts, strict=False) for q in triple]
    written = measure.examples(config, language, some)
    page.figure(
        token_maps(language, some, written["adacad"]), "tokens colored by the JSD"
    )
    page.section("Answers", "What every rule writes.")
    rows = [
        [q.kind, q.context, q.answer, *(x[i].strip() for x in written.values())]
        for i, q in enumerate(some)
    ]
    page.table(["kind", "prompt", "right", *written], rows)
    folder = pathlib.Path(workdir) / "knowledge"
    if folder.exists():
        page.training({"knowledge base": metrics.read(folder)})
    page.config(training.config_text(config))
    return page.write(workdir)


def over_strengths(results, strengths, kinds):
    """CAD over its strengths, other rules as lines across, one panel per kind."""
    panels = [*kinds, "mean"] if len(kinds) > 1 else kinds
    colors = plots.method_colors(shown_rules(results))
    figure = Figure(figsize=(3.4 * len(panels) + 0.6, 3.4), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    places = range(len(strengths) + 1)
    for axes, kind in zip(grid, panels, strict=True):
        names = ["greedy", *(f"cad_{s:g}" for s in strengths)]
        y = [results[f"{name}/{kind}"] for name in names]
        axes.plot(places, y, marker="o", color="black", label="CAD (0: greedy)")
        for name, style in zip(ADAPTIVE, (":", "-", "--"), strict=True):
            value = results[f"{name}/{kind}"]
            axes.axhline(value, color=colors[name], linestyle=style, label=name)
        axes.set(title=kind, xlabel="strength of CAD", ylim=(-3, 103))
        axes.set_xticks(places, [f"{s:g}" for s in (0, *strengths)])
        axes.grid(alpha=0.3)
    grid[0].set_ylabel("accuracy (%)")
    grid[0].legend(fontsize=7)
    return figure


def shown_rules(results):
    """The rules of the bars; of CAD the strengths that its paper uses."""
    names = [key.removesuffix("/mean") for key in results if key.endswith("/mean")]
    usual = ("cad_0.5", "cad_1")
    return [n for n in names if n in usual or not n.startswith("cad_")]


def bars(results, kinds):
    """Every rule on every kind."""
    names = shown_rules(results)
    groups = {k: {n: round(results[f"{n}/{k}"], 1) for n in names} for k in kinds}
    figure = plots.bars(groups, ylabel="accuracy (%)")
    figure.set_size_inches(2.4 + 2.6 * len(kinds), 4.0)
    return figure


def token_maps(language, queries, texts):
    """JSD before each token of texts that were written."""
    found = measure.divergence_by_token(language, queries, [t or "?" for t in texts])
    rows = [
        (f"{q.alone.rpartition('. ')[2]} ({q.kind})", tokens, values)
        for q, (tokens, values) in zip(queries, found, strict=True)
    ]
    return text.token_map(rows, label="JSD (nats)")
