"""Results as tables, Markdown and plots, and whether methods agree."""

import itertools
import json
import os
import pathlib
from collections.abc import Iterable

from launch.bench.losses import (
    LOSSES,
)
from launch.bench.measure import (
    size,
    versions,
)


def check_agreement(results: list[dict]) -> list[str]:
    """Methods whose loss or gradient norm differs from ours at the same size."""
    problems = []
    for r in results:
        ours = next(o for o in results if size(o) == size(r))
        tolerance = 2e-2 if "bf16" in r["method"] else 2e-3
        for key in ("loss", "grad_norm"):
            if key in r and abs(r[key] - ours[key]) > tolerance * abs(ours[key]):
                problems.append(
                    f"{r['task']} {r['rows']}: {key} of {r['method']} is {r[key]:.6g}, "
                    f"of {ours['method']} {ours[key]:.6g}"
                )
    return problems


def show(results: list[dict]) -> None:
    """Prints a table; times and memory also as a multiple of the first method."""
    keys = sorted({k for r in results for k in r} - {"task", "method", "rows", "width"})
    print(f"{'task':9} {'rows':>7} {'method':29}" + "".join(f"{k:>13}" for k in keys))
    for r in results:
        cells = "".join(f"{r[k]:13.4g}" if k in r else " " * 13 for k in keys)
        first = next(o for o in results if size(o) == size(r))
        for key in ("seconds", "grad_seconds", "scratch", "rise"):
            if r is not first and first.get(key, 0) > 0 and key in r:
                cells += f"  {key} x{r[key] / first[key]:.2f}"
        print(f"{r['task']:9} {r['rows']:7} {r['method']:29}{cells}")


COLUMNS = {
    "seconds": "CPU s",
    "grad_seconds": "with gradient, CPU s",
    "trace_seconds": "trace, CPU s",
    "share": "share of peak",
    "peak": "peak, GFLOP/s",
    "scratch": "scratch, MiB",
    "rise": "memory rise, MiB",
    "loss": "loss",
    "grad_norm": "gradient norm",
}


def tables(runs: pathlib.Path, benches: Iterable[str]) -> None:
    """Prints the saved results as Markdown, one table per bench and task."""
    for bench in benches:
        file = runs / f"bench_{bench}.json"
        if not file.exists():
            continue
        results = json.loads(file.read_text(encoding="utf-8"))["results"]
        order = (
            LOSSES if bench == "losses" else dict.fromkeys(r["task"] for r in results)
        )
        for task in order:
            of_task = [r for r in results if r["task"] == task]
            of_task.sort(key=lambda r: (r["width"], r["rows"]))  # as measured within
            if of_task:
                print(f"\n### {bench}: {task}\n\n" + markdown(of_task))


def markdown(results: list[dict]) -> str:
    """A table; times and memory also as multiples of the first method of a size."""
    extra = dict.fromkeys(k for r in results for k in r if k not in COLUMNS)
    known = [k for k in COLUMNS if any(k in r for r in results)]
    keys = [k for k in extra if k not in ("task", "method", "rows", "width")]
    names = ["rows x width", "method", *(COLUMNS.get(k, k) for k in known), *keys]
    lines = [names, ["---"] * len(names)]
    for r in results:
        first = next(o for o in results if size(o) == size(r))
        cells = [f"{r['rows']:,} x {r['width']}", r["method"]]
        for key in (*known, *keys):
            if key not in r:
                cells.append("")
                continue
            cell = f"{r[key]:.3g}" if abs(r[key]) < 100 else f"{r[key]:,.0f}"
            compared = key in ("seconds", "grad_seconds", "scratch", "rise")
            if compared and r is not first and first[key]:
                cell += f" (x{r[key] / first[key]:.2f})"
            cells.append(cell)
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def plot(results: list[dict], file: pathlib.Path) -> None:
    """Time and memory rise against rows, one row of panels per task."""
    from matplotlib.ticker import LogLocator

    from contrastive_jax.report import page, plots

    widths = [r["width"] for r in results]
    width = max(set(widths), key=widths.count)
    results = [r for r in results if r["width"] == width]
    tasks = [task for task in LOSSES if any(r["task"] == task for r in results)]
    colors = plots.method_colors(r["method"] for r in results)
    marks = plots.marks_of(colors)
    figure, grid = plots.panels_of(2 * len(tasks), 3.8, 2.3)
    measures = {"seconds": "CPU seconds", "rise": "memory rise, MiB"}
    for axes, (task, key) in zip(grid, itertools.product(tasks, measures), strict=True):
        points: dict[str, list[tuple[float, float]]] = {}
        for r in results:
            if r["task"] == task and key in r:
                points.setdefault(r["method"], []).append((r["rows"], r[key]))
        for method, found in points.items():
            ours = method.startswith("ours")
            style = dict(color=colors[method], marker=marks[method][0], markersize=4)
            line = "-" if ours else "--"
            x, y = zip(*sorted(found), strict=True)
            axes.plot(x, y, label=method, linestyle=line, **style)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        rows = [x for found in points.values() for x, _ in found]
        plots.measured_ticks(axes, rows, log=True)
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.set(title=task, xlabel="rows", ylabel=measures[key])
        axes.grid(alpha=0.3)
    figure.suptitle(f"Embeddings of width {width}, float32 (or as named), one thread")
    plots.legend_below(figure)
    file.write_bytes(page.png(figure))


def better(old: dict | None, new: dict) -> dict:
    """The faster of two measurements, with the lesser memory rise of the two."""
    if old is None:
        return new
    row = min(old, new, key=lambda r: r.get("seconds", 0))
    return row | {k: min(old[k], new[k]) for k in ("rise",) if k in row}


def save(file: pathlib.Path, row: dict) -> list[dict]:
    """Adds a measurement to the file, in place of an older one of the same case."""
    old = json.loads(file.read_text())["results"] if file.exists() else []
    kept = {(*size(r), r["method"]): r for r in [*old, row]}  # each in its old place
    results = list(kept.values())
    report = {"versions": versions(), "results": results}
    whole = file.with_suffix(f".{os.getpid()}")
    whole.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    whole.replace(file)
    return results
