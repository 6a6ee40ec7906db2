"""Runs of an experiment: one config from start to end, or several beside each other."""

import functools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ml_collections

from contrastive_jax import parallel
from contrastive_jax.report import record
from contrastive_jax.training import finite
from contrastive_jax.training.config import changed, plain
from contrastive_jax.training.loop import fit
from contrastive_jax.training.state import TrainState

Config = ml_collections.ConfigDict
# What a folder with checkpoints was trained by, see `write_config`.
CONFIG = "train.json"
# Evaluations of a state while it is trained, by name, see `fit`.
Evals = Mapping[str, Callable[[Any], dict[str, float]]]
# The trained methods of a paper: {name: (config, state)}.
Trained = Mapping[str, tuple[Config, TrainState]]


def map_step(config: Config, make_step: Callable[..., Any]) -> Callable[..., Any]:
    """The step of a config over its devices, guarded (`training.finite`).

    Args:
      config: with `mapper` and `devices`.
      make_step: `make_step(config, axis_name)`, the step.
    """
    make = finite.guarded(functools.partial(make_step, config))
    return parallel.data_parallel(make, config.mapper, devices=config.devices)


def write_config(config: Config, workdir: str | pathlib.Path) -> pathlib.Path:
    """Writes the config of a training beside its checkpoints, for `load_run`."""
    file = pathlib.Path(workdir) / CONFIG
    if parallel.is_first():
        record.write_atomic(file, json.dumps(plain(config), indent=2) + "\n")
    return file


def train(
    config: Config,
    workdir: str | pathlib.Path,
    init: Callable[[Config], Any],
    make_step: Callable[..., Any],
    batches: Callable[[Config, int], Iterator[dict[str, Any]]],
    *,
    evals: Callable[[Config], Evals] | None = None,
    eval_every: int = 0,
) -> Any:
    """Maps a step over the devices and fits it, from the newest checkpoint on.

    Args:
      config: with the sections that `training.defaults` makes.
      workdir: folder of the run: train.json (the config), metrics.jsonl, checkpoints,
        tensorboard.
      init: `init(config)`, the state at step 0.
      make_step: `make_step(config, axis_name)`, the step.
      batches: `batches(config, start_step)`, batches from that step on.
      evals: `evals(config)`, what `fit` evaluates while it trains.
      eval_every: steps between evaluations; 0 for none.

    Returns:
      the state after `config.train.num_steps` steps.

    Raises:
      NonFinite: as `fit`, which raises its other errors here, too.
    """
    step = map_step(config, make_step)
    source = functools.partial(batches, config)
    watched = dict(evals(config)) if evals else None
    write_config(config, workdir)
    return fit(
        step,
        init(config),
        source,
        **config.train,
        eval_every=eval_every,
        evals=watched,
        workdir=workdir,
    )


def train_each(
    methods: Mapping[str, Mapping[str, Any]],
    config: Config,
    workdir: str | pathlib.Path,
    init: Callable[[Config], Any],
    make_step: Callable[..., Any],
    batches: Callable[[Config, int], Iterator[dict[str, Any]]],
    *,
    evals: Callable[[Config], Evals] | None = None,
    eval_every: int = 0,
) -> dict[str, tuple[Config, Any]]:
    """`train` for a method, its baselines and ablations, each in a folder of its own.

    Args:
      methods: {name: {dotted key: value}}, what differs from `config`; {} for nothing.
      config: what they have in common.
      workdir: a folder per method is made in it.
      init: as for `train`, and so are `make_step`, `batches` and what follows.
      evals: as for `train`.
      eval_every: as for `train`.

    Returns:
      {name: (config of the method, trained state)}.
    """
    trained = {}
    for name, changes in methods.items():
        if len(methods) > 1:
            print(f"{name}:", flush=True)
        own = changed(config, changes)
        place = pathlib.Path(workdir) / name
        state = train(
            own, place, init, make_step, batches, evals=evals, eval_every=eval_every
        )
        trained[name] = own, state
    return trained
