"""What mkdocs needs from us: pages made from the package, formulas in docstrings.

On a page, `[[exports MODULE]]` stands for the docstring of a module and the
documentation of its public names, or of all that a package exports; `[[methods]]` for
those of every method, `[[catalogue]]` for the tables of all losses and `[[notation]]`
for the letters of the formulas. Used by mkdocs.yml, which `launch/docs` builds.
"""

import importlib
import inspect
import itertools
import re
import sys

from docs.hooks import formulas

MARKER = re.compile(r"^\[\[(\w+)(?: ([\w.]+))?\]\]$", re.MULTILINE)
REMOTE = re.compile(
    r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)=.?(?:https?:)?//[^>]*"
)


def on_page_markdown(markdown: str, **_) -> str:
    """Fills in the markers of a page (called by mkdocs)."""
    made = {
        "exports": exports,
        "methods": methods,
        "catalogue": catalogue,
        "notation": formulas.notation,
    }
    return MARKER.sub(lambda m: made[m[1]](*filter(None, m.groups()[1:])), markdown)


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
    """All losses, one table for each family."""
    from contrastive_jax import ebm, losses, methods, parallel

    lines = []
    every = losses.catalogue.entries(ebm, *methods.modules())
    for family, entries in itertools.groupby(every, lambda entry: entry.family):
        lines += ["", f"## {family.capitalize()}", ""]
        lines += ["| loss | inputs | also known as | at scale | from |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        lines += [row(entry, parallel.__all__) for entry in entries]
    return "\n".join(lines)


def row(entry, scalable: list[str]) -> str:
    """One loss as a row of its table; `scalable` are the names in `parallel`."""
    scales = entry.path.startswith("contrastive_jax.losses.") and entry.name in scalable
    parallel = f"parallel.{entry.name}"
    cells = [
        f"[`{entry.name}`][{entry.path}]<br>{entry.summary}",
        "<br>".join(f"`{name}`" for name in entry.inputs),
        ", ".join(entry.aliases),
        f"[`{parallel}`][contrastive_jax.{parallel}]" if scales else "",
        entry.reference,
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
