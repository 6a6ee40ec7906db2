"""Every method file says what it exports, and its test file has a case of each loss."""

import importlib
import pathlib
import subprocess
import sys

import pytest

from contrastive_jax import losses, methods

FILES = pathlib.Path(methods.__file__).parent.glob("[a-z]*.py")
SLUGS = sorted(path.stem for path in FILES)


def test_modules_are_the_files_of_the_folder():
    names = [module.__name__.rpartition(".")[2] for module in methods.modules()]
    assert names == SLUGS and "moco" in SLUGS


def test_importing_the_package_imports_no_method():
    code = (
        "import sys; import contrastive_jax.methods as package; "
        "assert not [m for m in sys.modules if m.startswith(package.__name__ + '.')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("slug", SLUGS)
def test_a_method_has_a_case_of_each_loss(slug):
    method = importlib.import_module(f"contrastive_jax.methods.{slug}")
    tests = importlib.import_module(f"tests.methods.test_{slug}")
    cases = {name.split("/")[0] for name in tests.CASES}
    assert cases | set(tests.HELPERS) == set(method.__all__)
    assert not cases & set(tests.HELPERS)
    listed = losses.catalogue.entries(method)
    assert cases == {e.name for e in listed if e.path.startswith(method.__name__)}


@pytest.mark.parametrize("slug", SLUGS)
def test_a_method_lists_its_exports_in_order(slug):
    method = importlib.import_module(f"contrastive_jax.methods.{slug}")
    assert method.__all__ == sorted(method.__all__)
    assert method.__doc__
    for name in method.__all__:
        export = getattr(method, name)
        assert export.__module__ == method.__name__ and export.__doc__, name
