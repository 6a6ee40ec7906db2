"""The report of SimCTG: diversity against likelihood, isotropy, maps of penalties."""

from matplotlib.figure import Figure

from contrastive_jax import training
from contrastive_jax.report import Report, plots, text
from contrastive_jax.training import metrics

XY = ("coherence", "diversity")
WORDS = 16  # tokens in a row of a map


def write(workdir, config, results, layers, texts, languages, doc):
    """report.html."""
    shown = ("human", *config.eval.rules)
    page = Report("SimCTG and contrastive search", doc.partition("\n")[0])
    page.results({k: v for k, v in results.items() if " " not in k})
    page.section(
        "Diversity against likelihood",
        "Diversity (share of n-grams that are not repeated) and mean log-probability "
        "under the model itself. Contrastive search over alpha where several points "
        "are joined.",
    )
    page.figure(likelihoods(results, texts, shown), "diversity against likelihood")
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
    for name, (by_rule, prompts) in texts.items():
        language = languages[name]
        page.text(f"{name}: {language.decode(prompts[0])} ...")
        page.figure(
            token_maps(language, {rule: by_rule[rule] for rule in shown}),
            f"token map of the degeneration penalty, {name}",
        )
    lines = {name: metrics.read(f"{workdir}/{name}") for name in ("mle", "simctg")}
    page.training(lines)
    page.config(training.config_text(config))
    page.write(workdir)


def likelihoods(results, texts, shown):
    """Every rule of every model as a named point; contrastive search over alpha."""
    colors = plots.method_colors(shown)
    figure = Figure(figsize=(4.8 * len(texts), 3.8), layout="constrained")
    grid = figure.subplots(1, len(texts), squeeze=False)[0]
    for axes, (name, (by_rule, _)) in zip(grid, texts.items(), strict=True):
        swept = [rule for rule in by_rule if rule.startswith("contrastive ")]
        for i, rule in enumerate(by_rule):
            x, y = (results[f"{name} {rule}/{key}"] for key in XY)
            kind, _, alpha = rule.partition(" alpha=")
            if kind == "contrastive" and swept and not alpha:
                continue  # it is one of them
            marker = "." if alpha else "o"
            axes.plot(x, y, marker, color=colors[kind])
            axes.annotate(
                f"{float(alpha):g}" if alpha else rule,
                (x, y),
                textcoords="offset points",
                xytext=(5, -10) if i % 2 else (5, 4),
                fontsize=7 if alpha else 8,
                color=colors[kind],
            )
        places = [[results[f"{name} {rule}/{key}"] for rule in swept] for key in XY]
        axes.plot(*places, color=colors["contrastive"], linewidth=1)
        axes.set(title=name, xlabel="mean log-probability (nats per token)")
        axes.margins(x=0.18, y=0.08)
        axes.grid(alpha=0.3)
    grid[0].set_ylabel("diversity")
    return figure


def isotropies(layers):
    """Isotropy over the layers of the models."""
    panels = {
        part: {name: (range(len(y)), y.tolist()) for name, y in named.items()}
        for part, named in layers.items()
    }
    return plots.lines(panels, xlabel="layer", ylabel="isotropy")


def token_maps(language, rows):
    """The first text of every rule, each token on the color of its penalty."""
    lines = []
    for rule, texts in rows.items():
        words = [language.tokenizer.decode([int(t)]) for t in texts.tokens[0]]
        for i in range(0, len(words), WORDS):
            here = slice(i, i + WORDS)
            title = "" if i else rule
            lines.append((title, words[here], texts.penalties[0, here]))
    return text.token_map(lines, label="largest cosine")
