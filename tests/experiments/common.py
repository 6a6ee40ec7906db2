"""Loading experiments for tests."""

import importlib
import pathlib

import experiments

ROOT = pathlib.Path(experiments.__file__).parent
NAMES = sorted(p.parent.name for p in ROOT.glob("*/experiment.py"))


def load(name):
    """The config and experiment modules."""
    return (
        importlib.import_module(f"experiments.{name}.config"),
        importlib.import_module(f"experiments.{name}.experiment"),
    )
