"""The rules of the house that imports alone do not show; `lint-imports` has the others.

1. Methods never import each other, nor do experiments: lint-imports.
2. A file in tasks/ has two experiments or more.
3. An experiment's files have fixed names and at most 250 lines.
4. Measures draw nothing, reports need numpy and matplotlib only: lint-imports.
5. Adding a paper touches its own files: reference values come as a triple, what tests
   and docs know of an experiment is found by its folder.
6. What is tested is what runs: an experiment imports its method file.
7. The wheel holds the package only.
"""

import ast
import json
import pathlib
import re
import tomllib

import pytest

from launch import tables

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXPERIMENTS = sorted(p.parent for p in ROOT.glob("experiments/*/experiment.py"))
METHODS = sorted(
    p.stem for p in ROOT.glob("contrastive_jax/methods/*.py") if p.stem != "__init__"
)
CODE = ("config.py", "experiment.py", "data.py", "model.py", "measure.py", "report.py")
FILES = {"__init__.py", "README.md", "results.json", "images", *CODE}
LINES = 250


def imports(file: pathlib.Path) -> set[str]:
    """Dotted names of the modules and members that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def imported_by(folder: pathlib.Path) -> set[str]:
    """What the files of a folder import."""
    return set().union(*(imports(file) for file in folder.glob("*.py")))


def test_tasks_are_shared():
    for file in sorted(ROOT.glob("contrastive_jax/tasks/*.py")):
        module = f"contrastive_jax.tasks.{file.stem}"
        users = [e.name for e in EXPERIMENTS if module in imported_by(e)]
        assert file.stem == "__init__" or len(users) >= 2, (
            f"{file.relative_to(ROOT)} is imported by {users or 'no experiment'}: what "
            "fewer than two experiments use belongs into the experiment's own files"
        )


@pytest.mark.parametrize("folder", EXPERIMENTS, ids=lambda p: p.name)
def test_files_of_an_experiment(folder):
    names = {p.name for p in folder.iterdir()} - {"__pycache__"}
    assert names <= FILES, (
        f"{folder.name}: {sorted(names - FILES)}; an experiment has {', '.join(CODE)}, "
        "README.md, results.json and images/"
    )
    for file in folder.glob("*.py"):
        length = file.read_text(encoding="utf-8").count("\n")
        assert length <= LINES, (
            f"{file.relative_to(ROOT)} has {length} lines, more than {LINES}: say it "
            "shorter, or give a part to another of its files"
        )


@pytest.mark.parametrize("folder", EXPERIMENTS, ids=lambda p: p.name)
def test_words_of_an_experiment(folder):
    source = (folder / "experiment.py").read_text(encoding="utf-8")
    doc = ast.get_docstring(ast.parse(source)) or ""
    for part in ("Special about it", "Deviations:"):
        assert part in doc, f"{folder.name}/experiment.py: its docstring lacks {part!r}"
    readme = folder / "README.md"
    assert readme.exists(), f"{folder.name}: README.md is missing"
    titles = {e.name: title_of(e / "README.md") for e in EXPERIMENTS}
    same = [
        e for e, t in titles.items() if t == titles[folder.name] and e != folder.name
    ]
    assert not same, (
        f"{folder.name}/README.md has the title of {same[0]}'s: it was copied; say "
        "what was run and found here"
    )
    pages = {e.name: paragraphs(e / "README.md") for e in EXPERIMENTS}
    for other, page in pages.items():
        shared = page & pages[folder.name] if other != folder.name else ()
        assert not shared, (
            f"{folder.name}/README.md has a paragraph of {other}'s: it was copied; say "
            f"what was run and found here: {min(shared)[:60]!r}"
        )
    results = folder / "results.json"
    if results.exists():
        for table in json.loads(results.read_text(encoding="utf-8")):
            command = table["command"]
            assert f"launch.reproduce {folder.name}" in command, (
                f"{folder.name}/results.json holds the figures of `{command}`: it was "
                "copied; remove it, `python -m launch.reproduce` writes a new one"
            )


def title_of(file: pathlib.Path) -> str:
    """The first line of a page."""
    return file.read_text(encoding="utf-8").partition("\n")[0]


def paragraphs(file: pathlib.Path) -> set[str]:
    """The paragraphs of a page that say something of their own, as one line each."""
    parts = re.split(r"\n\s*\n", file.read_text(encoding="utf-8"))
    lines = {" ".join(part.split()) for part in parts}
    return {line for line in lines if len(line) > 60}


def test_a_copied_readme_is_seen(tmp_path):
    """Left as it was, or with another title only, the template's page is caught."""
    template = ROOT / "experiments" / "template" / "README.md"
    copy = tmp_path / "README.md"
    copy.write_text(
        template.read_text(encoding="utf-8").replace("# Template", "# PALM"),
        encoding="utf-8",
    )
    assert title_of(copy) != title_of(template)
    assert len(paragraphs(copy) & paragraphs(template)) > 2


def test_tables_are_current():
    for file, text in tables.pages().items():
        assert file.read_text(encoding="utf-8") == text, (
            f"the table of experiments in {file.relative_to(ROOT)} is not what their "
            "folders say: run `python -m launch.tables`"
        )


@pytest.mark.parametrize("method", METHODS)
def test_what_is_tested_is_what_runs(method):
    folder = ROOT / "experiments" / method
    assert folder.exists(), (
        f"methods/{method}.py has no experiment of its name; what several papers use "
        "belongs into losses, ebm, states or decoding"
    )
    module = f"contrastive_jax.methods.{method}"
    assert module in imported_by(folder) or any(
        name.startswith(f"{module}.") for name in imported_by(folder)
    ), f"experiments/{method} does not import methods/{method}.py: it has to call it"
    tests = ROOT / "tests" / "methods" / f"test_{method}.py"
    assert tests.exists(), f"methods/{method}.py has no tests/methods/{tests.name}"


def test_reference_values_are_triples():
    golden = ROOT / "tests" / "golden"
    stems = {p.stem for p in golden.iterdir() if p.suffix in (".json", ".npz")}
    for stem in sorted(stems):
        for suffix in (".json", ".npz", ".py"):
            file = golden / f"{stem}{suffix}"
            assert file.exists(), (
                f"tests/golden/{file.name} is missing: {stem} is three"
            )


def test_nothing_lists_the_experiments():
    """Lists that a new paper would have to be added to."""
    names = [e.name for e in EXPERIMENTS]
    for file in [*ROOT.glob("launch/*.py"), *ROOT.glob("tests/experiments/*.py")]:
        if file.stem.removeprefix("test_").partition("_")[0] in names:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            items = []
            if isinstance(node, ast.List | ast.Tuple | ast.Set):
                items = node.elts
            elif isinstance(node, ast.Dict):
                items = node.keys
            listed = [
                x.value
                for x in items
                if isinstance(x, ast.Constant) and x.value in names
            ]
            assert len(listed) < 3, (
                f"{file.relative_to(ROOT)}:{node.lineno} lists experiments {listed}: "
                "find them by their folders (tests/experiments/common.py)"
            )


def test_wheel_holds_the_package_only():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    find = project["tool"]["setuptools"]["packages"]["find"]
    assert all(re.fullmatch(r"contrastive_jax(\.?\*)?", x) for x in find["include"])
