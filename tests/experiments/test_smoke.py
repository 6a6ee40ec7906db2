"""Every experiment: its configs, and a smoke run that learns."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from contrastive_jax.report import page as page_module
from contrastive_jax.training import config as configs
from contrastive_jax.training import metrics
from tests.experiments.common import NAMES, RUNS, load

VARIANTS = [(name, variant) for name in NAMES for variant in load(name)[0].VARIANTS]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_configs(name, variant):
    module, _ = load(name)
    config = module.get_config(variant)
    configs.check(config, 1, module.CHECKS)
    assert configs.plain(config)  # nothing that JSON could not hold
    copy = module.get_config(variant)
    configs.override(copy, configs.config_text(config).splitlines())
    assert configs.plain(copy) == configs.plain(config)  # a report's own text


@pytest.mark.parametrize("name", NAMES)
def test_variants_and_checks(name):
    module, _ = load(name)
    assert {"", "smoke", "paper", *module.CHECKS.smoke} <= set(module.VARIANTS)
    with pytest.raises(ValueError, match="variant: expected"):
        module.get_config("no such variant")
    checks, known = module.CHECKS, configs.flatten(module.get_config())
    for key in (*checks.positive, *checks.not_negative):
        config = module.get_config()
        configs.override(config, [f"{key}={known[key] * 0 - 1}"])
        with pytest.raises(configs.ConfigError, match=f"{key}: expected a number >"):
            configs.check(config, 1, checks)


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
    keys = []
    for key, value in fields.items():
        if isinstance(value, ConfigDict):
            keys += unread(value, seen, f"{prefix}{key}.")
        elif (tuple(sorted(fields)), key) not in seen:
            keys.append(prefix + key)
    return keys


@pytest.mark.parametrize("case", RUNS, ids=str)
def test_smoke_run_learns_and_reads_every_key(case, tmp_path, read_keys, monkeypatch):
    _, experiment = load(case.experiment)
    config = case.config(case.variant)
    config.devices = 1
    monkeypatch.setattr(page_module, "DPI", 30)
    read_keys.clear()
    results = experiment.run(config, tmp_path)
    assert results and all(np.isfinite(x) for x in results.values())
    page = (tmp_path / "report.html").read_text()
    assert "data:image/png;base64," in page and "http" not in page
    folders = {file.parent.name: file.parent for file in tmp_path.rglob(metrics.FILE)}
    # Of several stages or methods: the first one, or the one called as the experiment.
    names = (*case.checks.stages, case.experiment, *folders)
    lines = metrics.read(next(folders[n] for n in names if n in folders))
    values = [line[case.checks.metric] for line in lines]
    change = np.mean(values[-3:]) - np.mean(values[:3])
    least = case.checks.change
    assert change * np.sign(least) > abs(least), (
        f"{case.checks.metric} changed by {change:.3g}; CHECKS.change of "
        f"experiments/{case.experiment}/config.py promises {least}: {values}"
    )
    dead = set(unread(config, read_keys)) - {"seed"}
    assert not dead, f"keys that nothing reads: {sorted(dead)}"
