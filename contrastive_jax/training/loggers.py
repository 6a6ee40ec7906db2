"""Where metrics go besides metrics.jsonl: TensorBoard, Weights & Biases, or your own.

A logger has `write(step, values)` and `close()`. What it cannot write is a warning and
never ends a run.
"""

import hashlib
import importlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

NAMES = ("tensorboard", "wandb")


@runtime_checkable
class Logger(Protocol):
    """What takes metrics."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the metrics of a step."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


# Makes a logger for a folder, and the steps of it that are finished.
Make = Callable[[pathlib.Path, int], Logger]


class TensorBoard:
    """Event files in the folder `tensorboard`.

    Args:
      workdir: folder of the run.
      start_step: steps that are finished; later events of a killed run are purged.
    """

    def __init__(self, workdir: pathlib.Path, start_step: int):
        from tensorboardX import SummaryWriter

        self.events: Any = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=start_step + 1
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a scalar per metric."""
        for name, x in values.items():
            self.events.add_scalar(name, x, step)

    def close(self) -> None:
        """Writes what is left."""
        self.events.close()


class WeightsAndBiases:
    """A run of wandb, the same one after a restart; WANDB_MODE=offline keeps it here.

    Args:
      workdir: folder of the run, which names it.
      start_step: steps that are finished.
    """

    def __init__(self, workdir: pathlib.Path, start_step: int):
        wandb = importlib.import_module("wandb")
        name = workdir.resolve().as_posix()
        self.run: Any = wandb.init(
            project="contrastive_jax",
            id=hashlib.sha256(name.encode()).hexdigest()[:16],
            name="/".join(workdir.resolve().parts[-3:]),
            dir=str(workdir),
            resume="allow",
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the metrics of a step."""
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        """Ends the run."""
        self.run.finish()


def check(name: str) -> None:
    """Checks that there is such a logger, and what it needs.

    Raises:
      ValueError: there is not, or a package is missing.
    """
    if name not in NAMES:
        raise ValueError(f"logger: expected one of {', '.join(NAMES)}, got {name!r}")
    if name == "wandb":
        try:
            importlib.import_module("wandb")
        except ImportError as e:
            raise ValueError(
                f"logger: wandb is not there ({e}): pip install wandb"
            ) from e


def open_logger(which: str | Make, workdir: pathlib.Path, start_step: int) -> Logger:
    """A logger of a run.

    Args:
      which: "tensorboard", "wandb", or a function that makes one.
      workdir: folder of the run.
      start_step: steps that are finished.

    Raises:
      ValueError: see `check`.
    """
    if callable(which):
        return which(workdir, start_step)
    check(which)
    made = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
    return made[which](workdir, start_step)
