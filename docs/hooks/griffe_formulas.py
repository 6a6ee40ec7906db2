"""What griffe, which reads the docstrings for mkdocstrings, needs from us."""

import re

import griffe

from docs.hooks import formulas


class RenderedFormulas(griffe.Extension):
    """Shows the rendered formula of a function where the docstring has it as text."""

    def __init__(self):
        super().__init__()
        self.entries = {
            path.rpartition(".")[2]: formulas.render(entry)
            for path, entry in formulas.load().items()
        }

    def on_function(self, *, func: griffe.Function, **_) -> None:
        """Called by griffe for every function it reads."""
        packages = ("contrastive_jax.losses.", "contrastive_jax.ebm.")
        rendered = self.entries.get(func.name)
        if rendered and func.docstring and func.path.startswith(packages):
            func.docstring.value = replace(func.docstring.value, rendered)


def replace(docstring: str, rendered: str) -> str:
    """The docstring with its indented text formulas replaced."""
    head, *sections = re.split(r"\n(?=Args:\n)", docstring, maxsplit=1)
    summary, *rest = re.split(r"\n\s*\n", head)
    # A paragraph that goes on in lower case explains the letters of the text formula.
    rest = [part for part in rest if not part.startswith("    ")]
    rest = [part for part in rest if not part[:1].islower()]
    head = "\n\n".join([summary, rendered, *rest])
    return "\n".join([head + "\n", *sections])
