"""What image-text experiments share: two towers, evaluation across pictures, report."""

import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from contrastive_jax import training
from contrastive_jax.report import Report
from contrastive_jax.report.images import draw_image
from contrastive_jax.training import metrics
from contrastive_jax.training.runs import Config
from experiments.clip.measure import Concepts, ranks, scores


def recall_curves(embedded: Mapping[str, Concepts]) -> Figure:
    """Recall against the number of answers looked at, one line per model."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    panels = figure.subplots(1, 2)
    total = len(next(iter(embedded.values())).caption)
    k = np.unique(np.geomspace(1, total, 60).astype(int))
    for axes, direction in zip(panels, ("image_to_text", "text_to_image"), strict=True):
        for name, concepts in embedded.items():
            rank = ranks(concepts)[direction]
            axes.plot(k, [100 * np.mean(rank <= x) for x in k], label=name)
        axes.plot(k, 100 * k / total, ":", color="gray", label="chance")
        axes.set_xscale("log")
        axes.set_xlabel("answers looked at, k")
        axes.set_ylabel("recall at k (%)")
        axes.set_title(direction.replace("_", " "), fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def shorten(caption: str, length: int = 34) -> str:
    """The start of a caption."""
    return caption if len(caption) <= length else caption[: length - 1] + "…"


def top_captions(concepts: Concepts, rows: np.ndarray, k: int = 4) -> Figure:
    """Images with their best captions; the right one is green."""
    figure = Figure(figsize=(9.5, 1.05 * len(rows) / 2 + 0.2), layout="constrained")
    grid = figure.subplots(
        -(-len(rows) // 2), 4, squeeze=False, width_ratios=[1, 4] * 2
    )
    similar = concepts.image_embedding[rows, 0] @ concepts.text_embedding.T
    for axes in grid.ravel():
        axes.axis("off")
    for i, row in enumerate(rows):
        picture, words = grid[i // 2][2 * (i % 2) : 2 * (i % 2) + 2]
        draw_image(picture, concepts.image[row, 0])
        for j, best in enumerate(np.argsort(-similar[i])[:k]):
            words.text(
                0,
                1 - (j + 0.5) / k,
                f"{similar[i, best]:.2f}  {shorten(concepts.caption[best], 44)}",
                color="tab:green" if best == row else "black",
                fontsize=7.5,
                va="center",
            )
    return figure


def top_images(concepts: Concepts, rows: np.ndarray, k: int = 8) -> Figure:
    """Captions with their best pictures of all kinds; right ones have a green frame."""
    n, v, d = concepts.image_embedding.shape
    flat = concepts.image_embedding.reshape(n * v, d)
    pictures = concepts.image.reshape(n * v, *concepts.image.shape[2:])
    similar = concepts.text_embedding[rows] @ flat.T
    figure = Figure(figsize=(0.75 * k + 3, 0.8 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), k, squeeze=False)
    for i, row in enumerate(rows):
        for axes, best in zip(grid[i], np.argsort(-similar[i])[:k], strict=True):
            draw_image(axes, pictures[best])
            for spine in axes.spines.values():
                spine.set(color="tab:green" if best // v == row else "lightgray")
                spine.set_linewidth(2.5 if best // v == row else 1)
        grid[i][0].set_ylabel(
            shorten(concepts.caption[row]), fontsize=7, rotation=0, ha="right"
        )
    return figure


def similarity_picture(concepts: Concepts) -> Figure:
    """Cosines of every image (one kind of picture) with every caption."""
    similar = concepts.image_embedding[:, 0] @ concepts.text_embedding.T
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(similar, cmap="magma", interpolation="nearest")
    axes.set_xlabel("caption of concept")
    axes.set_ylabel("picture of concept")
    figure.colorbar(drawn, label="cosine")
    return figure


def write(
    workdir: str | pathlib.Path,
    doc: str,
    config: Config,
    results: Mapping[str, Any],
    concepts: Mapping[str, Concepts],
    methods: Iterable[str],
) -> pathlib.Path:
    """Draws report.html.

    Args:
      workdir: folder of the run, one folder per method in it.
      doc: docstring of the experiment.
      config: the config.
      results: `scores` of every model, as "model/direction/measure".
      concepts: embeddings of the test concepts by model; the answers of the first model
        are shown.
      methods: the trained models.
    """
    page = Report(f"CLIP on {config.data.name}", doc.partition("\n")[0])
    first = next(iter(concepts.values()))
    page.section(
        "Retrieval of unseen concepts", "Recall and mean reciprocal rank in percent."
    )
    columns = list(scores(first))
    rows = [[n, *(results[f"{n}/{c}"] for c in columns)] for n in concepts]
    page.table(["model", *(c.replace("_", " ") for c in columns)], rows)
    page.figure(recall_curves(concepts), "recall at k in both directions, per model")
    runs = {m: metrics.read(pathlib.Path(workdir) / m) for m in methods}
    page.training(runs, {"clip": math.log(config.data.batch_size)})
    rows = np.linspace(0, len(first.caption) - 1, 12).astype(int)
    page.section(
        "From a picture to captions",
        "Unseen pictures and their four best captions with the cosine; green: its own.",
    )
    page.figure(top_captions(first, rows), "pictures with their best captions")
    page.section(
        "From a caption to pictures",
        "Unseen captions and their eight best pictures; green frame: its own.",
    )
    page.figure(top_images(first, rows), "captions with their best pictures")
    page.section(
        "Similarity matrix",
        "Every unseen picture against every unseen caption, in the order of the set, "
        "where neighbours are related: the diagonal is right, blocks are confusions.",
    )
    page.figure(similarity_picture(first), "matrix of cosines")
    page.config(training.config_text(config))
    return page.write(workdir)
