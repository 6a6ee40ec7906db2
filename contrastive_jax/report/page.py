"""What a run leaves: result.json with all it takes to repeat it, and report.html.

The page is self-contained: pictures are inside it, nothing is loaded from elsewhere.
"""

import base64
import html
import importlib.metadata
import io
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

RESULT = "result.json"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")

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
    """A page that grows from the top.

    Args:
      title: heading of the page.
      summary: one paragraph under it.
    """

    def __init__(self, title: str, summary: str = ""):
        self.title = title
        self.parts = [f"<h1>{html.escape(title)}</h1>"]
        self.text(summary)

    def section(self, heading: str, note: str = "") -> None:
        """Begins a section; the note says how to read what follows."""
        self.parts.append(f"<h2>{html.escape(heading)}</h2>")
        self.text(note)

    def text(self, text: str) -> None:
        """Adds a paragraph."""
        if text:
            self.parts.append(f'<p class="note">{html.escape(text)}</p>')

    def figure(self, figure: Figure, alt: str) -> None:
        """Adds a picture; `alt` says what it shows."""
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=130)
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

    def write(self, workdir: str | pathlib.Path) -> pathlib.Path:
        """Writes report.html, whole or not at all."""
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f"<title>{html.escape(self.title)}</title><style>{STYLE}</style></head>"
            f"<body>{''.join(self.parts)}</body></html>"
        )
        return write_atomic(pathlib.Path(workdir) / "report.html", page)


def write_atomic(file: pathlib.Path, text: str) -> pathlib.Path:
    """Writes a text file, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)
    return file


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in PACKAGES}


def machine() -> dict[str, Any]:
    """Devices and cores of this machine."""
    import jax

    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "device": devices[0].device_kind,
        "devices": len(devices),
        "cpu_cores": len(os.sched_getaffinity(0)),
    }


def git_revision() -> str:
    """Commit of the source tree, with "+changes" when it differs; "" outside of git."""
    folder = pathlib.Path(__file__).resolve().parent

    def git(*args):
        return subprocess.run(
            ["git", *args], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def write_result(
    workdir: str | pathlib.Path,
    *,
    experiment: str,
    variant: str,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    wall_seconds: float,
) -> pathlib.Path:
    """Writes result.json.

    Args:
      workdir: folder of the run.
      experiment: its name.
      variant: its variant, "" for the default.
      config: all values, plain.
      metrics: final metrics.
      wall_seconds: time of this call, restarts before it not counted.
    """
    result = {
        "experiment": experiment,
        "variant": variant,
        "metrics": dict(metrics),
        "seed": config.get("seed"),
        "wall_seconds": round(wall_seconds, 1),
        "git_revision": git_revision(),
        "versions": versions(),
        "machine": machine(),
        "config": dict(config),
    }
    text = json.dumps(result, indent=2, default=float) + "\n"
    return write_atomic(pathlib.Path(workdir) / RESULT, text)
