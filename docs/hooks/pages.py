"""What mkdocs needs from us: pages made from the package, formulas in docstrings.

On a page, `[[exports MODULE]]` stands for the docstring of a module and the
documentation of its public names, or of all that a package exports; `[[methods]]` for
those of every method, `[[catalogue]]` for the tables of all losses, `[[notation]]` for
the letters of the formulas, `[[results]]` for the figures of all experiments and
`[[commands]]` for what every command says of itself. The pages of experiments and
notebooks are made as a whole. Used by mkdocs.yml, which `launch/docs` builds.
"""

import contextlib
import importlib
import inspect
import io
import itertools
import json
import os
import pathlib
import re
import sys

from docs.hooks import experiments, formulas

PAGES = pathlib.Path(__file__).resolve().parent.parent
LAUNCH = PAGES.parent / "launch"
MARKER = re.compile(r"^\[\[(\w+)(?: ([\w.]+))?\]\]$", re.MULTILINE)
REMOTE = re.compile(
    r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)=.?(?:https?:)?//[^>]*"
)


def on_config(config, **_):
    """Puts the experiments into the navigation (called by mkdocs)."""
    for entry in config.nav:
        if "Experiments" in entry:
            entry["Experiments"] = experiments.navigation()
    return config


def on_files(files, config, **_):
    """Adds the pages that are made as a whole, and pictures (called by mkdocs)."""
    from mkdocs.structure.files import File

    for uri, text in {**experiments.pages(), **notebooks()}.items():
        files.append(File.generated(config, uri, content=text))
    for uri, file in experiments.pictures().items():
        files.append(File.generated(config, uri, abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, **_) -> str:
    """Fills in the markers of a page (called by mkdocs)."""
    made = {
        "exports": exports,
        "methods": methods,
        "catalogue": catalogue,
        "notation": formulas.notation,
        "results": experiments.results,
        "commands": commands,
    }
    filled = MARKER.sub(lambda m: made[m[1]](*filter(None, m.groups()[1:])), markdown)
    # A mean and its deviation stay on one line.
    return re.sub(r"(?<=\d) ± (?=\d)", "\u00a0±\u00a0", filled)


def on_post_page(output: str, page, **_) -> str:
    """Makes sure that a page loads nothing from elsewhere (called by mkdocs)."""
    remote = REMOTE.search(output)
    if remote:
        raise ValueError(f"{page.file.src_uri} loads {remote[0]}")
    return output


def exports(path: str, level: int = 2) -> str:
    """The docstring of a module, and a block for each of its public names, in order.

    Of a package the names that it exports, by the modules they come from.
    """
    module = importlib.import_module(path)
    about = inspect.getdoc(module)
    if hasattr(module, "__path__"):
        homes = sorted({home(module, name) for name in module.__all__} - {None, path})
        parts = [f"## {short(p)}\n\n{exports(p, level + 1)}" for p in homes]
        return "\n\n".join([about, *parts])
    names = [name for name, value in vars(module).items() if is_of(value, path)]
    parent, _, _ = path.rpartition(".")
    listed = getattr(sys.modules[parent], "__all__", None)
    if listed is not None:
        return "\n\n".join(
            [about, blocks(parent, [n for n in names if n in listed], level)]
        )
    names = [name for name in names if not name.startswith("_")]
    return "\n\n".join([about, blocks(path, names, level)])


def methods() -> str:
    """Every method: its docstring and what it exports."""
    from contrastive_jax import methods

    return "\n\n".join(
        f"## {short(module.__name__)}\n\n{inspect.getdoc(module)}\n\n"
        + blocks(module.__name__, module.__all__, 3)
        for module in methods.modules()
    )


def home(package, name: str) -> str | None:
    """The module that a name of a package comes from; None for plain values."""
    module = getattr(getattr(package, name), "__module__", None)
    ours = module in sys.modules and module.startswith("contrastive_jax")
    return module if ours else None


def short(path: str) -> str:
    """A path as one writes it after importing the package."""
    return path.removeprefix("contrastive_jax.")


def blocks(prefix: str, names: list[str], level: int) -> str:
    """The documentation of names, headed by them as one writes them after an import."""
    package = short(prefix).removeprefix("methods.")
    return "\n\n".join(
        f"::: {prefix}.{name}\n"
        f"    options:\n"
        f"      heading: {package}.{name}\n"
        f"      toc_label: {name}\n"
        f"      heading_level: {level}"
        for name in names
    )


def is_of(value: object, path: str) -> bool:
    """Whether a function or class is defined in a module."""
    return callable(value) and getattr(value, "__module__", None) == path


def catalogue() -> str:
    """All losses, one table for each family, in the order of the navigation.

    Within a family those that have a form for big batches come first.
    """
    from contrastive_jax import ebm, losses, methods, parallel

    nav = (PAGES.parent / "mkdocs.yml").read_text(encoding="utf-8")
    pages = re.findall(r"- api/(\w+)\.md", nav)

    def place(entry):
        home = {"energy-based": "ebm"}.get(entry.family, entry.family)
        page = pages.index(home.replace("-", "_"))
        return page, not scales(entry, parallel.__all__), entry.name

    lines = []
    every = sorted(losses.catalogue.entries(ebm, *methods.modules()), key=place)
    for family, entries in itertools.groupby(every, lambda entry: entry.family):
        lines += ["", f"## {family.capitalize()}", ""]
        lines += ["| loss | inputs | also known as | at scale | from |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        lines += [row(entry, parallel.__all__) for entry in entries]
    return "\n".join(lines)


def scales(entry, scalable: list[str]) -> bool:
    """Whether `parallel` has the loss of the same name."""
    return entry.path.startswith("contrastive_jax.losses.") and entry.name in scalable


def row(entry, scalable: list[str]) -> str:
    """One loss as a row of its table; `scalable` are the names in `parallel`."""
    parallel = f"parallel.{entry.name}"
    cells = [
        f"[`{entry.name}`][{entry.path}]<br>{entry.summary}",
        "<br>".join(f"`{name}`" for name in entry.inputs),
        ", ".join(entry.aliases),
        f"[`{parallel}`][contrastive_jax.{parallel}]"
        if scales(entry, scalable)
        else "",
        entry.reference,
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def notebooks() -> dict[str, str]:
    """The notebooks of docs/notebooks as pages, by where they lie."""
    return {
        f"notebooks/{file.stem}.md": notebook(file)
        for file in sorted(PAGES.glob("notebooks/*.ipynb"))
    }


def notebook(file: pathlib.Path) -> str:
    """A notebook as a page: its texts, and its code in blocks."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    parts = [
        f"```python\n{source}\n```" if cell["cell_type"] == "code" else source
        for cell in cells
        for source in ["".join(cell["source"])]
    ]
    note = f"This page is `docs/notebooks/{file.name}`."
    return "\n\n".join([*parts, note]) + "\n"


def command_modules() -> dict[str, str]:
    """The commands of `launch` with arguments: how they are called, and modules."""
    found = {}
    for file in sorted(LAUNCH.rglob("*.py")):
        if "def main(argv" in file.read_text(encoding="utf-8"):
            place = file.relative_to(LAUNCH.parent).with_suffix("")
            module = ".".join(place.parts)
            script = (LAUNCH.parent / place).is_file()
            shown = f"python -m {module.removesuffix('.__main__')}"
            found[str(place) if script else shown] = module
    return found


def commands() -> str:
    """What every command of `launch` says of itself when it is asked for help."""
    return "\n\n".join(
        f"## {name}\n\n```text\n{said(module).rstrip()}\n```"
        for name, module in command_modules().items()
    )


def said(module: str) -> str:
    """The help of one command."""
    main, out = importlib.import_module(module).main, io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "84"
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            main(["--help"])
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    return out.getvalue()
