"""The catalogue lists every loss and tells the truth about it."""

from contrastive_jax import ebm, losses, parallel
from contrastive_jax.losses import catalogue

from .cases import all_cases


def entries():
    return {entry.name: entry for entry in losses.catalogue(ebm)}


def test_it_lists_exactly_the_losses_of_the_contract():
    assert set(entries()) == {name.split("/")[0] for name in all_cases()}


def test_without_packages_it_lists_those_of_losses():
    names = {entry.name for entry in losses.catalogue()}
    assert names == set(entries()) & set(losses.__all__)


def test_every_loss_has_summary_inputs_and_reference():
    for entry in entries().values():
        assert entry.summary and entry.inputs and entry.reference, entry


def test_inputs_are_the_required_arrays():
    assert entries()["info_nce"].inputs == ("logits",)
    assert entries()["supervised_contrastive"].inputs == ("logits", "positives")


def test_scaling_forms_are_those_of_parallel():
    for form in ("tiled", "ring"):
        listed = {getattr(entry, form) for entry in entries().values()} - {None}
        known = {f"{form}_{name}" for name in entries()}
        assert listed == known & set(parallel.__all__)


def test_aliases_belong_to_losses():
    module = __import__(catalogue.__module__, fromlist=["ALIASES"])
    assert set(module.ALIASES) <= set(entries())
