"""The report: isotropy of the entries, held-out entries by method, training."""

import pathlib

from contrastive_jax import training
from contrastive_jax.report import Report, plots
from contrastive_jax.training import metrics
from experiments.defsent import measure
from experiments.defsent.config import METHODS

SHOWN = {"mrr": "MRR (%)", "path": "Spearman with path similarity (x 100)"}


def write(workdir, doc, config, results, matrices):
    """report.html."""
    page = Report("DefSent+", doc.partition("\n")[0])
    names = ("start", *config.methods)
    colors = plots.method_colors(("start", *METHODS))
    page.section(
        "Isotropy of the entries",
        "Cosines of random pairs of what definitions are compared with: DefSent's "
        "tokens, and the entries of each stage.",
    )
    cosines = {name: measure.cosines(matrix) for name, matrix in matrices.items()}
    page.figure(
        plots.histograms({"": cosines}, xlabel="cosine of two entries"),
        "isotropy of the entries",
    )
    page.results({k: v for k, v in results.items() if k.rpartition("/")[0] in matrices})
    page.section(
        "Held-out entries",
        "Rank of an entry's other definition among those of all held-out entries, and "
        "agreement of cosines with distances in WordNet's tree.",
    )
    groups = {
        title: {name: results[f"{name}/{key}"] for name in names}
        for key, title in SHOWN.items()
    }
    page.figure(plots.bars(groups, ylabel="", colors=colors), "held-out entries")
    page.results({k: v for k, v in results.items() if k.partition("/")[0] in names})
    runs = {
        name: metrics.read(pathlib.Path(workdir, *METHODS[name]))
        for name in config.methods
    }
    page.section("While training", "Some held-out entries of validation.")
    curves = {}
    for name, lines in runs.items():
        looks = [line for line in lines if "validation/mrr" in line]
        steps = [line["step"] for line in looks]
        curves[name] = steps, [line["validation/mrr"] for line in looks]
    page.figure(
        plots.lines(
            {"": curves}, xlabel="step", ylabel="MRR, validation (%)", colors=colors
        ),
        "held-out entries while training",
    )
    page.training(runs)
    page.config(training.config_text(config))
    page.write(workdir)
