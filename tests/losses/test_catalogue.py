"""The catalogue lists every loss and tells the truth about it."""

import inspect
import pkgutil
import re

import pytest

from contrastive_jax import ebm, losses, methods

from .cases import all_cases

PACKAGES = (ebm, *methods.modules())
ENTRIES = {entry.name: entry for entry in losses.catalogue.entries(*PACKAGES)}


def test_it_lists_exactly_the_losses_of_the_contract():
    assert set(ENTRIES) == {name.split("/")[0] for name in all_cases()}
    assert len(ENTRIES) == len(losses.catalogue.entries(*PACKAGES))


def test_without_packages_it_lists_those_of_losses():
    names = {entry.name for entry in losses.catalogue.entries()}
    assert names == set(ENTRIES) & set(losses.__all__)


def test_every_loss_has_summary_inputs_and_reference():
    for entry in ENTRIES.values():
        assert entry.summary and entry.inputs and entry.reference, entry


def test_inputs_are_the_required_arrays():
    assert ENTRIES["info_nce"].inputs == ("logits",)
    assert ENTRIES["supervised_contrastive"].inputs == ("logits", "positives")


def test_families_are_the_modules_of_losses_and_two_more():
    modules = {info.name for info in pkgutil.iter_modules(losses.__path__)}
    families = {name.replace("_", "-") for name in modules - {"catalogue"}}
    listed = {entry.family for entry in ENTRIES.values()}
    assert listed == families | {"energy-based", "methods"}
    assert ENTRIES["moco"].family == "methods"
    assert ENTRIES["masked_diffusion"].family == "energy-based"


def test_paths_lead_to_the_losses():
    for entry in ENTRIES.values():
        package, _, name = entry.path.rpartition(".")
        loss = getattr(__import__(package, fromlist=[name]), name)
        assert loss.__name__ == entry.name


def test_aliases_are_the_names_that_a_docstring_lists():
    assert ENTRIES["nt_xent"].aliases == ("SimCLR",)
    assert ENTRIES["two_way_info_nce"].aliases == (
        "CLIP",
        "symmetric multiple negatives ranking",
    )
    assert ENTRIES["alignment"].aliases == ()


@pytest.mark.parametrize("name", ENTRIES)
def test_a_sentence_of_aliases_is_understood(name):
    package, _, name = ENTRIES[name].path.rpartition(".")
    doc = inspect.getdoc(getattr(__import__(package, fromlist=[name]), name))
    aliases = losses.catalogue.aliases(doc)
    assert bool(aliases) == ("also known" in doc.lower())
    for alias in aliases:
        assert re.fullmatch(r"[\w\-+*() ]{2,40}", alias), alias
    assert len(set(aliases)) == len(aliases)
