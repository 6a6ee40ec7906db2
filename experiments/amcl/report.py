"""The report: accuracy over augmentations, similarities and temperatures per head."""

import pathlib

import numpy as np

from contrastive_jax import training
from contrastive_jax.report import Report, plots
from contrastive_jax.tasks import images
from experiments.amcl import measure

SIGNS = ("positive", "negative")


def write(workdir, doc, config, results, trained, make_model, make_views):
    """report.html of a run; arguments as `images.write_report`."""
    page = Report(f"AMCL on {config.data.name}", doc.partition("\n")[0])
    images.add_accuracies(page, results)
    if images.class_names(config.data):
        add_strengths(page, config, results)
    # Of the strongest augmentation and the first host.
    host, letters = config.compared.hosts[0], config.compared.strengths[-1]
    pairs = {}
    for name in config.compared.methods:
        own, state = trained[f"{host}_{name}_{len(letters)}"]
        pairs[name] = measure.measure(own, state, make_model(own), make_views(own))
    add_pairs(page, host, pairs)
    folder = pathlib.Path(workdir)
    images.add_training(page, {m: training.metrics.read(folder / m) for m in trained})
    page.config(training.config_text(config))
    return page.write(workdir)


def add_strengths(page, config, results):
    """Adds the linear probe of hosts and methods over the number of augmentations."""
    panels = {}
    numbers = sorted(len(letters) for letters in config.compared.strengths)
    for host in config.compared.hosts:
        names = [k for k in results if k.startswith(host) and k.endswith("/linear")]
        methods = dict.fromkeys(k[len(host) + 1 :].rsplit("_", 1)[0] for k in names)
        panels[host] = {}
        for m in methods:  # ablations have the strongest augmentation only
            keys = {n: f"{host}_{m}_{n}/linear" for n in numbers}
            points = {n: results[key] for n, key in keys.items() if key in results}
            panels[host][m] = list(points), list(points.values())
    page.section(
        "Accuracy and augmentation",
        "Linear probe of each host alone (plain), with several heads at one constant "
        "temperature (heads), and with AMCL; amcl_sum sums over all negatives.",
    )
    axes = dict(xlabel="augmentations in use", ylabel="linear probe (%)")
    colors = plots.method_colors(m for panel in panels.values() for m in panel)
    page.figure(
        plots.lines(panels, **axes, colors=colors),
        "linear probe over the number of augmentations",
    )


def add_pairs(page, host, pairs):
    """Adds histograms of similarities per head, and of the learned temperatures."""
    colors = {"two views of an image": "#2ca02c", "different images": "#d62728"}

    def panels(kind, name):
        both = [getattr(pairs[name], f"{sign}_{kind}") for sign in SIGNS]
        return {
            f"{host}, {name}, head {head + 1}": dict(zip(colors, x, strict=True))
            for head, x in enumerate(zip(*both, strict=True))
        }

    learned = [name for name in pairs if name.startswith("amcl")]
    rows = [
        [name, *(float(np.mean(x)) for x in values)] for name, values in pairs.items()
    ]
    page.section("Pairs", "Of views of test images, under all augmentations.")
    names = ("positives' cosine", "negatives' cosine", "positives' temperature")
    page.table(["method", *names, "negatives' temperature"], rows)
    for name in pairs:
        page.figure(
            plots.histograms(panels("cosine", name), xlabel="cosine", colors=colors),
            f"similarities of positives and negatives of every head, {name}",
        )
    for name in learned:
        page.figure(
            plots.histograms(
                panels("temperature", name), xlabel="temperature", colors=colors
            ),
            f"learned temperatures of positives and negatives of every head, {name}",
        )
