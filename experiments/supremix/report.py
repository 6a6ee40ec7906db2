"""The report of SupReMix: errors, maps coloured by the label, curves of order."""

import numpy as np
from matplotlib.figure import Figure

from contrastive_jax.evaluation import plane
from contrastive_jax.report import plots
from contrastive_jax.training import metrics
from experiments.supremix import measure

WATCHED = {
    "knn_mae": "error of nearest neighbors",
    "effective_rank": "effective rank of the features, centered",
    "mean_cosine": "mean cosine of the features",
}


def add_set(page, config, name, found, scored, features, place):
    """Adds what was measured on one set.

    Args:
      page: the report.
      config: the config.
      name: of the set.
      found: the set.
      scored: measures of each method, by name.
      features: `measure.Split` of the test rows of each method.
      place: folder of the set's runs.
    """
    colors = plots.method_colors(scored)
    page.section(
        f"{name}: errors of the readout",
        f"Ridge regression on frozen features, in {found.unit}; rare: the emptiest "
        "bins of labels, with a quarter of the training rows at most.",
    )
    shown = ("mae", "mae_rare", "mae_common", "mae_few_labels")
    groups = {key: {m: row[key] for m, row in scored.items()} for key in shown}
    page.figure(
        plots.bars(groups, ylabel=f"mean absolute error ({found.unit})", colors=colors),
        f"errors of every method on {name}",
    )
    page.results({f"{m}/{k}": x for m, row in scored.items() for k, x in row.items()})
    page.section(
        f"{name}: order of the labels",
        "Mean cosine of two rows' features (centered) against the distance of their "
        "labels. Ordered features fall all the way; classes fall once and stay.",
    )
    curves = {}
    for m, rows in features.items():
        gaps, cosines = measure.ordinality_curve(rows)
        curves[m] = [float(f"{found.scale * x:.2g}") for x in gaps], cosines
    page.figure(
        plots.lines(
            {name: curves},
            xlabel=f"distance of labels ({found.unit})",
            ylabel="mean cosine",
            colors=colors,
        ),
        f"ordinality curve on {name}",
    )
    page.text("Test rows in the plane (t-SNE, below 500 rows PCA), by their label.")
    limit = config.eval.map_rows
    panels = {
        m: (plane(rows.features[:limit]), found.scale * rows.label[:limit])
        for m, rows in features.items()
    }
    page.figure(label_maps(panels, found.unit), f"embeddings by label on {name}")
    runs = {m: metrics.read(f"{place}/{m}") for m in features if m != "random_init"}
    watched = {m: [x for x in run if "watch/knn_mae" in x] for m, run in runs.items()}
    if any(watched.values()):
        page.section(
            f"{name}: while training",
            "On rows held out of training. A rank or a cosine near 1 means collapse.",
        )
    for key, ylabel in WATCHED.items() if any(watched.values()) else ():
        points = {
            m: ([x["step"] for x in run], [x[f"watch/{key}"] for x in run])
            for m, run in watched.items()
        }
        unit = f" ({found.unit})" if key == "knn_mae" else ""
        axes = dict(xlabel="step", ylabel=ylabel + unit)
        figure = plots.lines({name: points}, **axes, colors=colors)
        page.figure(figure, f"{ylabel} over the steps on {name}")
    own = {
        f"{name}, {m}": [
            {k: x for k, x in line.items() if not k.startswith("watch/")}
            for line in run
        ]
        for m, run in runs.items()
    }
    page.training(own)


def label_maps(
    panels: dict[str, tuple[np.ndarray, np.ndarray]], unit: str, columns: int = 3
) -> Figure:
    """Points in the plane, coloured by a real label; one panel per method."""
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.4 * columns, 3.0 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    low, high = np.percentile(next(iter(panels.values()))[1], (0, 100))
    for axes in grid:
        axes.set_axis_off()
    for axes, (title, (points, label)) in zip(grid, panels.items(), strict=False):
        axes.set_axis_on()
        drawn = axes.scatter(
            *points.T, c=label, s=9, cmap="viridis", vmin=low, vmax=high, linewidths=0
        )
        axes.set_title(title, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.colorbar(drawn, ax=list(grid), shrink=0.7, label=f"label ({unit})")
    return figure
