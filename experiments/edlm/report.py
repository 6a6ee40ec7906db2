"""The report of EDLM: quality against steps and time, likelihood, samples."""

import pathlib
from collections.abc import Iterable, Mapping

import numpy as np

from contrastive_jax import training
from contrastive_jax.data import streams
from contrastive_jax.report import Report, plots
from contrastive_jax.training import metrics
from contrastive_jax.training.runs import Config


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
    methods = list(dict.fromkeys(name for name, _ in samples))
    steps = sorted({k for _, k in samples})
    text = results["text/perplexity"]
    page.section(
        "Generative perplexity",
        "Of samples, under a language model that no method has seen; lower is better, "
        f"held-out text has {text:.3g}. Entropy of the letters of a sample shows "
        f"whether a method repeats itself; held-out text has "
        f"{results['text/entropy']:.3g} nats.",
    )
    bits = {k.removesuffix("/bits"): x for k, x in results.items() if "/bits" in k}
    lengths = ["", *(f"_{k}" for k in steps)]
    names = [name for name in bits if name + lengths[-1] in bits]
    colors = plots.method_colors([*methods, *names, "held-out text", "ar (exact)"])
    shown = (
        ("perplexity", "generative perplexity", "perplexity under the judge", "xy"),
        ("entropy", "entropy of the letters of a sample", "nats", "x"),
    )
    for measure, title, ylabel, log in shown:
        drawn = {
            name: (steps, [results[f"{name}_{k}/{measure}"] for k in steps])
            for name in methods
        }
        drawn["held-out text"] = (steps, [results[f"text/{measure}"]] * len(steps))
        page.figure(
            plots.lines(
                {title: drawn},
                xlabel="sampling steps",
                ylabel=ylabel,
                log=log,
                colors=colors,
            ),
            f"{measure} against sampling steps for every method",
        )
    if f"{methods[0]}_{steps[0]}/seconds" in results:
        points = {
            name: tuple(
                [results[f"{name}_{k}/{measure}"] for k in steps]
                for measure in ("seconds", "perplexity")
            )
            for name in methods
        }
        page.figure(
            plots.lines(
                {"quality against time": points},
                xlabel="seconds for all samples",
                ylabel="perplexity under the judge",
                log="xy",
                colors=colors,
            ),
            "perplexity against sampling time for every method",
        )
    page.section(
        "Likelihood",
        "Bits per letter of held-out text, in continuous time and for chains of few "
        "steps. mdlm and edlm_coar are bounds, ar is exact; the others follow the "
        "paper's formula, which is no bound in general, with log Z from below or "
        "corrected (_upper).",
    )
    page.table(
        ["model", "continuous", *(f"{k} steps" for k in steps)],
        [["ar", bits["ar"], *[""] * len(steps)]]
        + [[name, *(bits[name + of] for of in lengths)] for name in names],
    )
    kinds = {"bounds": ("mdlm", "edlm_coar")}
    kinds["the paper's formula"] = [x for x in names if x not in kinds["bounds"]]
    exact = {"ar (exact)": (steps, [bits["ar"]] * len(steps))}
    drawn = {
        kind: {x: (steps, [bits[x + of] for of in lengths[1:]]) for x in inside}
        for kind, inside in kinds.items()
    }
    page.figure(
        plots.lines(
            {kind: inside | exact for kind, inside in drawn.items()},
            xlabel="steps of the chain",
            ylabel="bits per letter",
            log="x",
            colors=colors,
        ),
        "likelihood against the steps of the chain",
    )
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
