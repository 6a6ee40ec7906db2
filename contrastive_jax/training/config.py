"""Configs of experiments: defaults, overriding, checking and comparing ConfigDicts."""

import ast
import dataclasses
import difflib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import ml_collections

from contrastive_jax import parallel

# Keys that change how a run is executed, not what it computes.
EXECUTION = ("mapper", "devices")

# Last parts of keys that every experiment has: numbers above 0, and not below it.
POSITIVE = {
    "batch_size",
    "k",
    "learning_rate",
    "log_every",
    "num_steps",
    "save_every",
    "temperature",
    "width",
}
NOT_NEGATIVE = {"chunk_size", "devices", "seed", "warmup_steps", "weight_decay"}

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
      stages: values of `config.stage` whose steps differ; none when there is one step.
      paper_rows: rows of the batch with which a test runs one step of the recipe.
      positive: dotted keys of numbers that must be above 0, besides POSITIVE.
      not_negative: dotted keys of numbers that must not be below 0.
    """

    metric: str = "loss"
    change: float = -0.1
    smoke: tuple[str, ...] = ("smoke",)
    stages: tuple[str, ...] = ()
    paper_rows: int = 8
    positive: tuple[str, ...] = ()
    not_negative: tuple[str, ...] = ()


def defaults(
    *, optim: Mapping[str, Any], train: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """What the configs of all experiments have: seed, mapper, devices, optim, train.

    Args:
      optim: values of `optim` that differ from `training.make_optimizer`'s defaults;
        `learning_rate` has none.
      train: values of `train` that differ from 1,000 steps, logged every 20 and saved
        every 250.

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
            learning_rate=None,
            warmup_steps=0,
            weight_decay=0.0,
            momentum=0.9,  # of sgd and lars
            b1=0.9,  # of adamw, as b2 and eps
            b2=0.999,
            eps=1e-8,
        ),
        "train": dict(num_steps=1000, log_every=20, save_every=250),
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


def config_text(config: ml_collections.ConfigDict) -> str:
    """One line KEY=VALUE per leaf, in the form that `--set` takes (`override`).

    Examples:
      >>> print(config_text(ml_collections.ConfigDict(dict(seed=0, a=dict(b=(1, 2))))))
      a.b=(1, 2)
      seed=0
    """
    return "\n".join(f"{key}={value}" for key, value in flatten(config).items())


def parse_value(key: str, text: str, old: Any) -> Any:
    """The value of an override, of the type that the key holds.

    Raises:
      ConfigError: another type.
    """
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = {"true": True, "false": False}.get(text, text)
    if isinstance(old, str):
        return text
    if isinstance(old, float) and isinstance(value, int) and value is not True:
        value = float(value)
    if isinstance(old, tuple) and isinstance(value, list | int | float | str):
        value = tuple(value) if isinstance(value, list) else (value,)
    if old is not None and type(value) is not type(old):
        raise ConfigError(f"{key}: expected {type(old).__name__}, got {text!r}")
    return value


def override(config: ml_collections.ConfigDict, assignments: Iterable[str]) -> None:
    """Applies "key.of.leaf=value" to a config, in place.

    Raises:
      ConfigError: not of that form, an unknown key (names the nearest), a wrong type.
    """
    known = flatten(config)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: expected KEY=VALUE")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"--set {assignment}: no key {key!r}{hint}")
        *sections, leaf = key.split(".")
        target = config
        for section in sections:
            target = target[section]
        target[leaf] = parse_value(key, text, known[key])


def check(
    config: ml_collections.ConfigDict, num_devices: int, checks: Checks = Checks()
) -> None:
    """Checks ranges of values.

    Args:
      config: the whole config.
      num_devices: devices the run will use.
      checks: what holds for this experiment beyond what holds for all.

    Raises:
      ConfigError: naming the key, what came and what was expected.
    """
    for key, value in flatten(config).items():
        leaf = key.rpartition(".")[2]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}: expected a finite number, got {value}")
        if (leaf in POSITIVE or key in checks.positive) and number and value <= 0:
            raise ConfigError(f"{key}: expected a number > 0, got {value}")
        if (
            (leaf in NOT_NEGATIVE or key in checks.not_negative)
            and number
            and value < 0
        ):
            raise ConfigError(f"{key}: expected a number >= 0, got {value}")
        if leaf == "batch_size" and number and value % num_devices:
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
    mappers = (*parallel.MAPPERS, parallel.SHARDED)
    if "mapper" in config and config.mapper not in mappers:
        raise ConfigError(
            f"mapper: expected one of {', '.join(mappers)}, got {config.mapper!r}"
        )


def difference(old: Section, new: Section) -> str:
    """The first leaf in which two plain configs differ, "" when none does.

    Keys of EXECUTION do not count.
    """
    a, b = flatten(old), flatten(new)
    for key in sorted({*a, *b} - set(EXECUTION)):
        if key not in a or key not in b or a[key] != b[key]:
            there, here = a.get(key, "absent"), b.get(key, "absent")
            return f"{key} is {there} there, {here} here"
    return ""
