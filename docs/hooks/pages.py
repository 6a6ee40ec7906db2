"""What mkdocs needs from us: pages made from the package, formulas in docstrings.

On a page, `[[exports MODULE]]` stands for the documentation of every public name of a
module, or of all that a package exports, `[[catalogue]]` for the tables of all losses
and `[[notation]]` for the letters of the formulas. Used by mkdocs.yml, which
`launch/docs` builds.
"""

import importlib
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
    made = {"exports": exports, "catalogue": catalogue, "notation": formulas.notation}
    return MARKER.sub(lambda m: made[m[1]](*filter(None, m.groups()[1:])), markdown)


def on_post_page(output: str, page, **_) -> str:
    """Makes sure that a page loads nothing from elsewhere (called by mkdocs)."""
    remote = REMOTE.search(output)
    if remote:
        raise ValueError(f"{page.file.src_uri} loads {remote[0]}")
    return output


def exports(path: str, level: int = 2) -> str:
    """One block for mkdocstrings for each public name of a module, in its order.

    Of a package the names that it exports, by the modules they come from.
    """
    module = importlib.import_module(path)
    if hasattr(module, "__path__"):
        homes = sorted({home(module, name) for name in module.__all__} - {None})
        return "\n\n".join(f"## {title(p)}\n\n{exports(p, 3)}" for p in homes)
    own = [name for name, value in vars(module).items() if is_of(value, path)]
    parent, _, _ = path.rpartition(".")
    listed = getattr(sys.modules[parent], "__all__", None)
    if listed is None:
        return blocks(path, [name for name in own if not name.startswith("_")], level)
    return blocks(parent, [name for name in own if name in listed], level)


def home(package, name: str) -> str | None:
    """The module that a name of a package comes from; None for plain values."""
    module = getattr(getattr(package, name), "__module__", None)
    return (
        module
        if module in sys.modules and module.startswith("contrastive_jax")
        else None
    )


def title(path: str) -> str:
    """What a module says of itself before the first colon, or all of it."""
    summary = sys.modules[path].__doc__.partition("\n")[0]
    return summary.rstrip(".").partition(":")[0]


def blocks(prefix: str, names: list[str], level: int) -> str:
    """The documentation of names, headed by them as one writes them after an import."""
    package = prefix.removeprefix("contrastive_jax.")
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
    from contrastive_jax import ebm, losses

    lines = []
    for family, entries in itertools.groupby(losses.catalogue(ebm), lambda e: e.family):
        lines += ["", f"## {family.capitalize()}", ""]
        lines += ["| loss | inputs | also known as | at scale | from |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        lines += [
            row(entry, "ebm" if entry.name in ebm.__all__ else "losses")
            for entry in entries
        ]
    return "\n".join(lines)


def row(entry, package: str) -> str:
    """One loss as a row of its table."""
    link = f"[`{entry.name}`][contrastive_jax.{package}.{entry.name}]"
    scale = [form for form in (entry.tiled, entry.ring) if form]
    cells = [
        f"{link}<br>{entry.summary}",
        "<br>".join(f"`{name}`" for name in entry.inputs),
        ", ".join(entry.aliases),
        "<br>".join(f"[`{form}`][contrastive_jax.parallel.{form}]" for form in scale),
        entry.reference,
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
