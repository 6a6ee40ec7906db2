"""Draws the results over seeds: pictures for experiments/NAME/images from results.json.

    python -m launch.pictures            of every experiment
    python -m launch.pictures edlm       of one

Draws what `of_record` in the experiment's report.py returns, or, where an experiment
has no such function and no picture from the report of a run either, its measures in
percent as bars with their deviation. Pictures from the report of a run are taken by
`python -m launch.reproduce NAME --picture WORDS`.
"""

import argparse
import importlib
import pathlib
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from launch import reproduce
from launch import run as one

BARS = "results"


def results_figure(entries: Sequence[Mapping[str, Any]]):
    """The measures that all methods have, for each variant, over its seeds.

    Args:
      entries: of results.json, whose measures are percentages.
    """
    from contrastive_jax.report import plots

    groups: dict[str, dict[str, tuple[float, float]]] = {}
    entries = [entry for entry in entries if not entry["set"]]
    for entry in entries:
        rows: dict[str, dict[str, tuple[float, float]]] = {}
        for key, x in entry["metrics"].items():
            method, _, measure = key.partition("/")
            rows.setdefault(measure, {})[method] = x["mean"], x["std"]
        most = max(map(len, rows.values()))
        for measure, named in rows.items():
            if len(named) == most:
                words = re.sub("[/_]", " ", measure)
                words += f" {entry['variant'] or 'default'}" * (len(entries) > 1)
                groups[textwrap.fill(words, 14)] = named
    seeds = max(len(entry["seeds"]) for entry in entries)
    return plots.bars(groups, ylabel=f"% (mean and deviation, {seeds} seeds)")


def figures(name: str) -> dict[str, Any]:
    """The pictures that an experiment's record gives, by what they show."""
    folder, entries = one.ROOT / "experiments" / name, reproduce.entries(name)
    if (folder / "report.py").exists():
        report = importlib.import_module(f"experiments.{name}.report")
        if hasattr(report, "of_record"):
            return report.of_record(entries)
    others = {file.stem for file in folder.glob("images/*.png")} - {BARS}
    return {} if others or not entries else {BARS: results_figure(entries)}


def draw(name: str) -> list[pathlib.Path]:
    """Writes them; returns the files."""
    from contrastive_jax.report import page

    files = []
    for title, figure in figures(name).items():
        file = (
            one.ROOT / "experiments" / name / "images" / f"{reproduce.slug(title)}.png"
        )
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(page.png(figure))
        files.append(file)
    return files


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments (all)")
    try:
        for name in parser.parse_args(argv).names or one.experiments():
            one.load(name)
            for file in draw(name):
                print(file.relative_to(one.ROOT))
    except one.WrongInput as e:
        print(f"launch.pictures: {e}", file=sys.stderr)
        return one.WRONG_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
