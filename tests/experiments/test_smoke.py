"""Every experiment: its shape, its configs, and a smoke run that learns."""

import ast

import numpy as np
import pytest
from ml_collections import ConfigDict

from contrastive_jax.training import config as configs
from contrastive_jax.training import metrics
from tests.experiments.common import NAMES, ROOT, load
from tests.experiments.smoke_cases import CASES


def test_every_experiment_has_a_smoke_case():
    assert {case.experiment for case in CASES} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_shape_of_an_experiment(name):
    source = (ROOT / name / "experiment.py").read_text()
    assert source.count("\n") <= 250
    doc = ast.get_docstring(ast.parse(source))
    assert "Deviations:" in doc and "Special about it" in doc
    assert (ROOT / name / "README.md").exists()


@pytest.mark.parametrize("name", NAMES)
def test_configs(name):
    module, _ = load(name)
    for variant in ("", "smoke", "paper"):
        config = module.get_config(variant)
        configs.check(config, num_devices=1)
        assert configs.plain(config)  # nothing that JSON could not hold
        copy = module.get_config(variant)
        configs.override(copy, configs.config_text(config).splitlines())
        assert configs.plain(copy) == configs.plain(config)  # a report's own text
    with pytest.raises(ValueError, match="variant: expected"):
        module.get_config("no such variant")


@pytest.fixture
def read_keys(monkeypatch):
    """Records which keys of which sections are read; copies of a section count."""
    seen = set()

    def section(d):
        return tuple(sorted(d.keys()))

    original_get, original_dict = ConfigDict.__getitem__, ConfigDict.to_dict

    def get(self, key):
        seen.add((section(self), key))
        return original_get(self, key)

    def to_dict(self, *args, **kwargs):
        for key in self.keys():
            value = original_get(self, key)
            if isinstance(value, ConfigDict):
                to_dict(value)
            seen.add((section(self), key))
        return original_dict(self, *args, **kwargs)

    monkeypatch.setattr(ConfigDict, "__getitem__", get)
    monkeypatch.setattr(ConfigDict, "to_dict", to_dict)
    return seen


def unread(config, seen, prefix=""):
    """Dotted names of the leaves that were not read."""
    fields = config._fields
    found = []
    for key, value in fields.items():
        if isinstance(value, ConfigDict):
            found += unread(value, seen, f"{prefix}{key}.")
        elif (tuple(sorted(fields)), key) not in seen:
            found.append(prefix + key)
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_smoke_run_learns_and_reads_every_key(case, tmp_path, read_keys):
    module, experiment = load(case.experiment)
    config = module.get_config(case.variant)
    config.devices = 1
    read_keys.clear()
    results = experiment.run(config, tmp_path)
    assert results and all(np.isfinite(x) for x in results.values())
    page = (tmp_path / "report.html").read_text()
    assert "data:image/png;base64," in page and "http" not in page
    folders = {file.parent.name: file.parent for file in tmp_path.rglob(metrics.FILE)}
    # Of several stages: the first of the case, or the one named like the experiment.
    names = (*case.stages, case.experiment, *folders)
    lines = metrics.read(next(folders[n] for n in names if n in folders))
    values = [line[case.metric] for line in lines]
    change = np.mean(values[-3:]) - np.mean(values[:3])
    assert change * np.sign(case.change) > abs(case.change), values
    dead = set(unread(config, read_keys)) - {"seed"}
    assert not dead, f"keys that nothing reads: {sorted(dead)}"
