"""The report: heat maps of tokens, accuracy of the methods, scores, log-ratios."""

import pathlib

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from contrastive_jax import training
from contrastive_jax.report import Report, plots
from contrastive_jax.training import metrics
from experiments.cdpo import data, measure

DETECTORS = {
    "contrast": "1 - s, contrast of the tuned models",
    "probability": "1 - p, the model's own probability",
    "log_ratio": "log q - log p, without the vocabulary",
}


def token_map(scores, texts, critical, response, row="wrong trace"):
    """Scores of tokens by row, critical tokens framed, the text written in."""
    first = int(np.argmax(response.any(axis=0)))
    last = response.shape[1]
    shown = np.where(response, scores, np.nan)[:, first:last]
    figure = Figure(figsize=(0.62 * shown.shape[1] + 2.2, 0.36 * len(shown) + 1.0))
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    drawn = axes.imshow(shown, cmap="OrRd", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(shown):
        if np.isfinite(value):
            color = "white" if value > 0.6 else "black"
            text = texts[i][first + j]
            axes.text(j, i, text, ha="center", va="center", color=color, fontsize=7)
        if critical[i, first + j]:
            frame = dict(fill=False, edgecolor="black", linewidth=1.6)
            axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, **frame))
    axes.set_xlabel("token of the trace")
    axes.set_ylabel(row)
    axes.set_yticks(range(len(shown)))
    axes.set_xticks([])
    figure.colorbar(drawn, ax=axes, label="1 - s")
    return figure


def write(workdir, doc, config, results, sets, scores):
    """The report of chains."""
    page = Report("cDPO", doc.partition("\n")[0])
    critical = measure.first_wrong(sets.rejected, sets.truth)
    response = data.response(config, sets.rejected)
    page.section(
        "Critical tokens",
        "Wrong traces the base sampled; the frame is the first wrong token, the color "
        "how critical the contrast of the two tuned models calls each. Beside each row "
        "stands the question.",
    )
    few = slice(0, 12)
    texts = [[data.VOCABULARY[t] for t in row[1:]] for row in sets.rejected[few]]
    figure = token_map(scores["contrast"][few], texts, critical[few], response[few])
    first = 2 * config.data.operations + 2
    asked = ["".join(data.VOCABULARY[t] for t in x[:first]) for x in sets.rejected[few]]
    figure.axes[0].set_yticks(range(len(asked)), asked, fontsize=7, family="monospace")
    page.figure(figure, "heat map of critical tokens in wrong traces")
    localization(page, results, scores, critical, response)
    page.section(
        "Accuracy",
        "Greedy answers to test questions. Both preference losses lower the accuracy "
        "of the base here, cDPO much less (README).",
    )
    groups: dict[str, dict[str, float]] = {}
    for key, x in results.items():
        title, _, name = key.partition("/")
        if " steps at " in title:
            groups.setdefault(title, {"base": results["base/accuracy"]})[name] = x
    colors = plots.method_colors({m for group in groups.values() for m in group})
    page.figure(
        plots.bars(groups, ylabel="accuracy", colors=colors),
        "accuracy of the methods by steps and learning rate",
    )
    names = ["base", *(m for m in next(iter(groups.values())) if m != "base")]
    rows = [[m, *(group[m] for group in groups.values())] for m in names]
    page.table(["method", *groups], rows)
    drift(page, config, workdir, colors)
    place, base = pathlib.Path(workdir), f"base_{results['base/steps']}/predict"
    folders = {"base": base, "positive": "positive", "negative": "negative"}
    page.training({m: metrics.read(place / x) for m, x in folders.items()})
    page.config(training.config_text(config))
    page.write(workdir)


def localization(page, results, scores, critical, response):
    """Areas and distributions of the detectors."""
    page.section(
        "Which score finds them",
        "Area under the ROC curve over all tokens of the answers (0.5 is chance), and "
        "the share of answers whose highest score is at a critical token.",
    )
    rows = [
        [f"{name}: {text}", results[f"auc/{name}"], results[f"first/{name}"]]
        for name, text in DETECTORS.items()
    ]
    page.table(["score", "AUC", "highest is critical"], rows)
    measures = {"AUC": "auc", "highest is critical": "first"}
    groups = {
        title: {name: results[f"{key}/{name}"] for name in DETECTORS}
        for title, key in measures.items()
    }
    page.figure(plots.bars(groups, ylabel="AUC, share"), "detectors of critical tokens")
    panels = {
        name: {
            "critical": scores[name][critical & response],
            "others": scores[name][response & ~critical],
        }
        for name in DETECTORS
    }
    page.figure(
        plots.histograms(panels, xlabel="score"), "scores of critical and other tokens"
    )


def drift(page, config, workdir, colors):
    """Log-ratios to the reference over the steps of the last budget."""
    steps, rate = config.tune.num_steps[-1], config.tune.learning_rates[-1]
    panels: dict[str, dict[str, tuple[list, list]]] = {}
    for side in ("chosen", "rejected"):
        panels[f"{side} traces"] = {}
        for name in (m for m in config.methods if m != "sft" and "token" not in m):
            lines = metrics.read(pathlib.Path(workdir) / f"{steps}_{rate:g}" / name)
            values = [line[f"log_ratio_{side}"] for line in lines]
            panels[f"{side} traces"][name] = [line["step"] for line in lines], values
    page.section(
        "Where the probability goes",
        f"Log-ratio of model and reference per trace, {steps} steps at {rate:g}: DPO "
        "pushes all of a rejected trace down, right steps too, and with it the chosen.",
    )
    page.figure(
        plots.lines(
            panels, xlabel="step", ylabel="log-ratio per trace (nats)", colors=colors
        ),
        "log-ratios over the steps of training",
    )


def write_champ(workdir, doc, config, results, sets, scores, language):
    """The report of marked solutions."""
    page = Report("cDPO: CHAMP", doc.partition("\n")[0])
    marked = sets.marked
    page.section(
        "A marked solution",
        "Tokens around the first wrong step as people marked it (framed), by line.",
    )
    for i in range(min(2, len(marked.tokens))):
        page.figure(
            text_map(scores["contrast"][i], marked, i, language), f"solution {i}"
        )
    localization(page, results, scores, marked.critical, marked.response)
    chance = results["first/chance"]
    page.text(f"Of a solution's tokens {chance:.3f} are critical: what chance hits.")
    page.training(
        {m: metrics.read(pathlib.Path(workdir) / m) for m in ("positive", "negative")}
    )
    page.config(training.config_text(config))
    page.write(workdir)


def text_map(scores, marked, i, language, width=12):
    """48 tokens around the start of a marked step, in rows of a few."""
    start = int(np.argmax(marked.critical[i]))
    first = max(start - 2 * width, int(np.argmax(marked.response[i])))
    last = min(first + 4 * width, int(np.flatnonzero(marked.response[i])[-1]) + 1)
    places = np.arange(first, last)
    grid = np.full((4, width), False)
    values, frame = np.zeros((4, width)), grid.copy()
    texts = [["" for _ in range(width)] for _ in range(4)]
    for k, place in enumerate(places):
        at = divmod(k, width)
        grid[at], values[at], frame[at] = True, scores[place], marked.critical[i, place]
        token = language.decode([marked.tokens[i, place + 1]])
        texts[at[0]][at[1]] = token.replace("$", r"\$").replace("\n", "/")[:9]
    return token_map(values, texts, frame, grid, row="line of the solution")
