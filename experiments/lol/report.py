"""The report of LOL: bars of methods, weights, layers, maps of tokens."""

import pathlib

from contrastive_jax import training
from contrastive_jax.report import Report, plots, text
from contrastive_jax.training import metrics
from experiments.lol import measure

MEASURES = {"MC1": "mc1", "MC2": "mc2"}


def write(workdir, doc, config, languages, questions, scored, results):
    """Draws report.html."""
    page = Report("LOL", doc.partition("\n")[0])
    main = main_rules(config)
    page.section(
        "Multiple choice",
        f"{len(questions)} questions, in percent; sums of scores over the tokens of an "
        "answer, not normalized again (post_softmax off): for contrasting rules MC2 is "
        "no probability.",
    )
    groups = {
        m: {n: round(results[f"{n}/{key}"], 1) for n in main}
        for m, key in MEASURES.items()
    }
    figure = plots.bars(groups, ylabel="percent")
    figure.set_size_inches(9.5, 4.2)
    page.figure(figure, "bars: MC1 and MC2 of every method")
    page.results(results)
    page.section(
        "Weights",
        "LOL over the weight of the lower layer (0: ICD), for each weight of the "
        "instruction; the control puts the same weight on the last layer.",
    )
    page.figure(over_weights(results, config), "MC1 and MC2 over the weights")
    page.section(
        "Layers",
        "LOL (weight 1) at each lower layer; the model read out early there; how much "
        "that differs from the last layer (mean over answer tokens).",
    )
    page.figure(over_layers(scored, results, config), "MC and divergence by layer")
    page.section(
        "What the rule changes",
        "LOL's score of each answer token less the model's own log-probability: true "
        "answers and false ones of the same questions.",
    )
    page.figure(token_maps(config, languages, questions), "tokens colored by change")
    folders = [pathlib.Path(workdir) / n for n in ("lol", "weak", "amateur")]
    lines = {x.name: metrics.read(x) for x in folders if x.exists()}
    if lines:
        page.training(lines)
    page.config(training.config_text(config))
    return page.write(workdir)


def main_rules(config):
    """The rules of the bars: baselines, the control, LOL without and with truth."""
    rule = config.rule
    lam = rule.lams[len(rule.lams) // 2]
    main = ["base", "truth", "cd", "dola", "icd", f"icd_weight_{1 + lam:g}"]
    truths = [f"lol_{lam:g}_truth_{g:g}" for g in rule.gammas if g]
    others = [
        f"{name}_by_{x}"
        for x in config.amateurs[1:]
        for name in ("icd", f"lol_{lam:g}")
    ]
    return [*main, f"lol_{lam:g}", *truths[:1], *others]


def colors_of(config):
    """A color for each line of the pictures below, that of its rule in the bars."""
    rule, main = config.rule, main_rules(config)
    colors = plots.method_colors(main)
    lol = colors[main[6]]
    found = {"base": colors["base"], "read out early": "black", "LOL at it": lol}
    found["ICD, weight 1 + lambda"] = colors[main[5]]
    rest = iter([*(colors[n] for n in main[7:8]), "navy", "darkgreen"])
    for gamma in rule.gammas:
        found[f"LOL, gamma {gamma:g}"] = next(rest, "0.7") if gamma else lol
    return found


def over_weights(results, config):
    """Lines over lambda, one panel per measure."""
    rule = config.rule
    x = [0.0, *rule.lams]
    panels = {}
    for title, key in MEASURES.items():
        lines = {}
        for gamma in rule.gammas:
            suffix = f"_truth_{gamma:g}" if gamma else ""
            y = [results[f"lol_{lam:g}{suffix}/{key}"] for lam in rule.lams]
            if gamma:
                lines[f"LOL, gamma {gamma:g}"] = (rule.lams, y)
            else:
                lines["LOL, gamma 0"] = (x, [results[f"icd/{key}"], *y])
        y = [results[f"icd_weight_{1 + lam:g}/{key}"] for lam in rule.lams]
        lines["ICD, weight 1 + lambda"] = (x, [results[f"icd/{key}"], *y])
        lines["base"] = (x, [results[f"base/{key}"]] * len(x))
        panels[title] = lines
    colors = colors_of(config)
    return plots.lines(panels, xlabel="lambda", ylabel="percent", colors=colors)


def over_layers(scored, results, config):
    """MC1, MC2 and the divergence over the lower layers."""
    rule = config.rule
    layers = list(rule.layers)
    panels = {
        title: {
            name: (
                layers,
                [results[f"{key}_{layer}/{measure_name}"] for layer in layers],
            )
            for name, key in (("LOL at it", "lol_at"), ("read out early", "early"))
        }
        | {"base": (layers, [results[f"base/{measure_name}"]] * len(layers))}
        for title, measure_name in MEASURES.items()
    }
    panels["JSD"] = {"from the last layer": (layers, scored.jsd.mean(axis=0).tolist())}
    figure = plots.lines(
        panels, xlabel="layer", ylabel="percent", colors=colors_of(config)
    )
    figure.axes[len(panels) - 1].set(ylabel="nats", ylim=(0, None))
    return figure


def token_maps(config, languages, questions, most: int = 6):
    """True and false answers of the first questions."""
    some = questions[:most]
    found = measure.contrast_by_token(config, languages, some)
    rows = []
    for i, (_, tokens, values) in enumerate(found):
        ask = some[i // 2].prompts["base"].rpartition(". ")[2]
        rows.append((f"{ask} ({'false' if i % 2 else 'true'})", tokens, values))
    return text.token_map(
        rows, label="change of the score (nats)", cmap="RdBu", center=0.0
    )
