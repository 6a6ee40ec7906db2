"""The HTML report of a run: one self-contained file with its pictures inside."""

import base64
import html
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from contrastive_jax.report import plots
from contrastive_jax.report.record import write_atomic

# Pixels of a picture for an inch of its figure.
DPI = 130

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; color: #222; background: #fff; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } img { max-width: 100%; }
td, th { padding: .25rem .9rem; border-bottom: 1px solid #ddd; text-align: right; }
td:first-child, th:first-child { text-align: left; padding-left: 0; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: 12px; }
p.note { color: #555; }
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
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DPI)
        data = base64.b64encode(file.getvalue()).decode()
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

    def training(self, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Adds training curves of every metric, one row of panels for each run.

        Args:
          runs: logged lines by name of the run, as `training.metrics.read` gives them.
        """
        self.section("Training")
        for name, lines in runs.items():
            drawn = [key for key in (lines[-1] if lines else ()) if key != "step"]
            if drawn:
                self.text(name)
                self.figure(plots.curves(lines, drawn), f"training curves of {name}")

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
        return write_atomic(pathlib.Path(workdir) / "report.html", page)
