"""The report: accuracies, spectra of the embeddings, relations of the classes."""

import pathlib

from matplotlib.figure import Figure

from contrastive_jax import training
from contrastive_jax.report import Report, plots
from contrastive_jax.tasks import images
from experiments.hydra import measure


def write(workdir, doc, config, results, trained, make_model, encode):
    """report.html of a run; arguments as `images.write_report`."""
    page = Report(f"Hydra on {config.data.name}", doc.partition("\n")[0])
    images.add_accuracies(page, results)
    page.section("Embeddings behind the head", "z_rank: effective rank of test rows.")
    page.results({k: x for k, x in results.items() if "/z_" in k})
    add_spectra(page, config, trained, make_model)
    own, state = trained["hydra"]
    names = images.class_names(config.data)
    add_relations(page, measure.gates(own, state, make_model(own), len(names)), names)
    images.add_features(page, config.data, encode(own, state))
    folder = pathlib.Path(workdir)
    images.add_training(page, {m: training.metrics.read(folder / m) for m in trained})
    page.config(training.config_text(config))
    return page.write(workdir)


def add_spectra(page, config, trained, make_model):
    """Adds the singular values of z of every method."""
    spectra = {}
    for name, (own, state) in trained.items():
        _, test = measure.splits(own, state, make_model(own))
        spectra[name] = measure.spectrum(test.features[: config.compared.rows])
    page.section(
        "Dimensional collapse",
        "Singular values of the test rows' embeddings z, centered. A spectrum that "
        "falls to nothing early leaves dimensions unused.",
    )
    lines = {m: (list(range(1, len(x) + 1)), x.tolist()) for m, x in spectra.items()}
    page.figure(
        plots.lines(
            {"": lines},
            xlabel="singular value, by size",
            ylabel="share of the largest",
            log="y",
            colors=plots.method_colors(spectra),
        ),
        "spectrum of the embeddings of every method",
    )


def add_relations(page, gate, names):
    """Adds the map of class relations, and how open the gate of each pair is."""
    page.section(
        "Relations of classes",
        "Correlation of the gates of two classes (each paired with itself, less the "
        "mean of all), and the mean opening of the gate of every pair.",
    )
    panels = {
        "correlation of gates": measure.relations(gate),
        "mean opening of the gate": gate.mean(axis=-1),
    }
    page.figure(matrices(panels, names), "map of class relations")


def matrices(panels, names):
    """Figure of square matrices whose rows and columns are the names."""
    figure = Figure(figsize=(5.2 * len(panels), 4.4), layout="constrained")
    for axes, (title, values) in zip(
        figure.subplots(1, len(panels)), panels.items(), strict=True
    ):
        drawn = axes.imshow(values, cmap="viridis")
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        figure.colorbar(drawn, ax=axes, shrink=0.8)
    return figure
