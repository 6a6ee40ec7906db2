"""What the package promises: contents, dependencies, pins, the tools' versions."""

import importlib.resources
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

import contrastive_jax
from contrastive_jax.data import packaged

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
CORE = {"chex", "jax", "jaxtyping", "numpy"}
RUNS = {
    "array-record",
    "dm-pix",
    "flatbuffers",
    "flax",
    "gguf",
    "grain",
    "importlib-resources",
    "matplotlib",
    "ml-collections",
    "optax",
    "orbax-checkpoint",
    "pillow",
    "pyarrow",
    "rich",
    "safetensors",
    "scikit-learn",
    "scipy",
    "tensorboardx",
    "tensorflow-datasets",
    "threadpoolctl",
    "tokenizers",
}


def normalized(requirement):
    """The name a requirement begins with, as registries spell it."""
    name = re.match(r"[\w.-]+(\[[\w,]+\])?", requirement)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(extra):
    """Exact versions by name and marker, as the files of launch/requirements say."""
    text = (ROOT / "launch" / "requirements" / f"{extra}.txt").read_text()
    found = {}
    for line in text.splitlines():
        if re.match(r"[a-z]", line):
            name, version, marker = re.fullmatch(
                r"([\w.-]+)==([\w.]+)(?: ; (.+))? \\", line
            ).groups()
            assert (name, marker) not in found
            found[name, marker] = version
    return found


def test_core_dependencies():
    names = {normalized(r) for r in PROJECT["project"]["dependencies"]}
    assert names == CORE


def test_extra_of_runs():
    assert {normalized(r) for r in EXTRAS["experiments"]} == RUNS
    assert "contrastive_jax[experiments]" in EXTRAS["dev"]
    assert "tfds" not in EXTRAS


def test_core_imports_nothing_of_the_extra():
    """In a process of its own, in which the packages of the extra cannot be found."""
    imports = {
        "array-record": "array_record",
        "dm-pix": "dm_pix",
        "importlib-resources": "importlib_resources",
        "ml-collections": "ml_collections",
        "orbax-checkpoint": "orbax",
        "pillow": "PIL",
        "scikit-learn": "sklearn",
        "tensorboardx": "tensorboardX",
        "tensorflow-datasets": "tensorflow_datasets",
    }
    # jax itself needs scipy.
    blocked = sorted(imports.get(name, name) for name in RUNS - {"scipy"})
    code = f"""
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys({blocked!r}))
from contrastive_jax import (
    ebm, losses, methods, numerics, pairs, parallel, randomness, search, similarity,
    states, transforms,
)
for module in pkgutil.iter_modules(methods.__path__):
    importlib.import_module(f"contrastive_jax.methods.{{module.name}}")
try:
    from contrastive_jax import models
except ImportError as e:
    assert "flax" in str(e), e
else:
    raise AssertionError("nothing was blocked")
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_version_is_one():
    version = PROJECT["project"]["version"]
    assert contrastive_jax.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_wheel_holds_the_package_and_its_files():
    tool = PROJECT["tool"]["setuptools"]
    assert tool["packages"]["find"]["include"] == ["contrastive_jax*"]
    for package, files in tool["package-data"].items():
        for file in files:
            assert (importlib.resources.files(package) / file).is_file()
    assert "py.typed" in tool["package-data"]["contrastive_jax"]


def test_packaged_sets_are_pinned():
    assert "mnist5k" in packaged.PACKAGES
    for package in packaged.PACKAGES.values():
        assert package.kind in ("wheel", "sdist", "deb", "npm", "index")
        assert re.fullmatch("[0-9a-f]{64}", package.sha256)
        assert package.version and package.license and package.about


def test_pre_commit_has_the_tools_of_dev():
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    hooks = set(re.findall(r'"([\w-]+==[\w.]+)"', text))
    exact = {r for r in EXTRAS["dev"] if "==" in r}
    assert {r.partition("==")[0] for r in hooks} == {
        "codespell",
        "import-linter",
        "ruff",
    }
    assert hooks < exact
    assert "repo: local" in text and text.count("repo:") == 1


@pytest.mark.parametrize("extra", ["experiments", "dev"])
def test_requirements_pin_what_the_extra_names(extra):
    names = {name for name, _ in pins("experiments")}
    if extra == "dev":
        names |= {name for name, _ in pins("dev")}
    wanted = {normalized(r) for r in EXTRAS[extra]} | CORE | {"setuptools"}
    assert wanted - {"contrastive-jax[experiments]"} <= names


def test_requirements_of_dev_add_to_those_of_runs():
    assert (
        "\n-r experiments.txt\n"
        in (ROOT / "launch" / "requirements" / "dev.txt").read_text()
    )
    assert not {n for n, _ in pins("dev")} & {n for n, _ in pins("experiments")}
    exact = [r.split("==") for r in EXTRAS["dev"] if "==" in r]
    assert {(name, version) for (name, _), version in pins("dev").items()} >= {
        (name, version) for name, version in exact
    }


@pytest.mark.parametrize("extra", ["experiments", "dev"])
def test_requirements_have_hashes_and_no_hosts(extra):
    text = (ROOT / "launch" / "requirements" / f"{extra}.txt").read_text()
    assert "://" not in text and "index" not in text.replace("importlib", "")
    blocks = re.split(r"\n(?=[a-z])", text)[1:]
    assert len(blocks) == len(pins(extra)) > 10
    for block in blocks:
        assert re.search(r"\n    --hash=sha256:[0-9a-f]{64}", block), block
