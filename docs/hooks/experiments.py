"""The pages of the experiments and of their results, made of their folders.

An experiment's page is its README.md with links that hold on the site, what its
docstring says of code and deviations, and its record (results.json). Nothing is listed:
a folder with an experiment.py has a page, a place in the navigation and, with a record,
a section among the results.
"""

import html
import json
import pathlib
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from launch import figures, reproduce, tables

ROOT = tables.ROOT
# A page's group is the first whose part of the package its files import.
GROUPS = {
    "Images": r"tasks import .*images",
    "Sentences": r"tasks import .*(text_encoders|sentence)",
    "Language models": r"tasks import .*language_models",
    "Other data": "",
}
# Comparisons of an experiment among the results; its page has all.
COMPARED = 4
LIST = re.compile(r"^(?![\s|>-])(.+)\n(?=- )", re.MULTILINE)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def folders() -> list[pathlib.Path]:
    """The folders of all experiments, the template too."""
    return sorted(p.parent for p in ROOT.glob("experiments/*/experiment.py"))


def title(folder: pathlib.Path) -> str:
    """The title of an experiment's page, up to a colon or comma."""
    line = (folder / "README.md").read_text(encoding="utf-8").partition("\n")[0]
    return re.split(r"[:,]", line.lstrip("# "))[0]


def groups() -> dict[str, list[pathlib.Path]]:
    """The folders by kind of data, in the order of their titles."""
    found: dict[str, list[pathlib.Path]] = {name: [] for name in GROUPS}
    for folder in sorted(folders(), key=lambda x: title(x).lower()):
        code = "\n".join(x.read_text(encoding="utf-8") for x in folder.glob("*.py"))
        name = next(x for x, pattern in GROUPS.items() if re.search(pattern, code))
        found[name].append(folder)
    return found


def navigation() -> list[Any]:
    """The entries of mkdocs' navigation: the overview, then a group for each kind."""
    return [
        {"Overview": "experiments/index.md"},
        *(
            {name: [{title(x): uri(x)} for x in inside]}
            for name, inside in groups().items()
        ),
    ]


def uri(folder: pathlib.Path) -> str:
    """Where the page of a folder lies below docs/."""
    return f"experiments/{folder.name}/index.md"


def pages() -> dict[str, str]:
    """All pages by where they lie."""
    return {"experiments/index.md": overview()} | {uri(x): page(x) for x in folders()}


def pictures() -> dict[str, pathlib.Path]:
    """The pictures of all experiments by where they lie on the site."""
    return {
        f"experiments/{folder.name}/images/{file.name}": file
        for folder in folders()
        for file in sorted(folder.glob("images/*.png"))
    }


def overview() -> str:
    """The page of all experiments: idea and reference of each, by kind of data."""
    lines = [
        "# Experiments",
        "",
        "One folder per published system under `experiments/`; each page shows what "
        "was run here, our figures beside the paper's, and the record of the runs. "
        "The figures of all of them: [results](../results.md).",
    ]
    for name, inside in groups().items():
        lines += [
            "",
            f"## {name}",
            "",
            "| system | idea | from |",
            "| --- | --- | --- |",
        ]
        for folder in inside:
            doc = tables.docstring(folder)
            idea = doc.partition("\n")[0].partition(": ")[2].rstrip(".")
            cells = [f"[{title(folder)}]({folder.name}/index.md)", idea, source(doc)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def source(doc: str) -> str:
    """The references of a docstring."""
    return tables.paragraph(doc, "References:") or tables.paragraph(doc, "Reference:")


def page(folder: pathlib.Path) -> str:
    """The page of one experiment."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    text = LINK.sub(lambda m: m[1] + relink(folder, m[2]) + m[3], text)
    doc = tables.docstring(folder).partition("\n")[2].strip()
    about = f"## In the code\n\n`experiments/{folder.name}/`. {doc}"
    # Lists begin without a blank line there, which Markdown on the site needs.
    parts = [LIST.sub(r"\1\n\n", part.rstrip()) for part in (text, about)]
    if found := reproduce.entries(folder.name):
        parts.append("## Record\n\n" + "\n\n".join(map(record, found)))
    return "\n\n".join(parts) + "\n"


def relink(folder: pathlib.Path, target: str) -> str:
    """Where a link of a README leads on the site.

    Raises:
      ValueError: to a file that has no page.
    """
    path, sharp, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", path) or path.startswith("images/"):
        return target
    file = (folder / path).resolve().relative_to(ROOT)
    if file.parts[0] == "docs":
        place = f"../../{file.relative_to('docs').as_posix()}"
    elif file.parts[0] == "experiments" and file.name == "README.md":
        place = f"../{file.relative_to('experiments').parent.as_posix()}/index.md"
    else:
        raise ValueError(f"{folder.name}/README.md links to {target}: not on the site")
    return place + sharp + anchor


def settings(entry: Mapping[str, Any]) -> str:
    """Variant and settings of an entry in words."""
    return ", ".join([entry["variant"] or "default", *entry["set"]])


def record(entry: Mapping[str, Any]) -> str:
    """One entry of results.json: a table that unfolds, and where it comes from."""
    number = f"{len(entry['metrics'])} measures, {len(entry['seeds'])} seed(s)"
    summary = f"<summary>{html.escape(settings(entry))}: {number}</summary>"
    return "\n\n".join(
        [
            f'<details markdown="1">{summary}',
            reproduce.table(dict(entry)),
            *(f"`{line}`" for line in reproduce.compared(dict(entry))),
            f"`{reproduce.about(dict(entry))}`",
            f"Revisions: {', '.join(f'`{x[:12]}`' for x in entry['git_revisions'])}.",
            "</details>",
        ]
    )


def short(command: str) -> str:
    """A command of launch.reproduce without what it compares."""
    words = shlex.split(command)
    kept: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--compare":
            del words[:2]
        else:
            kept.append(word)
    return shlex.join(kept)


def golden(name: str) -> int:
    """The number of stored reference values of a method; 0 for none of its own."""
    file = ROOT / "tests" / "golden" / f"{name}.json"
    if not file.exists():
        return 0
    return len(json.loads(file.read_text(encoding="utf-8"))["cases"])


def claims(folder: pathlib.Path) -> tuple[str, str]:
    """What an experiment shows and, where its README has them, the paper's figures."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    theirs = [
        f"{start} {found}"
        for start in ("The paper's", "The published")
        if (found := tables.paragraph(text, start))
    ]
    return tables.paragraph(text, "**Shows:**"), " ".join(theirs[:1])


def compared(entries: Iterable[Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The comparisons of all entries with their settings, the default config first."""
    ordered = sorted(entries, key=lambda x: (len(x["set"]), x["variant"]))
    return [(settings(x), c | {"of": x}) for x in ordered for c in x["comparisons"]]


def comparison_table(found: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """A row for each comparison: both sides and their difference over the seeds."""
    lines = ["| run | method | baseline | difference | p |", f"|{' --- |' * 5}"]
    for run, x in found:
        a, b = (f"`{x[k]}`<br>{whole(x['of']['metrics'][x[k]])}" for k in "ab")
        p = "" if x["p"] is None else f"{x['p']:.2g}"
        sign = "+" if x["mean"] > 0 else ""
        cells = [run, a, b, sign + whole(x), p]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def whole(x: dict[str, Any]) -> str:
    """Mean ± deviation that no line break parts."""
    return figures.shown(x).replace(" ", "\N{NO-BREAK SPACE}")


def results() -> str:
    """A section for every experiment with a record, by kind of data."""
    lines = []
    for name, inside in groups().items():
        lines += ["", f"## {name}"]
        for folder in inside:
            if found := reproduce.entries(folder.name):
                lines += ["", section(folder, found)]
    return "\n".join(lines)


def section(folder: pathlib.Path, entries: list[dict[str, Any]]) -> str:
    """Claim, figures, the paper's, golden cases, wall time and command."""
    claim, theirs = claims(folder)
    first = min(entries, key=lambda x: (len(x["set"]), x["variant"]))
    rows = compared(entries)
    more = f" {len(rows) - COMPARED} more comparisons are on its page."
    table = comparison_table(rows[:COMPARED]) if rows else reproduce.table(first)
    cases, seconds = golden(folder.name), first["wall_seconds"]
    told = f"{cases} golden cases" if cases else "golden cases of the shared losses"
    on = first["machine"]
    parts = [
        f"### [{title(folder)}]({uri(folder)})",
        claim[:1].upper() + claim[1:],
        table,
        more.strip() if len(rows) > COMPARED else "",
        theirs,
        f"{told}; {min(seconds):.0f} to {max(seconds):.0f} s a seed, {on['devices']} x "
        f"{on['device']}, {on['cpu_cores']} core(s):",
        f"```\n{short(first['command'])}\n```",
    ]
    return "\n\n".join(part for part in parts if part)
