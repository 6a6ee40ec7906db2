"""The report of a run: AUROC and FPR95, histograms of scores, prototypes on the map."""

import pathlib

import numpy as np

from contrastive_jax import training
from contrastive_jax.evaluation import plane
from contrastive_jax.report import Report, maps, plots
from contrastive_jax.tasks import images
from contrastive_jax.training import metrics
from experiments.palm import data

# Whose scores are drawn, where they were trained.
DRAWN = ("palm", "one_prototype", "supcon", "energy", "palm_unlabelled", "simclr")


def write(workdir, doc, config, results, scores, trained, head):
    """Writes report.html."""
    summary = doc.partition("\n")[0]
    page = Report(f"PALM on {config.data.name}", summary)
    add_measures(page, results, scores)
    add_histograms(page, scores)
    for name in ("palm", "palm_unlabelled"):
        if name in trained:
            add_map(page, name, *trained[name], head)
    runs = {name: metrics.read(pathlib.Path(workdir) / name) for name in trained}
    images.add_training(page, runs)
    page.config(training.config_text(config))
    return page.write(workdir)


def add_measures(page, results, scores):
    """Bars of the means over sets, and a table of everything."""
    page.section(
        "Outsiders told from test images",
        "Means over the other sets, in percent: area under the ROC curve (higher is "
        "better, 50 is chance), and the share of outsiders that pass where 95 % of the "
        "test images do (lower is better). By Mahalanobis distance, by nearest "
        "neighbors (knn), or of the classifier (softmax, energy).",
    )
    groups = {
        label: {name: results[f"{name}/{key}"] for name in scores}
        for label, key in (("AUROC", "auroc"), ("FPR95", "fpr95"))
    }
    page.figure(plots.bars(groups, ylabel="%"), "bars: AUROC and FPR95 of every method")
    page.results(results)


def add_histograms(page, scores):
    """Scores of test images and of each other set, one panel for each method."""
    page.section(
        "Scores", "Of test images and of other sets; those of outsiders should be low."
    )
    panels = {
        name: {"test images": scores[name].inside, **scores[name].outside}
        for name in DRAWN
        if name in scores
    }
    figure = plots.histograms(panels, xlabel="score")
    page.figure(figure, "histograms of scores of every method")


def add_map(page, name, config, state, head):
    """Embeddings of test images with the prototypes among them, in the plane."""
    image, label = data.inside(config, "test", 1500)
    z = images.encode_images(head(config, state), image)
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    vectors = np.asarray(state.prototypes.vectors)
    points = plane(np.concatenate([z, vectors]))
    names = images.class_names(config.data)
    number = config.loss.num_classes
    classes = np.arange(len(vectors)) % number if config.loss.labelled else None
    page.section(
        f"Prototypes of {name}",
        "t-SNE of the embeddings of test images and of the prototypes, which are stars "
        "in the color of their class (black where there are no labels).",
    )
    figure = maps.embedding_map(
        points[: len(z)],
        label,
        names[:number],
        marks=points[len(z) :],
        mark_labels=classes,
    )
    page.figure(figure, f"map of embeddings with the prototypes of {name}")
