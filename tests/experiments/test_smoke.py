"""Every experiment: its configs, and a smoke run that learns."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from contrastive_jax.report import page as page_module
from contrastive_jax.tasks import images
from contrastive_jax.training import config as configs
from contrastive_jax.training import metrics
from launch import run
from tests.experiments.common import NAMES, RUNS, load

VARIANTS = [(name, variant) for name in NAMES for variant in load(name)[0].VARIANTS]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_configs(name, variant):
    module, _ = load(name)
    config = module.get_config(variant)
    configs.check(config, 1, module.CHECKS)
    assert configs.plain(config)  # nothing that JSON could not hold
    copy = module.get_config(variant)
    configs.override(copy, configs.config_text(config).splitlines(), module.CHECKS)
    assert configs.plain(copy) == configs.plain(config)  # a report's own text


@pytest.mark.parametrize("name", NAMES)
def test_variants_and_checks(name):
    module, _ = load(name)
    checked = {*module.CHECKS.smoke, *module.CHECKS.steps}
    assert {"", "smoke", "paper", *checked} <= set(module.VARIANTS)
    with pytest.raises(ValueError, match="variant: expected"):
        module.get_config("no such variant")


def elements(value):
    """The elements of a tuple, or the value alone."""
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_range_and_every_word_its_choices(name):
    """And every value outside of them is refused with the key in one line."""
    module, _ = load(name)
    checks = module.CHECKS
    leaves, own = (
        {},
        {variant: module.get_config(variant) for variant in module.VARIANTS},
    )
    for variant, config in own.items():
        for key, value in configs.flatten(config).items():
            leaves.setdefault(key, (variant, value))
            number = all(isinstance(x, int | float) for x in elements(value))
            if value is None or value == () or isinstance(value, bool):
                continue
            if number:
                assert checks.range_of(key), f"CHECKS of {name}: no range for {key}"
            elif not any(configs.ends_in(key, x) for x in checks.free):
                assert checks.choices_of(key), f"CHECKS of {name}: no choices for {key}"
    for key, (variant, value) in leaves.items():
        interval, choices = checks.range_of(key), checks.choices_of(key)
        low = interval.partition(",")[0]
        wrong = "no such word" if choices else -1 if low in ("[0", "(0") else None
        if wrong is None or value is None:
            continue
        config = own[variant]
        bad = (wrong,) if isinstance(value, tuple) else wrong
        configs.override(config, [f"{key}={bad}"], checks)
        with pytest.raises(configs.ConfigError, match=f"^{key}: expected .*, got "):
            configs.check(config, 1, checks)
        configs.override(config, [f"{key}={value}"], checks)


@pytest.mark.parametrize("name", NAMES)
def test_optional_sections_can_be_switched_off(name):
    module, _ = load(name)
    config, checks = module.get_config(), module.CHECKS
    known = configs.flatten(config)
    sections = {part for key in known for part in configs.prefixes(key)}
    keys = [k for k in sections if any(configs.ends_in(k, x) for x in checks.optional)]
    configs.override(config, [f"{key}=None" for key in keys], checks)
    assert all(configs.flatten(config)[key] is None for key in keys)
    configs.check(config, 1, checks)
    for key in keys:
        with pytest.raises(
            configs.ConfigError, match=f"{key}: expected None or a dict"
        ):
            configs.override(config, [f"{key}=hello"], checks)
    for key in sections - set(keys):
        with pytest.raises(configs.ConfigError, match=f"{key} is a section"):
            configs.override(module.get_config(), [f"{key}=None"], checks)


# What "smoke" (run below) and "paper" (lowered in test_paper.py) leave.
OTHERS = [
    (name, variant)
    for name, variant in VARIANTS
    if variant not in load(name)[0].CHECKS.smoke and not variant.startswith("paper")
]


@pytest.mark.experiments
@pytest.mark.parametrize(("name", "variant"), OTHERS)
def test_every_other_variant_is_built(name, variant):
    """State and step of all their parts, by shapes; and the first batch."""
    module, experiment = load(name)
    config = module.get_config(variant)
    configs.override(config, module.CHECKS.sizes, module.CHECKS)
    run.preflight(experiment, config, module.CHECKS)


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


# The first smoke variant of each in every session, further ones with --experiments.
MARKED = [
    pytest.param(run, marks=() if run.variant == "smoke" else pytest.mark.experiments)
    for run in RUNS
]


original_figure = page_module.Report.figure


def draw_as_it_is(self, figure, alt):
    """`Report.figure` without arranging the parts, which takes longer than drawing."""
    figure.set_layout_engine("none")
    original_figure(self, figure, alt)


@pytest.mark.parametrize("case", MARKED, ids=str)
def test_smoke_run_learns_and_reads_every_key(case, tmp_path, read_keys, monkeypatch):
    _, experiment = load(case.experiment)
    config = case.config(case.variant)
    config.devices = 1
    monkeypatch.setattr(page_module, "DPI", 30)
    monkeypatch.setattr(images, "SHOWN", 3)
    monkeypatch.setattr(page_module.Report, "figure", draw_as_it_is)
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
