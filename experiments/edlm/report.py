"""The report of EDLM: quality against steps and time, likelihood, samples."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from contrastive_jax import training
from contrastive_jax.data import streams
from contrastive_jax.report import Report, plots
from contrastive_jax.training import metrics
from contrastive_jax.training.runs import Config

QUALITY = (
    "perplexity against sampling steps",
    "entropy against sampling steps",
    "perplexity against sampling time",
)
LIKELIHOOD = "likelihood against the steps of the chain"


def write(
    workdir: str | pathlib.Path,
    doc: str,
    config: Config,
    results: Mapping[str, float],
    samples: Mapping[tuple[str, int], np.ndarray],
    log_z: Mapping[str, tuple[float, float]],
    stages: Iterable[str],
) -> pathlib.Path:
    """Draws report.html.

    Args:
      workdir: folder of the run, one folder per stage in it.
      doc: docstring of the experiment.
      config: the config.
      results: all measures.
      samples: by method and steps.
      log_z: of `likelihood_bounds`.
      stages: names of the stages.
    """
    page = Report(f"EDLM on {config.data.name}", doc.partition("\n")[0])
    drawn = pictures(results)
    page.section(
        "Generative perplexity",
        "Of samples, under a language model that no method has seen; lower is better, "
        f"held-out text has {results['text/perplexity']:.3g}. Entropy of the letters "
        "of a sample shows whether a method repeats itself; held-out text has "
        f"{results['text/entropy']:.3g} nats.",
    )
    for title in QUALITY:
        if title in drawn:
            page.figure(drawn[title], f"{title} for every method")
    page.section(
        "Likelihood",
        "Bits per letter of held-out text, in continuous time and for chains of few "
        "steps. mdlm and edlm_coar are bounds, ar is exact; the others follow the "
        "paper's formula, which is no bound in general, with log Z from below or "
        "corrected (_upper).",
    )
    _, bounds, steps = names_of(results)
    page.table(
        ["model", "continuous", *(f"{k} steps" for k in steps)],
        [["ar", results["ar/bits"], *[""] * len(steps)]]
        + [
            [x, *(results[f"{x}{of}/bits"] for of in ("", *(f"_{k}" for k in steps)))]
            for x in bounds
        ],
    )
    page.figure(drawn[LIKELIHOOD], LIKELIHOOD)
    panels = {}
    for name in ("ar", "nce"):
        by_number = {int(k.split()[1]): z for k, z in log_z.items() if name in k}
        points = dict(sorted(by_number.items()))
        panels[f"energy: {name}"] = {
            "log of the mean weight (below)": (
                list(points),
                [z[0] for z in points.values()],
            ),
            "corrected (above for many)": (
                list(points),
                [z[1] for z in points.values()],
            ),
        }
    page.figure(
        plots.lines(panels, xlabel="proposals", ylabel="log Z (nats)", log="x"),
        "bounds of log Z against the number of proposals",
    )
    page.section("Samples", "The first three of each method, by number of steps.")
    page.table(
        ["method", "steps", "samples"],
        [
            [name, k, " / ".join(map(streams.decode, drawn[:3]))]
            for (name, k), drawn in samples.items()
        ],
    )
    page.training({s: metrics.read(pathlib.Path(workdir) / s) for s in stages})
    page.config(training.config_text(config))
    return page.write(workdir)


def names_of(results: Mapping[str, Any]) -> tuple[list[str], list[str], list[int]]:
    """The samplers, the models with bounds, and the numbers of steps."""
    ends: dict[str, dict[tuple[str, int], None]] = {"perplexity": {}, "bits": {}}
    for key in results:
        name, _, measure = key.rpartition("/")
        name, _, steps = name.rpartition("_")
        if measure in ends and steps.isdigit():
            ends[measure][name, int(steps)] = None
    names = [list(dict.fromkeys(name for name, _ in found)) for found in ends.values()]
    return names[0], names[1], sorted({k for _, k in ends["perplexity"]})


def pictures(results: Mapping[str, Any]) -> dict[str, Figure]:
    """What is drawn from the measures alone, by what it shows.

    Args:
      results: measures of a run, or (mean, deviation) of those of several seeds.
    """
    methods, bounds, steps = names_of(results)
    constant = {"held-out text": "text", "ar (exact)": "ar"}
    colors = plots.method_colors([*methods, *bounds, *constant])

    def of(name, measure):
        keys = [f"{name}_{k}/{measure}" for k in steps]
        if name in constant:
            keys = [f"{constant[name]}/{measure}"] * len(steps)
        return np.transpose([np.atleast_1d(results[key]) for key in keys]).tolist()

    def over_steps(panels, measure, xlabel, ylabel, log):
        drawn = {
            title: {name: (steps, *of(name, measure)) for name in names}
            for title, names in panels.items()
        }
        labels = dict(xlabel=xlabel, ylabel=ylabel)
        return plots.lines(drawn, log=log, colors=colors, **labels)

    judged, xlabel = {"": [*methods, "held-out text"]}, "sampling steps"
    ylabels = ("perplexity under the judge", "entropy of the letters (nats)")
    found = {
        QUALITY[0]: over_steps(judged, "perplexity", xlabel, ylabels[0], "xy"),
        QUALITY[1]: over_steps(judged, "entropy", xlabel, ylabels[1], "x"),
    }
    if f"{methods[0]}_{steps[0]}/seconds" in results:
        drawn = {x: (of(x, "seconds")[0], *of(x, "perplexity")) for x in methods}
        labels = dict(xlabel="seconds for all samples", ylabel=ylabels[0])
        found[QUALITY[2]] = plots.lines({"": drawn}, log="xy", colors=colors, **labels)
    kinds = {"bounds": [x for x in bounds if x in ("mdlm", "edlm_coar")]}
    kinds["the paper's formula"] = [x for x in bounds if x not in kinds["bounds"]]
    panels = {kind: [*names, "ar (exact)"] for kind, names in kinds.items()}
    labels = ("bits", "steps of the chain", "bits per letter", "x")
    return found | {LIKELIHOOD: over_steps(panels, *labels)}


def of_record(entries: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """The pictures of all seeds of the default config, from results.json."""
    (metrics,) = (x["metrics"] for x in entries if not (x["variant"] or x["set"]))
    drawn = pictures({key: (x["mean"], x["std"]) for key, x in metrics.items()})
    del drawn[QUALITY[1]]  # the same for all methods: a sentence says it
    return drawn
