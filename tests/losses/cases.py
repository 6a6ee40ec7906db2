"""What the contract battery needs to know about one loss.

Each `cases_<module>.py` beside this file, and the test file of each method, defines
`CASES`, a dict from the name of an exported loss to a `Case`; a second case of the same
loss has the name, a slash and a word ("supervised_contrastive/in"). `HELPERS` names
exports that are no losses. `all_cases` and `all_helpers` merge what the modules define.
"""

import dataclasses
import importlib
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

Inputs = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """One loss and how to call it.

    Attributes:
      loss: the public function; called as `loss(**inputs, **options)`.
      axes: the axes of every array argument that `make` returns, by name, as in
        {"logits": "n m", "labels": "n"}. "n" are anchors, "m" candidates, "2n" and "2m"
        the same in two views (all first views, then all second views); any other word
        is an axis the battery leaves alone. Anchors that are each other's candidates
        are "n n".
      make: function of (rng, n) that returns valid inputs for n anchors. Floats come as
        float64 and are cast by the battery. The last candidate ("m") must be nobody's
        labelled column and nobody's only positive, for the battery leaves it out.
      grads: arguments that the loss is differentiated by.
      options: plain keyword arguments.
      where: axes of the `where` mask: "n m", "2n 2m" or "n n" (pairs), "n" (rows), or
        None for a loss without one.
      reduces: whether the loss takes `weights` and `reduce_fn`.
      permutes: whether the losses of anchors follow a permutation of the anchors.
      without_positives: function of inputs that returns inputs in which no anchor has
        a positive; value and gradient must then be 0. None where there is no such
        thing.
      corners: further keyword arguments under which value and gradient must stay
        finite, besides temperature=1e-3, which is tried wherever there is one.
      large: factor by which inputs are multiplied to reach 1e4.
      columns: integer arguments that are numbers of columns; a number that is none
        drops its anchor (traced) or raises. Other integers are names of classes.
      offset: arguments to which one number may be added, to all of them, without any
        change: what a softmax is taken of. The battery asks the same of every loss
        that turns out not to change with its scores.
      smallest: least number of anchors the definition allows.
      gathered: function of (a, b, gather, rows) that returns inputs of the global form:
        a and b are the local embeddings [n, d] of two views of the same examples,
        `gather` stacks rows of all devices, `rows` are the local examples' rows among
        all. Every anchor must count. None for a loss that is no in-batch loss.
    """

    loss: Callable[..., Any]
    axes: dict[str, str]
    make: Callable[[np.random.Generator, int], Inputs]
    grads: tuple[str, ...]
    options: Inputs = dataclasses.field(default_factory=dict)
    where: str | None = "n m"
    reduces: bool = True
    permutes: bool = True
    without_positives: Callable[[Inputs], Inputs] | None = None
    corners: tuple[Inputs, ...] = ()
    large: float = 1e4
    columns: tuple[str, ...] = ()
    offset: tuple[str, ...] = ()
    smallest: int = 1
    gathered: Callable[..., Inputs] | None = None


def modules() -> list[Any]:
    """Every `cases_*.py` beside this file, and the tests of every method."""
    tests = pathlib.Path(__file__).parent.parent
    paths = sorted(tests.glob("losses/cases_*.py")) + sorted(
        tests.glob("methods/test_*.py")
    )
    names = [f"tests.{path.parent.name}.{path.stem}" for path in paths]
    every = [importlib.import_module(name) for name in names]
    return [module for module in every if hasattr(module, "CASES")]


def all_groups() -> dict[str, list[str]]:
    """The names of the cases of each module."""
    return {module.__name__: list(module.CASES) for module in modules()}


def all_cases() -> dict[str, Case]:
    """The cases of all modules, which share no name."""
    cases = [item for module in modules() for item in module.CASES.items()]
    names = [name for name, _ in cases]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"cases: expected names of their own, got {twice} twice")
    return dict(cases)


def all_helpers() -> set[str]:
    """Exports that are no losses, as the modules name them."""
    return {name for module in modules() for name in getattr(module, "HELPERS", ())}


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def classes(rng: np.random.Generator, n: int) -> np.ndarray:
    """n class labels, two of each class and one of one class when n is odd."""
    return rng.permutation(np.arange(n) // 2)
