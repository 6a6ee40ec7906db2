"""What an experiment can be asked for: `launch/run NAME --show`.

Prints its variants, and each config value of one with the comment that stands beside it
in the source: in `get_config`, or in the preset that a section is made by.
"""

import ast
import importlib
import inspect
import io
import tokenize
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from launch import run as one


def comments(source: str) -> dict[int, str]:
    """Comments by line; one that has lines of its own belongs to the line after it."""
    found: dict[int, str] = {}
    above: list[str] = []
    code = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line, text = token.start[0], token.string
        if token.type == tokenize.COMMENT:
            if line in code:
                found[line] = text.lstrip("# ")
            else:
                above.append(text.lstrip("# "))
        elif token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT):
            code.add(line)
            if above:
                found.setdefault(line, " ".join(above))
                above = []
    return found


def keywords(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Keys below a call like dict(a=1, b=dict(c=2)), and their lines."""
    if not isinstance(node, ast.Call):
        return
    for inner in node.args:
        yield from keywords(inner, prefix)
    for keyword in node.keywords:
        if keyword.arg:
            yield f"{prefix}{keyword.arg}", keyword.value.lineno
            yield from keywords(keyword.value, f"{prefix}{keyword.arg}.")


def of_preset(function: Callable[..., Any]) -> dict[str, str]:
    """Comments by key of the dictionaries that a function is made of."""
    source = inspect.cleandoc("\n" + inspect.getsource(function))
    told, found = comments(source), {}
    for node in ast.walk(ast.parse(source)):
        named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if named and node.func.id in ("dict", "ConfigDict"):
            for key, line in keywords(node):
                if line in told:
                    found.setdefault(key, told[line])
    return found


def called(node: ast.AST, module: ModuleType) -> Callable[..., Any] | None:
    """The function `name.attribute` that an expression calls, or None."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        place = node.func.value
        if isinstance(place, ast.Name) and inspect.ismodule(
            owner := getattr(module, place.id, None)
        ):
            return getattr(owner, node.func.attr, None)
    return None


def described(module: ModuleType) -> dict[str, str]:
    """Comments by dotted key of what a config module's `get_config` sets first."""
    source = inspect.getsource(module)
    told, found = comments(source), {}
    body = next(
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == "get_config"
    )
    for node in body:
        if not isinstance(node, ast.Assign):
            continue
        _, _, section = ast.unparse(node.targets[0]).partition(".")
        prefix = f"{section}." if section else ""
        for key, line in keywords(node.value, prefix):
            if line in told:
                found[key] = told[line]
        preset = called(node.value, module)
        if inspect.isfunction(preset):
            for key, text in of_preset(preset).items():
                found.setdefault(f"{prefix}{key}", text)
        elif node.lineno in told and section:
            found.setdefault(section, told[node.lineno])
    return found


def show(experiment: str, config: Any) -> str:
    """Variants, keys, values and comments of an experiment's config.

    Raises:
      WrongInput: no such experiment.
    """
    from contrastive_jax.training import config as configs

    name = experiment.partition(":")[0]
    one.load(name)
    module = importlib.import_module(f"experiments.{name}.config")
    told = described(module)
    variants = " ".join(f"{name}:{x}" if x else name for x in module.VARIANTS)
    lines = [one.experiments()[name], f"variants: {variants}", ""]
    values = {key: f"{key}={x!r}" for key, x in configs.flatten(config).items()}
    width = min(max(map(len, values.values())), 48)
    said = set()  # a comment on several keys is shown once
    for key, text in values.items():
        comment = told.get(key, "")
        first, colon, rest = comment.partition(": ")
        if colon and any(key.endswith(f".{first}") or key == first for key in values):
            own = rest if key.rpartition(".")[2] == first else ""
        else:
            own = "" if comment in said else comment
            said.add(comment)
        lines.append(f"{text:<{width}}  {own}".rstrip())
    return "\n".join(lines)
