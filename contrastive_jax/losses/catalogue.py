"""Every loss with its family, inputs, other names and reference, read from the code.

`entries()` lists the losses of `losses`, `entries(ebm, *methods.modules())` also those
of other packages and modules. Nothing is kept here: a loss says the rest itself. Its
family is the module it stands in, its aliases are the sentence "Also known as A, B and
C." of its docstring.
"""

import inspect
import re
import sys
from types import FunctionType, ModuleType
from typing import NamedTuple


class Entry(NamedTuple):
    """One loss.

    Attributes:
      name: the function's name.
      path: where it is exported, such as "contrastive_jax.losses.info_nce".
      family: what kind of loss it is.
      summary: the first line of its docstring.
      inputs: names of the arrays it is made from, optional ones left out.
      reference: where it comes from.
      aliases: other names for it.
    """

    name: str
    path: str
    family: str
    summary: str
    inputs: tuple[str, ...]
    reference: str
    aliases: tuple[str, ...]


def entries(*modules: ModuleType) -> list[Entry]:
    """Every loss of `losses` and of the modules given, sorted by family and name.

    Args:
      modules: packages or modules with losses and an `__all__`, such as
        `contrastive_jax.ebm`.

    Examples:
      >>> [entry.name for entry in entries() if entry.family == "in-batch"][:3]
      ['all_direction_info_nce', 'debiased_info_nce', 'decoupled_info_nce']
    """
    listed = [
        describe(getattr(module, name), f"{module.__name__}.{name}")
        for module in (sys.modules["contrastive_jax.losses"], *modules)
        for name in module.__all__
        if is_loss(getattr(module, name))
    ]
    return sorted(listed, key=lambda entry: (entry.family, entry.name))


def is_loss(function: object) -> bool:
    """Whether it returns one value, or one per anchor when it is not reduced."""
    if not inspect.isfunction(function):
        return False
    returned = inspect.signature(function).return_annotation
    return getattr(returned, "dim_str", None) in ("", "...")


def describe(function: FunctionType, path: str) -> Entry:
    """The entry of one loss, from its signature and docstring."""
    doc = inspect.getdoc(function) or ""
    parameters = inspect.signature(function).parameters.values()
    reference = re.search(r"^References:\n((?:  .*\n?)+)", doc, re.MULTILINE)
    return Entry(
        name=function.__name__,
        path=path,
        family=family(function.__module__),
        summary=doc.partition("\n")[0],
        inputs=tuple(
            p.name
            for p in parameters
            if p.default is p.empty and hasattr(p.annotation, "dim_str")
        ),
        reference=" ".join(reference[1].split()) if reference else "",
        aliases=aliases(doc),
    )


def family(module: str) -> str:
    """The family of the losses of a module.

    Examples:
      >>> family("contrastive_jax.losses.in_batch"), family("contrastive_jax.ebm.nce")
      ('in-batch', 'energy-based')
    """
    package, name = module.split(".")[-2:]
    return {"losses": name.replace("_", "-"), "ebm": "energy-based"}.get(
        package, package
    )


def aliases(doc: str) -> tuple[str, ...]:
    """What a docstring lists in "Also known as A, B and C.".

    Examples:
      >>> aliases("A loss.\\n\\nAlso known as SimCLR and\\nNT-Xent.\\n")
      ('SimCLR', 'NT-Xent')
    """
    sentence = re.search(r"^Also known as (.+?)\.$", doc, re.MULTILINE | re.DOTALL)
    if not sentence:
        return ()
    return tuple(re.split(r", | and ", " ".join(sentence[1].split())))
