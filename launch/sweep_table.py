"""The table of many runs: a row per setting, mean and deviation over its seeds.

Printed with a few columns, and written with all of them as a page whose columns sort at
a click, beside the runs.
"""

import html
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from launch import run as one
from launch.figures import shown, summary
from launch.sweep import Run

COLUMNS = 4  # of the printed table, where none are named

SCRIPT = """
for (const th of document.querySelectorAll("th")) {
  th.style.cursor = "pointer";
  th.onclick = () => {
    const table = th.closest("table"), i = th.cellIndex, down = th.dataset.down != "1";
    const value = row => {
      const text = row.cells[i].textContent, number = parseFloat(text);
      return Number.isNaN(number) ? text : number;
    };
    const rows = [...table.rows].slice(1);
    rows.sort((a, b) => {
      const x = value(a), y = value(b);
      const order = typeof x == typeof y ? (x < y ? -1 : x > y ? 1 : 0)
        : typeof x == "number" ? -1 : 1;
      return down ? -order : order;
    });
    for (const other of table.rows[0].cells) delete other.dataset.down;
    th.dataset.down = down ? "1" : "0";
    rows.forEach(row => table.append(row));
  };
}
"""


class Row(NamedTuple):
    """A setting.

    Attributes:
      name: its values, "default" for none.
      complete: how many seeds have figures.
      seeds: how many there are.
      metrics: `figures.summary` of each metric that all complete seeds have.
    """

    name: str
    complete: int
    seeds: int
    metrics: dict[str, dict[str, Any]]


def rows_of(runs: Sequence[Run]) -> list[Row]:
    """A row per setting, in the order of the runs.

    Raises:
      WrongInput: a result.json that cannot be read.
    """
    settings: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        settings.setdefault(run.changes, []).append(run)
    rows = []
    for changes, members in settings.items():
        found = [read(run.result) for run in members if run.result.exists()]
        names = [x for x in found[0] if all(x in y for y in found)] if found else []
        metrics = {x: summary([float(y[x]) for y in found]) for x in names}
        name = " ".join(changes) or "default"
        rows.append(Row(name, len(found), len(members), metrics))
    return rows


def read(file: pathlib.Path) -> dict[str, float]:
    """The metrics of a complete run.

    Raises:
      WrongInput: it cannot be read.
    """
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))["metrics"])
    except (ValueError, KeyError, TypeError) as e:
        raise one.WrongInput(f"{file} cannot be read ({e}); --anew makes it") from e


def cells(rows: Sequence[Row], metrics: Sequence[str]) -> list[list[str]]:
    """Header and rows as text."""
    lines = [["setting", "seeds", *metrics]]
    for row in rows:
        found = [shown(row.metrics[x]) if x in row.metrics else "" for x in metrics]
        lines.append([row.name, f"{row.complete}/{row.seeds}", *found])
    return lines


def text(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """The table in columns."""
    lines = cells(rows, metrics)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        "  ".join(x.ljust(width) for x, width in zip(line, widths, strict=True))
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in padded)


def page(title: str, rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """The table as a page."""
    from contrastive_jax.report import page as pages

    header, *body = cells(rows, metrics)
    lines = ["".join(f"<th>{html.escape(x)}</th>" for x in header)]
    lines += ["".join(f"<td>{html.escape(x)}</td>" for x in row) for row in body]
    table = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{pages.STYLE}</style>"
        f"<h1>{html.escape(title)}</h1>"
        f'<p class="note">Mean ± standard deviation over the seeds that are complete. '
        f"A click on a heading sorts by it.</p>"
        f'<div style="overflow-x: auto"><table>{table}</table></div>'
        f"<script>{SCRIPT}</script></html>\n"
    )


def show(experiment: str, runs: Sequence[Run], metrics: Sequence[str]) -> None:
    """Prints the table and writes its page.

    Args:
      experiment: name, with the variant.
      runs: all runs, complete or not.
      metrics: columns that are printed; the first few when empty.

    Raises:
      WrongInput: no run has a metric that was named.
    """
    from contrastive_jax.report import record

    rows = rows_of(runs)
    known = list(dict.fromkeys(x for row in rows for x in row.metrics))
    for x in metrics:
        if known and x not in known:
            raise one.WrongInput(f"--metrics: no metric {x!r}; {', '.join(known)}")
    if not known:
        print("no run is complete")
        return
    name, _, variant = experiment.partition(":")
    file = runs[0].workdir.parent / f"sweep-{variant or 'default'}.html"
    record.write_atomic(file, page(f"{name} {variant}".strip(), rows, known))
    print(text(rows, metrics or known[:COLUMNS]))
    print(f"  {file}  ({len(known)} columns)")
