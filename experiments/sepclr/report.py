"""The report of SepCLR: probes of both factors, maps of both sides, training."""

import numpy as np
from matplotlib.figure import Figure

from contrastive_jax.evaluation import plane
from contrastive_jax.report import images as pictures
from contrastive_jax.report import plots
from contrastive_jax.training import metrics
from experiments.sepclr import measure

PAIRS = [f"{a}_to_{b}" for a in measure.Sides._fields for b in measure.Sides._fields]


def add_set(page, name, found, scored, sides, shown, place):
    """Adds what was measured on one pair of sets.

    Args:
      page: the report.
      name: of the pair.
      found: the pair, `data.Sets`.
      scored: measures of each method, by name.
      sides: `measure.Sides` of the shown rows for each trained method.
      shown: target rows.
      place: folder of the pair's runs.
    """
    colors = plots.method_colors(scored)
    page.section(
        f"{name}: what either side knows",
        f"Balanced accuracy of linear probes on target rows. Common factor: "
        f"{found.common}; salient factor: {found.salient}. Common to common and "
        "salient to salient should be high, the other two at chance.",
    )
    groups = {
        key.replace("_to_", " to "): {m: row[key] for m, row in scored.items()}
        for key in PAIRS
    }
    page.figure(
        plots.bars(groups, ylabel="balanced accuracy (%)", colors=colors),
        f"probes of both factors on {name}",
    )
    page.results({f"{m}/{k}": x for m, row in scored.items() for k, x in row.items()})
    both = [found.test.is_target == x for x in (False, True)]
    page.text("Test rows: background, target.")
    page.figure(
        pictures.image_rows(
            {
                title: found.test.image[rows][:10] / 255.0
                for title, rows in zip(("background", "target"), both, strict=True)
            }
        ),
        f"images of both sets of {name}",
    )
    for method in ("sepclr", "no_jem"):
        if method in sides:
            page.text(f"{method}: target rows on either side, by either factor.")
            page.figure(
                side_maps(sides[method], shown, (found.common, found.salient)),
                f"maps of both sides of {method} on {name}",
            )
    runs = {m: metrics.read(f"{place}/{m}") for m in sides if m != "random_init"}
    watched = {
        m: [x for x in run if f"watch/{PAIRS[0]}" in x] for m, run in runs.items()
    }
    if any(watched.values()):
        page.section(
            f"{name}: while training",
            "Held-out target rows by their nearest neighbors; an effective rank near 1 "
            "means collapse.",
        )
        for keys, ylabel in (
            (PAIRS, "balanced kNN accuracy (%)"),
            (["common_rank", "salient_rank"], "effective rank, centered"),
        ):
            panels = {
                key.replace("_", " "): {
                    m: ([x["step"] for x in run], [x[f"watch/{key}"] for x in run])
                    for m, run in watched.items()
                }
                for key in keys
            }
            axes = dict(xlabel="step", ylabel=ylabel, colors=colors)
            page.figure(
                plots.lines(panels, **axes), f"{ylabel} over the steps on {name}"
            )
    own = {
        f"{name}, {m}": [
            {k: x for k, x in line.items() if not k.startswith("watch/")}
            for line in run
        ]
        for m, run in runs.items()
    }
    page.training(own)


def side_maps(sides, shown, names) -> Figure:
    """Both sides in the plane, each coloured by both factors."""
    figure = Figure(figsize=(9.0, 8.0), layout="constrained")
    grid = figure.subplots(2, 2)
    for row, side in zip(grid, sides._fields, strict=True):
        points = plane(getattr(sides, side))
        for axes, factor, title in zip(row, sides._fields, names, strict=True):
            label = getattr(shown, factor)
            for value in np.unique(label):
                axes.scatter(
                    *points[label == value].T,
                    s=9,
                    color=f"C{value % 10}",
                    label=str(value),
                    linewidths=0,
                )
            axes.set_title(f"{side} side, by {title}", fontsize=10)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.legend(fontsize=6, markerscale=2, ncols=2)
    return figure
