"""The documentation has the formula, an example and a page for every loss."""

import doctest
import inspect
import pathlib
import re

import pytest

from contrastive_jax import ebm, losses
from docs.hooks import formulas
from docs.hooks import pages as docs

PAGES = pathlib.Path(docs.__file__).parent.parent
ENTRIES = formulas.load()


def loss_paths():
    packages = {name: "losses" for name in losses.__all__}
    packages |= {name: "ebm" for name in ebm.__all__}
    names = [entry.name for entry in losses.catalogue(ebm)]
    return [f"contrastive_jax.{packages[name]}.{name}" for name in names]


def function_at(path):
    _, package, name = path.split(".")
    return getattr({"losses": losses, "ebm": ebm}[package], name)


def test_every_loss_has_a_formula():
    assert set(loss_paths()) - set(ENTRIES) == set()


def test_every_formula_belongs_to_an_export():
    exports = {f"contrastive_jax.losses.{name}" for name in losses.__all__}
    exports |= {f"contrastive_jax.ebm.{name}" for name in ebm.__all__}
    assert set(ENTRIES) - exports == set()


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


@pytest.mark.parametrize("path", loss_paths())
def test_every_loss_has_an_example_that_runs_it(path):
    doc, name = inspect.getdoc(function_at(path)), path.rpartition(".")[2]
    examples = doctest.DocTestParser().get_examples(doc)
    assert any(f"{name}(" in example.source for example in examples)
    assert any(example.want for example in examples)


def test_every_export_of_a_loss_package_has_a_place_on_a_page():
    text = "".join(p.read_text(encoding="utf-8") for p in PAGES.glob("api/*.md"))
    text = docs.on_page_markdown(text)
    for path in loss_paths():
        assert text.count(f"::: {path}\n") == 1, path


def test_every_loss_is_on_the_page_that_says_which_to_take():
    text = (PAGES / "which.md").read_text(encoding="utf-8")
    missing = [path for path in loss_paths() if f"[{path}]" not in text]
    assert missing == []


def test_a_page_that_loads_from_elsewhere_is_an_error():
    page = type("Page", (), {"file": type("File", (), {"src_uri": "index.md"})})
    here = '<script src="assets/x.js"></script><a href="https://example.org">x</a>'
    assert docs.on_post_page(here, page) == here
    with pytest.raises(ValueError, match=r"index\.md loads"):
        docs.on_post_page('<script src="https://example.org/x.js"></script>', page)
