"""The HTML report of a run: one self-contained file with its pictures inside."""

import base64
import html
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text

from contrastive_jax.report import plots, record
from contrastive_jax.report.record import write_atomic

# Pixels of a picture for an inch of its figure, and points of all letters in pictures:
# as large as the text around them.
DPI, POINTS = 130, 8

REPORT = "report.html"
STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --line: #ddd;
        --code: #f5f5f5; --note: #555; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ddd; --paper: #181a1f; --line: #444; --code: #24272e; --note: #aaa; }
  img { filter: brightness(.9); border-radius: 4px; }
}
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
img { max-width: 100%; } p { overflow-wrap: break-word; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { padding: .25rem .9rem; border-bottom: 1px solid var(--line);
         text-align: right; }
td:first-child, th:first-child { text-align: left; padding-left: 0; }
pre { background: var(--code); padding: .8rem; overflow-x: auto; font-size: 13px; }
p.note { color: var(--note); }
"""


class Report:
    """An HTML report, built section by section.

    Args:
      title: heading of the page.
      summary: one paragraph under it.
    """

    def __init__(self, title: str, summary: str = ""):
        self.title = title
        self.parts = [f"<h1>{html.escape(title)}</h1>"]
        self.text(summary)

    def section(self, heading: str, note: str = "") -> None:
        """Begins a section; the note is a paragraph under the heading."""
        self.parts.append(f"<h2>{html.escape(heading)}</h2>")
        self.text(note)

    def text(self, text: str) -> None:
        """Adds a paragraph."""
        if text:
            self.parts.append(f'<p class="note">{html.escape(text)}</p>')

    def figure(self, figure: Figure, alt: str) -> None:
        """Adds a picture; `alt` says what it shows."""
        data = base64.b64encode(png(figure)).decode()
        alt = html.escape(alt, quote=True)
        self.parts.append(f'<img alt="{alt}" src="data:image/png;base64,{data}">')

    def table(self, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Adds a table; numbers are shown with four significant digits."""

        def cell(x, tag):
            shown = f"{x:.4g}" if isinstance(x, float) else str(x)
            return f"<{tag}>{html.escape(shown)}</{tag}>"

        lines = ["".join(cell(x, "th") for x in header)]
        lines += ["".join(cell(x, "td") for x in row) for row in rows]
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        self.parts.append(f"<table>{body}</table>")

    def code(self, text: str) -> None:
        """Adds preformatted text."""
        self.parts.append(f"<pre>{html.escape(text)}</pre>")

    def results(self, results: Mapping[str, float]) -> None:
        """Adds a table of measures, "method/measure" in the row of its method."""
        rows: dict[str, dict[str, float]] = {}
        for key, value in results.items():
            method, _, measure = key.rpartition("/")
            rows.setdefault(method, {})[measure] = value
        measures = list(dict.fromkeys(x for row in rows.values() for x in row))
        cells = [
            [name, *(row.get(m, "") for m in measures)] for name, row in rows.items()
        ]
        self.table(["method", *measures], cells)

    def training(
        self,
        runs: Mapping[str, Sequence[Mapping[str, Any]]],
        chance: Mapping[str, float] | None = None,
    ) -> None:
        """Adds training curves of every metric, panels for each run.

        Args:
          runs: logged lines by name of the run, as `training.metrics.read` gives them.
          chance: "loss" of a model that tells nothing apart, such as the logarithm of
            the number of candidates, by name of the run.
        """
        self.section("Training")
        for name, lines in runs.items():
            drawn = [key for key in (lines[-1] if lines else ()) if key != "step"]
            if drawn:
                self.text(name)
                level = {"loss": chance[name]} if chance and name in chance else None
                figure = plots.curves(lines, drawn, chance=level)
                self.figure(figure, f"training curves of {name}")

    def config(self, text: str) -> None:
        """Adds the config, as `training.config_text` writes it."""
        self.section("Configuration")
        self.code(text)

    def write(self, workdir: str | pathlib.Path) -> pathlib.Path:
        """Writes report.html, whole or not at all."""
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f"<title>{html.escape(self.title)}</title><style>{STYLE}</style></head>"
            f"<body>{''.join(self.parts)}</body></html>"
        )
        return write_atomic(pathlib.Path(workdir) / REPORT, page)


def png(figure: Figure) -> bytes:
    """A figure as a PNG file, all its letters of one size."""
    for text in figure.findobj(Text):
        text.set_fontsize(POINTS)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def add_provenance(workdir: str | pathlib.Path) -> None:
    """Ends a run's report, if there is one, with where its figures come from.

    Args:
      workdir: folder of the run, with its record, result.json.
    """
    file = pathlib.Path(workdir) / REPORT
    if not file.exists():
        return
    text = (pathlib.Path(workdir) / record.RESULT).read_text(encoding="utf-8")
    result = json.loads(text)
    on = result["machine"]
    rows = {
        "run": ":".join(filter(None, (result["experiment"], result["variant"]))),
        "seed": result["seed"],
        "finished": result["finished"],
        "revision": result["git_revision"] or "not in git",
        "code": ", ".join(f"{k} {v}" for k, v in result["code"].items()),
        "devices": f"{on['devices']} x {on['device']}, {on['cpu_cores']} CPU cores",
        "versions": ", ".join(f"{k} {v}" for k, v in result["versions"].items()),
        "wall time": f"{result['wall_seconds']:.0f} s",
    }
    block = Report("")
    block.parts.clear()
    block.section("Where these figures come from")
    block.table(["", ""], list(rows.items()))
    before, _, after = file.read_text(encoding="utf-8").rpartition("</body>")
    write_atomic(file, f"{before}{''.join(block.parts)}</body>{after}")
