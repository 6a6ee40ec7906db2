"""Methods of papers: one file for each, with what carries its name.

A file exports what its `__all__` lists, and keeps the contract of
`contrastive_jax.losses` in masks, weights, reductions, precision and what raises. The
contract cases of its losses are in `tests/methods/test_<file>.py`.
Nothing is imported here: `from contrastive_jax.methods import moco`.
"""

import importlib
import pkgutil
from types import ModuleType


def modules() -> list[ModuleType]:
    """All method files, imported, sorted by name.

    Examples:
      >>> "moco" in [module.__name__.rpartition(".")[2] for module in modules()]
      True
    """
    return [
        importlib.import_module(f"{__name__}.{info.name}")
        for info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name)
    ]
