"""The documentation has the formula, an example and a page for every loss."""

import doctest
import importlib
import inspect
import json
import pathlib
import pkgutil
import re

import pytest

import contrastive_jax
from contrastive_jax import ebm, losses, methods
from docs.hooks import experiments, formulas
from docs.hooks import pages as docs
from launch import pictures, reproduce

ROOT = experiments.ROOT
FOLDERS = experiments.folders()
PAGES = pathlib.Path(docs.__file__).parent.parent
ENTRIES = formulas.load()
SHARED = [entry.path for entry in losses.catalogue.entries(ebm)]
OF_METHODS = [
    entry.path
    for entry in losses.catalogue.entries(*methods.modules())
    if entry.family == "methods"
]


def function_at(path):
    package, _, name = path.rpartition(".")
    return getattr(importlib.import_module(package), name)


def modules_of(package):
    return {info.name for info in pkgutil.iter_modules(package.__path__)}


def test_every_shared_loss_has_a_formula():
    assert set(SHARED) - set(ENTRIES) == set()


def test_every_formula_belongs_to_an_export():
    exports = {f"contrastive_jax.losses.{name}" for name in losses.__all__}
    exports |= {f"contrastive_jax.ebm.{name}" for name in ebm.__all__}
    assert set(ENTRIES) - exports == set()


@pytest.mark.parametrize("path", OF_METHODS)
def test_a_loss_of_a_method_has_its_formula_in_the_docstring(path):
    assert re.search(r"^    .*=", inspect.getdoc(function_at(path)), re.MULTILINE)


@pytest.mark.parametrize("path", ENTRIES)
def test_formula_becomes_mathml(path):
    entry = ENTRIES[path]
    assert set(entry) <= {"lines", "symbols", "note"}
    out = formulas.render(entry)
    assert out.count('display="block"') == len(entry["lines"]) > 0


@pytest.mark.parametrize("path", ENTRIES)
def test_code_beside_a_formula_names_arguments(path):
    entry = ENTRIES[path]
    words = " ".join([*entry.get("symbols", {}).values(), entry.get("note", "")])
    known = set(inspect.signature(function_at(path)).parameters) | set(losses.__all__)
    assert set(re.findall("`(.*?)`", words)) <= known


def test_notation_becomes_mathml():
    assert formulas.notation().count("<tr>") == len(formulas.read()["notation"])


def test_what_the_converter_does_not_know_is_an_error():
    with pytest.raises(ValueError, match="not understood"):
        formulas.to_mathml(r"\unknowncommand x")


def test_a_note_becomes_text_code_and_formula():
    out = formulas.text("a < b: `x_y` is $x$")
    assert out.startswith("a &lt; b: <code>x_y</code> is <math")


@pytest.mark.parametrize("path", SHARED + OF_METHODS)
def test_every_loss_has_an_example_that_runs_it(path):
    doc, name = inspect.getdoc(function_at(path)), path.rpartition(".")[2]
    examples = doctest.DocTestParser().get_examples(doc)
    assert any(f"{name}(" in example.source for example in examples)
    assert any(example.want for example in examples)


def test_every_export_of_a_loss_package_has_a_place_on_a_page():
    text = "".join(p.read_text(encoding="utf-8") for p in PAGES.glob("api/*.md"))
    text = docs.on_page_markdown(text)
    exports = [f"{m.__name__}.{name}" for m in methods.modules() for name in m.__all__]
    for path in [*SHARED, *exports]:
        assert text.count(f"::: {path}\n") == 1, path
    for module in methods.modules():
        assert inspect.getdoc(module) in text


def test_pages_are_called_as_the_modules_they_show():
    packages = modules_of(contrastive_jax) - {"losses", "tasks"}
    modules = packages | modules_of(losses) - {"catalogue"}
    pages = {
        path.stem: path.read_text(encoding="utf-8") for path in PAGES.glob("api/*")
    }
    assert set(pages) == modules
    nav = (PAGES.parent / "mkdocs.yml").read_text(encoding="utf-8")
    for name, text in pages.items():
        title = name if name in packages else f"losses.{name}"
        assert text.startswith(f"# {title}\n")
        assert nav.count(f"- api/{name}.md\n") == 1, name


def test_every_shared_loss_is_on_the_page_that_says_which_to_take():
    text = (PAGES / "which.md").read_text(encoding="utf-8")
    missing = [path for path in SHARED if f"[{path}]" not in text]
    assert missing == []


def test_the_catalogue_names_the_losses_that_scale():
    """Their forms in `parallel` have the same names."""
    text = docs.catalogue()
    for name in ("info_nce", "nt_xent", "pairwise_sigmoid", "supervised_contrastive"):
        (line,) = re.findall(rf"^\| \[`{name}`\].*$", text, re.MULTILINE)
        assert f"[`parallel.{name}`][contrastive_jax.parallel.{name}]" in line
    (line,) = re.findall(r"^\| \[`decoupled_info_nce`\].*$", text, re.MULTILINE)
    assert "parallel." not in line


def test_a_page_that_loads_from_elsewhere_is_an_error():
    page = type("Page", (), {"file": type("File", (), {"src_uri": "index.md"})})
    here = '<script src="assets/x.js"></script><a href="https://example.org">x</a>'
    assert docs.on_post_page(here, page) == here
    with pytest.raises(ValueError, match=r"index\.md loads"):
        docs.on_post_page('<script src="https://example.org/x.js"></script>', page)


def test_the_catalogue_begins_with_what_people_look_for():
    found = re.findall(r"^## .*$|^\| \[`\w+`\]", docs.catalogue(), re.MULTILINE)
    assert found[:3] == ["## In-batch", "| [`info_nce`]", "| [`nt_xent`]"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_page_of_an_experiment(folder):
    """It shows a picture at least, all of them are there, and the whole record."""
    page, made = experiments.page(folder), experiments.pictures()
    shown = re.findall(r"!\[[^\]]+\]\((images/[^)]+)\)", page)
    assert shown, f"{folder.name}/README.md shows no picture"
    assert {f"experiments/{folder.name}/{x}" for x in shown} <= set(made)
    assert page.count("<details") == len(reproduce.entries(folder.name))


def test_links_of_readmes_lead_to_pages():
    folder = ROOT / "experiments" / "simclr"
    for target, place in {
        "images/a.png": "images/a.png",
        "https://example.org/a": "https://example.org/a",
        "#results": "#results",
        "../moco/README.md#results": "../moco/index.md#results",
        "../../docs/scaling.md": "../../scaling.md",
    }.items():
        assert experiments.relink(folder, target) == place
    with pytest.raises(ValueError, match="not on the site"):
        experiments.relink(folder, "../../launch/run.py")


def test_every_experiment_has_one_place_in_the_navigation():
    found = re.findall(r"experiments/(\w+)/index\.md", str(experiments.navigation()))
    assert sorted(found) == [folder.name for folder in FOLDERS]


def test_results_are_those_of_the_records():
    """A section for each record, with the figures that it holds."""
    text = experiments.results()
    assert "Template" in text
    for folder in FOLDERS:
        if not (entries := reproduce.entries(folder.name)):
            continue
        _, _, rest = text.partition(f"({experiments.uri(folder)})")
        part = rest.partition("\n### ")[0]
        assert rest and "python -m launch.reproduce " + folder.name in part
        first = next((c for _, c in experiments.compared(entries)), None)
        wanted = []
        if first:
            for side in "ab":
                x = first["of"]["metrics"][first[side]]
                assert x["mean"] == pytest.approx(sum(x["values"]) / len(x["values"]))
                wanted += [f"`{first[side]}`<br>{experiments.whole(x)}"]
        else:
            wanted = [reproduce.table(entries[0])]
        cases = experiments.golden(folder.name)
        for words in [*wanted, f"{cases} golden cases" if cases else "golden cases"]:
            assert words in part, (folder.name, words)


def test_a_command_without_what_it_compares():
    command = "python -m launch.reproduce a --seeds 0 1 --compare 'b c/d' e/f --set g=1"
    short = "python -m launch.reproduce a --seeds 0 1 --set g=1"
    assert experiments.short(command) == short


def test_pictures_over_seeds():
    """Drawn from the record, with deviations; whoever draws nothing gets bars."""
    (axes,) = pictures.figures("template")[pictures.BARS].axes
    (entry,) = reproduce.entries("template")
    heights = {c.get_label(): c[0].get_height() for c in axes.containers[1::2]}
    means = {k.partition("/")[0]: x["mean"] for k, x in entry["metrics"].items()}
    assert heights == pytest.approx({k: means[k] for k in heights}) and heights
    assert len(pictures.figures("edlm")) == 3


def test_every_command_is_on_the_page_of_commands():
    text = docs.commands()
    for name in ("launch/run", "launch/sweep", "python -m launch.bench"):
        assert f"## {name}\n\n```text\nusage: {name} " in text
    assert text.count("\n## ") + 1 == len(docs.command_modules())


@pytest.mark.parametrize("page", ["index", "tutorial"])
def test_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names = {}
    exec("\n".join(blocks), names)
    if page == "tutorial":
        found = names["found"]
        assert found["focal"] > found["untrained"]
    else:
        assert names["loss"] > 0


@pytest.mark.parametrize(
    "file", sorted(PAGES.glob("notebooks/*.ipynb")), ids=lambda p: p.stem
)
def test_notebook_runs(file, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and all(not cell["outputs"] for cell in code)
    exec("\n".join("".join(cell["source"]) for cell in code), {})
    assert docs.notebook(file).count("```python") == len(code)
