"""Configs of experiments: defaults, overriding, checking and comparing ConfigDicts."""

import ast
import dataclasses
import difflib
import functools
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import ml_collections
from ml_collections.config_dict import placeholder

from contrastive_jax import parallel

# Keys that change how a run is executed, not what it computes.
EXECUTION = ("mapper", "devices")

# What holds for every experiment. A name stands for all keys that end in it: "p" for
# "data.augment.jitter.p", "optim.name" for that key alone.
POSITIVE = (
    "batch_size",
    "k",
    "learning_rate",
    "log_every",
    "num_steps",
    "save_every",
    "temperature",
    "width",
    "optim.eps",
)
NOT_NEGATIVE = (
    "chunk_size",
    "devices",
    "max_skipped",
    "seed",
    "warmup_steps",
    "weight_decay",
)
RANGES = {"optim.b1": "[0, 1)", "optim.b2": "[0, 1)", "optim.momentum": "[0, 1)"}
CHOICES = {
    "dtype": ("float32", "bfloat16", "float16"),
    "mapper": (*parallel.MAPPERS, parallel.SHARDED),
    "optim.name": ("adamw", "lars", "sgd"),
}

V = TypeVar("V")

# A config, one of its sections, or the same as a plain dict.
Section = Mapping[str, Any] | ml_collections.ConfigDict


class ConfigError(Exception):
    """A config or an override is wrong; the message names the key."""


@dataclasses.dataclass(frozen=True)
class Checks:
    """What holds for an experiment: `CHECKS` in its config.py.

    Attributes:
      metric: a training metric of the smoke run; the mean of its first three lines is
        compared with that of its last three.
      change: how much it must change at least; negative for what has to fall.
      smoke: the variants that tests run; "paper" for "smoke" gives their recipes.
      steps: further variants of which they take the step alone, and its recipe.
      sizes: values of sizes of data, "data.count=500", with which they build the
        variants that they do not run; as they are where that takes seconds.
      stages: values of `config.stage` whose steps differ; none when there is one step.
      paper_rows: rows of the batch with which a test runs one step of the recipe.
      positive: keys of numbers above 0, besides those of all experiments (POSITIVE).
      not_negative: keys of numbers that are not below 0.
      ranges: intervals of numbers by key, {"loss.decay": "[0, 1]"}.
      choices: words by key, {"loss.form": ("in", "out")}.
      free: keys of strings with other values, such as paths and names of sets.
      optional: names of sections that None switches off.

    Of the last six a name stands for every key that ends in it; a tuple is checked
    element by element.
    """

    metric: str = "loss"
    change: float = -0.1
    smoke: tuple[str, ...] = ("smoke",)
    steps: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    paper_rows: int = 8
    positive: tuple[str, ...] = ()
    not_negative: tuple[str, ...] = ()
    ranges: Mapping[str, str] = dataclasses.field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    free: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    @functools.cached_property
    def intervals(self) -> dict[str, str]:
        """Of all numbers, those of every experiment too."""
        return {
            **dict.fromkeys(POSITIVE, "(0, inf)"),
            **dict.fromkeys(NOT_NEGATIVE, "[0, inf)"),
            **RANGES,
            **dict.fromkeys(self.positive, "(0, inf)"),
            **dict.fromkeys(self.not_negative, "[0, inf)"),
            **self.ranges,
        }

    def range_of(self, key: str) -> str:
        """The interval that a number has to lie in; "" when none is known."""
        return longest(self.intervals, key, "")

    def choices_of(self, key: str) -> tuple[str, ...]:
        """The words that a key may hold; () when none are known."""
        return longest({**CHOICES, **self.choices}, key, ())


def ends_in(key: str, name: str) -> bool:
    """Whether a dotted key is a name or has it as its last parts."""
    return key == name or key.endswith(f".{name}")


def longest(table: Mapping[str, V], key: str, default: V) -> V:
    """The value of the longest name in a table that a key ends in."""
    parts = key.split(".")
    for i in range(len(parts)):
        name = ".".join(parts[i:])
        if name in table:
            return table[name]
    return default


def defaults(
    *, optim: Mapping[str, Any], train: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """What the configs of all experiments have: seed, mapper, devices, optim, train.

    Args:
      optim: values of `optim` that differ from `training.make_optimizer`'s defaults;
        `learning_rate` has none.
      train: values of `train` that differ from 1,000 steps, logged every 20 and saved
        every 250, of which 3 in a row may be skipped as not finite.

    Raises:
      ConfigError: a key that the section does not have.

    Examples:
      >>> config = defaults(optim=dict(learning_rate=3e-3), train=dict(num_steps=500))
      >>> config.optim.name, config.train.num_steps, config.mapper
      ('adamw', 500, 'pmap')
    """
    sections = {
        "optim": dict(
            name="adamw",
            learning_rate=placeholder(float),
            warmup_steps=0,
            weight_decay=0.0,
            momentum=0.9,  # of sgd and lars
            b1=0.9,  # of adamw, as b2 and eps
            b2=0.999,
            eps=1e-8,
        ),
        # max_skipped: so many steps in a row that are not finite end a run.
        "train": dict(num_steps=1000, log_every=20, save_every=250, max_skipped=3),
    }
    for name, values in {"optim": optim, "train": train}.items():
        for key in values:
            if key not in sections[name]:
                raise ConfigError(
                    f"{name}.{key}: expected one of {', '.join(sections[name])}"
                )
        sections[name] |= values
    # devices: 0 for all of them.
    return ml_collections.ConfigDict(dict(seed=0, mapper="pmap", devices=0, **sections))


def check_variant(variant: str, variants: Iterable[str]) -> None:
    """Checks that an experiment has a variant.

    Raises:
      ValueError: it has not; names those that it has.
    """
    if variant not in variants:
        names = ", ".join(name or '""' for name in variants)
        raise ValueError(f"variant: expected one of {names}, got {variant!r}")


def changed(
    config: ml_collections.ConfigDict, changes: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """A copy of a config with other values, given by dotted key.

    Raises:
      KeyError: a key that the config does not have.
    """
    copy = config.copy_and_resolve_references()
    copy.update_from_flattened_dict(changes)
    return copy


def flatten(config: Section, prefix: str = "") -> dict[str, Any]:
    """All leaves by dotted key."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping | ml_collections.ConfigDict):
            leaves |= flatten(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The config as JSON would return it (tuples become lists)."""
    return json.loads(json.dumps(config.to_dict()))


def from_plain(values: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """The config of which `plain` made these values (lists become tuples).

    Examples:
      >>> config = ml_collections.ConfigDict(dict(seed=0, a=dict(b=(1, (2, 3)))))
      >>> from_plain(plain(config)) == config
      True
    """

    def restored(x: Any) -> Any:
        if isinstance(x, Mapping):
            return {key: restored(value) for key, value in x.items()}
        return tuple(map(restored, x)) if isinstance(x, list) else x

    return ml_collections.ConfigDict(restored(values))


def config_text(config: ml_collections.ConfigDict) -> str:
    """One line KEY=VALUE per leaf, in the form that `--set` takes (`override`).

    Examples:
      >>> print(config_text(ml_collections.ConfigDict(dict(seed=0, a=dict(b=(1, 2))))))
      a.b=(1, 2)
      seed=0
    """
    return "\n".join(f"{key}={value}" for key, value in flatten(config).items())


def parse_value(key: str, text: str, kind: type) -> Any:
    """The value of an override, of the type that the key holds; None is of any type.

    Raises:
      ConfigError: another type.
    """
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = {"true": True, "false": False}.get(text, text)
    if kind is str:
        return text
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is tuple and isinstance(value, list | int | float | str):
        value = tuple(value) if isinstance(value, list) else (value,)
    if kind is not type(None) and type(value) is not kind:
        raise ConfigError(f"{key}: expected {kind.__name__}, got {text!r}")
    return value


def parse_section(key: str, text: str) -> ml_collections.ConfigDict | None:
    """The value of a section: None, or a dict of its values.

    Raises:
      ConfigError: neither.
    """
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return ml_collections.ConfigDict(value)
    if value is not None:
        raise ConfigError(
            f"{key}: expected None or a dict of the section's values, got {text!r}"
        )
    return None


def override(
    config: ml_collections.ConfigDict,
    assignments: Iterable[str],
    checks: Checks = Checks(),
) -> None:
    """Applies "key.of.leaf=value" to a config, in place.

    A section that is optional (`Checks.optional`) is switched off by None.

    Raises:
      ConfigError: not of that form, an unknown key (names the nearest), a wrong type.
    """
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: expected KEY=VALUE")
        known = flatten(config)
        sections = {part for k in known for part in prefixes(k)}
        optional = any(ends_in(key, name) for name in checks.optional)
        if key in sections and not optional:
            raise ConfigError(f"--set {assignment}: {key} is a section; set its values")
        if key not in {*known, *sections}:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"--set {assignment}: no key {key!r}{hint}")
        *parents, leaf = key.split(".")
        target = config
        for section in parents:
            target = target[section]
        if optional:
            target[leaf] = parse_section(key, text)
            continue
        # A placeholder knows the type of what is None now.
        kind = target.get_type(leaf) if known[key] is None else type(known[key])
        unset = known[key] is None and text == "None"
        target[leaf] = None if unset else parse_value(key, text, kind)


def prefixes(key: str) -> list[str]:
    """The sections that a key lies in: "a.b.c" gives a and a.b."""
    parts = key.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def check_value(key: str, value: Any, checks: Checks) -> None:
    """Checks one number or word against what is declared for its key.

    Raises:
      ConfigError: naming the key, what came and what was expected.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key}: expected a finite number, got {value}")
    interval, choices = checks.range_of(key), checks.choices_of(key)
    if interval and not (number and within(value, interval)):
        words = {"(0, inf)": "a number > 0", "[0, inf)": "a number >= 0"}
        expected = words.get(interval, f"a number in {interval}")
        raise ConfigError(f"{key}: expected {expected}, got {value!r}")
    if choices and value not in choices:
        names = ", ".join(name or '""' for name in choices)
        raise ConfigError(f"{key}: expected one of {names}, got {value!r}")


def within(x: int | float, interval: str) -> bool:
    """Whether a number lies in an interval.

    Examples:
      >>> within(1, "[0, 1)"), within(0, "[0, 1)"), within(7, "(0, inf)")
      (False, True, True)
    """
    low, high = map(float, interval[1:-1].split(","))
    closed_low, closed_high = interval[0] == "[", interval[-1] == "]"
    return (low < x or (closed_low and x == low)) and (
        x < high or (closed_high and x == high)
    )


def check(
    config: ml_collections.ConfigDict, num_devices: int, checks: Checks = Checks()
) -> None:
    """Checks ranges of numbers and choices of words.

    Args:
      config: the whole config.
      num_devices: devices the run will use.
      checks: what holds for this experiment beyond what holds for all.

    Raises:
      ConfigError: naming the key, what came and what was expected.
    """
    for key, value in flatten(config).items():
        elements = value if isinstance(value, tuple | list) else (value,)
        for x in elements:
            if x is not None:
                check_value(key, x, checks)
        if ends_in(key, "batch_size") and any(x % num_devices for x in elements):
            raise ConfigError(
                f"{key}: {value} does not split over {num_devices} devices"
            )
    chunk = config.get("loss", {}).get("chunk_size", 0)
    if chunk:
        batch = config.data.batch_size
        local = (
            batch
            if config.get("mapper", "").startswith("jit")
            else batch // num_devices
        )
        if local % chunk:
            raise ConfigError(
                f"loss.chunk_size: {local} rows (data.batch_size={batch}, "
                f"{num_devices} devices, mapper={config.get('mapper')}) do not split "
                f"into chunks of {chunk}"
            )


def differences(old: Section, new: Section) -> dict[str, str]:
    """The leaves in which two plain configs differ, by key, in words.

    Keys of EXECUTION do not count.

    Examples:
      >>> differences(dict(seed=0, mapper="jit"), dict(seed=1, mapper="pmap"))
      {'seed': 'seed is 0 there, 1 here'}
    """
    a, b = flatten(old), flatten(new)
    return {
        key: f"{key} is {a.get(key, 'absent')} there, {b.get(key, 'absent')} here"
        for key in sorted({*a, *b} - set(EXECUTION))
        if key not in a or key not in b or a[key] != b[key]
    }
