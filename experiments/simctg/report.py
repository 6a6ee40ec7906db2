"""The report of SimCTG: diversity against likelihood, isotropy, maps of penalties."""

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from contrastive_jax import training
from contrastive_jax.report import Report, plots
from contrastive_jax.training import metrics
from experiments.simctg import measure

SHOWN = ("human", *measure.RULES)


def write(workdir, config, results, layers, texts, languages, doc):
    """report.html."""
    page = Report("SimCTG and contrastive search", doc.partition("\n")[0])
    page.results({k: v for k, v in results.items() if " " not in k})
    page.section(
        "Diversity against likelihood",
        "Diversity (share of n-grams that are not repeated) and mean log-probability "
        "under the model itself. Contrastive search over alpha where several points "
        "are joined.",
    )
    page.figure(likelihoods(results, texts), "diversity against likelihood")
    page.results({k: v for k, v in results.items() if " " in k})
    page.section(
        "Isotropy",
        "1 less the mean cosine between the tokens of a text, by layer: 0 are the "
        "embeddings, the last one is what contrastive search looks at.",
    )
    page.figure(isotropies(layers), "isotropy of every layer")
    page.section(
        "Degeneration penalty",
        "Largest cosine of each token with an earlier one, which contrastive search "
        "subtracts; the first prompt of each model.",
    )
    for name, (found, prompts) in texts.items():
        language = languages[name]
        page.text(f"{name}: {language.decode(prompts[0])} ...")
        page.figure(
            token_maps(language, {rule: found[rule] for rule in SHOWN}),
            f"token map of the degeneration penalty, {name}",
        )
    lines = {name: metrics.read(f"{workdir}/{name}") for name in ("mle", "simctg")}
    page.training(lines)
    page.config(training.config_text(config))
    page.write(workdir)


def likelihoods(results, texts):
    """Every rule of every model as a point; contrastive search as a line over alpha."""
    panels = {}
    for name, (found, _) in texts.items():

        def place(rule, name=name):
            keys = (f"{name} {rule}/{key}" for key in ("coherence", "diversity"))
            return [results[key] for key in keys]

        swept = [rule for rule in found if rule.startswith("contrastive ")]
        panels[name] = {rule: tuple(zip(place(rule))) for rule in SHOWN}
        if swept:
            panels[name]["contrastive"] = tuple(zip(*map(place, swept), strict=True))
    return plots.lines(
        panels,
        xlabel="mean log-probability (nats per token)",
        ylabel="diversity",
        colors=plots.method_colors(SHOWN),
    )


def isotropies(layers):
    """Isotropy over the layers of the models."""
    panels = {
        part: {name: (range(len(y)), y) for name, y in named.items()}
        for part, named in layers.items()
    }
    return plots.lines(panels, xlabel="layer", ylabel="isotropy")


def token_maps(language, rows):
    """The first text of every rule, each token on the color of its penalty."""
    width = 78
    figure = Figure(figsize=(9.6, 0.95 * len(rows) + 0.6), layout="constrained")
    axes = figure.add_subplot()
    # The lighter part of the colors, on which black can be read.
    cmap = ListedColormap(colormaps["Reds"](np.linspace(0, 0.7, 64)))
    line, line_of = 0, {}
    low = min(float(np.min(texts.penalties[0])) for texts in rows.values())
    for name, texts in rows.items():
        line_of[line], column = name, 0
        pairs = zip(texts.tokens[0], texts.penalties[0], strict=True)
        for token, penalty in pairs:
            word = language.tokenizer.decode([int(token)]).replace("\n", "/") or "?"
            if column + len(word) > width:
                line, column = line + 1, 0
            box = dict(facecolor=cmap((penalty - low) / max(1 - low, 1e-6)))
            box |= dict(edgecolor="none", pad=1.0)
            axes.text(
                column, -line, word, family="monospace", fontsize=8, va="center"
            ).set_bbox(box)
            column += len(word)
        line += 2
    axes.set(xlim=(0, width), ylim=(0.7 - line, 0.7), xticks=[])
    axes.set_yticks([-i for i in line_of], list(line_of.values()))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    scale = ScalarMappable(Normalize(low, 1), cmap)
    figure.colorbar(scale, ax=axes, shrink=0.6, aspect=12, label="largest cosine")
    return figure
