"""Writes the tables of experiments in README.md, experiments/README.md, docs/which.md.

    python -m launch.tables

Rows come from the folders: the first line, the references and the functions that the
docstring of experiment.py names; the first comparison in results.json, of the default
variant where that has one; of the families of objectives the figures in the primer's
results.json. Between the markers nothing is written by hand.
"""

import ast
import pathlib
import re
import sys
from typing import Any

from launch import figures, reproduce

ROOT = pathlib.Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- experiments -->", "<!-- end of experiments -->"
MEASURES = {
    "rare_ap": "rare labels",
    "accuracy": "all labels",
    "few_shot": "unseen, five texts",
    "zero_shot": "unseen, their name",
}


def folders() -> list[pathlib.Path]:
    """The folders of all experiments but the template."""
    found = sorted(p.parent for p in ROOT.glob("experiments/*/experiment.py"))
    return [p for p in found if p.name != "template"]


def paragraph(text: str, start: str) -> str:
    """The paragraph that begins with a word, as one line without it; "" if none."""
    match = re.search(rf"^{re.escape(start)}(.*?)(?:\n\s*\n|\Z)", text, re.M | re.S)
    return " ".join(match[1].split()) if match else ""


def docstring(folder: pathlib.Path) -> str:
    """What an experiment says of itself."""
    source = (folder / "experiment.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or ""


def functions(doc: str) -> list[str]:
    """The functions of the package that a docstring names, in its order."""
    names = re.findall(r"`([a-z_]+\.[A-Za-z_]+)`", doc.partition("\n\nReference")[0])
    sections = ("data.", "model.", "loss.", "optim.", "train.", "eval.", "later.")
    return [n for n in dict.fromkeys(names) if not n.startswith(sections)]


def glance_table() -> str:
    """Of every experiment its idea and its first comparison over seeds."""
    lines = [
        "| experiment | idea | method | baseline | p |",
        "| --- | --- | --- | --- | --- |",
    ]
    for folder in folders():
        idea = docstring(folder).partition("\n")[0].partition(": ")[2].rstrip(".")
        ordered = sorted(
            reproduce.entries(folder.name), key=lambda x: (len(x["set"]), x["variant"])
        )
        cells = ["", "", ""]
        for entry in ordered:
            if entry["comparisons"]:
                x = entry["comparisons"][0]
                sides = [(x[k], figures.shown(entry["metrics"][x[k]])) for k in "ab"]
                cells = [f"`{name}` {value}" for name, value in sides]
                cells.append("" if x["p"] is None else f"{x['p']:.2g}")
                break
        link = f"[`{folder.name}`](experiments/{folder.name}/README.md)"
        lines.append(f"| {' | '.join([link, idea, *cells])} |")
    return "\n".join(lines)


def papers_table() -> str:
    """Folder, idea, references and functions of every experiment."""
    lines = ["| folder | idea | from | functions |", "| --- | --- | --- | --- |"]
    for folder in folders():
        doc = docstring(folder)
        idea = doc.partition("\n")[0].partition(": ")[2].rstrip(".")
        reference = paragraph(doc, "References:") or paragraph(doc, "Reference:")
        used = ", ".join(f"`{name}`" for name in functions(doc))
        lines.append(f"| `{folder.name}` | {idea} | {reference} | {used} |")
    return "\n".join(lines)


def families() -> dict[str, tuple[str, str, str, dict[str, Any] | None]]:
    """Family, what it sees, function, changes of the primer's methods: `FAMILIES`."""
    source = (ROOT / "experiments/primer/config.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FAMILIES":
            return ast.literal_eval(node.value)
    raise ValueError("experiments/primer/config.py: no FAMILIES")


def families_table() -> str:
    """The families of objectives on one task, from the primer's results.json.

    Without figures where that has no runs of the default config.
    """
    runs = (x for x in reproduce.entries("primer") if not (x["variant"] or x["set"]))
    metrics = next((x["metrics"] for x in runs), {})
    lines = [
        f"| family | sees | loss | {' | '.join(MEASURES.values())} |",
        f"|{' --- |' * (3 + len(MEASURES))}",
    ]
    for method, (family, sees, function, _) in families().items():
        cells = [
            figures.shown(metrics[key]) if key in metrics else ""
            for key in (f"{method}/{measure}" for measure in MEASURES)
        ]
        loss = f"[`{function}`][contrastive_jax.{function}]" if function else ""
        lines.append(f"| {family} | {sees} | {loss} | {' | '.join(cells)} |")
    return "\n".join(lines)


def pages() -> dict[pathlib.Path, str]:
    """The files with a table, and their text with the table as it should be."""
    tables = {
        "README.md": glance_table(),
        "experiments/README.md": papers_table(),
        "docs/which.md": families_table(),
    }
    texts = {}
    for name, table in tables.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        texts[ROOT / name] = f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"
    return texts


def main() -> int:
    """Writes what differs; says what it wrote."""
    for file, text in pages().items():
        if file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
            print(f"wrote {file.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
