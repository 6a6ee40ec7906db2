"""The report of DSE: logits of student and teacher, quality, cost, training."""

import numpy as np
from matplotlib.figure import Figure

from contrastive_jax import training
from contrastive_jax.report import Report, plots
from contrastive_jax.training import metrics


def write(workdir, doc, config, results, logits, seconds, arrays):
    """report.html."""
    labels = arrays[config.eval.split]["label"]
    students = [name for name in logits if name in config.methods]
    colors = plots.method_colors(logits)
    page = Report("DSE", doc.partition("\n")[0])
    page.results(results)
    page.section(
        "Quality",
        "Share of pairs judged right, and rank correlation of the logits with those of "
        "the teacher. Labels alone, both, the teacher alone; dse_labeled sees no pair "
        "without a label, dse_dot scores by a dot product.",
    )
    measure = "pearson" if config.loss.task == "regression" else "accuracy"
    page.figure(qualities(results, list(logits), colors, measure), "quality")
    page.section(
        "Logits",
        "Each point is an evaluated pair. On the line, student and teacher agree.",
    )
    shown = {name: logits[name] for name in students}
    page.figure(
        agreement(shown, logits["teacher"], labels, config), "student and teacher"
    )
    page.section(
        "Cost",
        f"Seconds for all {config.eval.queries} x {config.eval.candidates} pairs on "
        f"this machine; the teacher's from {config.eval.teacher_pairs} of them.",
    )
    page.figure(costs(seconds, results, colors, measure), "cost against quality")
    lines = {name: metrics.read(f"{workdir}/{name}") for name in students}
    page.section("While training", "On validation pairs.")
    page.figure(curves(lines, colors, measure), "validation pairs over the steps")
    page.training(lines)
    page.config(training.config_text(config))
    page.write(workdir)


def qualities(results, names, colors, measure):
    """Bars of every student, the teacher and the baseline of words."""
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    units = {measure: "accuracy (%)" if measure == "accuracy" else measure}
    units["spearman"] = "Spearman's correlation with the teacher"
    for axes, (key, unit) in zip(figure.subplots(1, 2), units.items(), strict=True):
        shown = [name for name in names if f"{name}/{key}" in results]
        heights = [results[f"{name}/{key}"] for name in shown]
        drawn = axes.bar(shown, heights, color=[colors[name] for name in shown])
        axes.bar_label(drawn, fmt="%.3g", fontsize=8, padding=2)
        axes.tick_params("x", rotation=30)
        axes.set_ylabel(unit)
        axes.margins(y=0.1)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def agreement(students, teacher, labels, config):
    """The student's logits over the teacher's, a panel per student."""
    figure = Figure(figsize=(2.9 * len(students), 3.2), layout="constrained")
    grid = figure.subplots(1, len(students), squeeze=False, sharex=True, sharey=True)[0]
    ends = np.array([teacher.min(), teacher.max()])
    for axes, (name, x) in zip(grid, students.items(), strict=True):
        if config.loss.task == "binary":
            for label, word, color in (
                (0, "wrong", "#d62728"),
                (1, "right", "#1f77b4"),
            ):
                at = labels == label
                axes.plot(teacher[at, 0], x[at, 0], ".", color=color, ms=3, label=word)
        else:
            axes.plot(np.ravel(teacher), np.ravel(x), ".", ms=3, label="logits")
        axes.plot(ends, ends, color="0.5", linewidth=1, label="equal")
        axes.set(title=name, xlabel="teacher's logit")
        axes.grid(alpha=0.3)
    grid[0].set_ylabel("student's logit")
    plots.add_legend(grid[0], fontsize=7)
    return figure


def costs(seconds, results, colors, measure):
    """Quality over seconds, each point named."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, x in seconds.items():
        y = results[f"{name}/{measure}"]
        axes.plot(x, y, "o", color=colors[name])
        axes.annotate(name, (x, y), textcoords="offset points", xytext=(6, 4))
    axes.set_xscale("log")
    axes.margins(x=0.3, y=0.2)
    unit = " (%)" if measure == "accuracy" else ""
    axes.set(xlabel="seconds for all pairs (logarithmic)", ylabel=f"{measure}{unit}")
    axes.grid(alpha=0.3)
    return figure


def curves(lines, colors, measure):
    """Validation measures of all students over the steps."""
    panels = {}
    for key in (measure, "spearman", "rank"):
        name, panels[key] = f"validation/{key}", {}
        for student, rows in lines.items():
            points = [(x["step"], x[name]) for x in rows if name in x]
            if points:
                panels[key][student] = tuple(zip(*points, strict=True))
    return plots.lines(
        panels, xlabel="step", ylabel="on validation pairs", colors=colors
    )
