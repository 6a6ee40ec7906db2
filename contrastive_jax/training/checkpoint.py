"""Checkpoints: atomic, asynchronous, the newest few kept, damaged ones stepped over.

Orbax does the work; this is the only file that knows it. A checkpoint holds the whole
state and a list of its leaves (path, type, shape), so that a state of another config
or version is refused instead of cast. Of several processes each saves its part of the
arrays, in a folder that all see; any number of processes can restore them.
"""

import contextlib
import pathlib
import sys
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.options import AtomicityMode, AtomicityOptions

from contrastive_jax.parallel import distributed

# Raised when the layout of checkpoints changes.
FORMAT = 1

S = TypeVar("S")


class CheckpointError(Exception):
    """No checkpoint fits or can be read; the message says which and why."""


@contextlib.contextmanager
def without_late_callbacks():
    """Hides what reads still under way say after one of them has failed.

    The threads of tensorstore report to an event loop that Orbax has closed by then,
    and each would print a traceback. They may come until the process ends.
    """
    usual = sys.unraisablehook

    def hook(ignored):
        if str(ignored.exc_value) != "Event loop is closed":
            usual(ignored)

    sys.unraisablehook = hook
    yield
    sys.unraisablehook = usual  # reached only when nothing failed


def is_key(x: Any) -> bool:
    """Whether an array holds typed random keys."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def leaves(state: Any) -> dict[str, str]:
    """Path, type and shape of every leaf."""
    flat, _ = jax.tree_util.tree_flatten_with_path(state)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (
            f"{x.dtype}{list(x.shape)}"
        )
        for path, x in flat
    }


class Manager:
    """The checkpoints of one run.

    Args:
      folder: where they lie, one folder per step.
      keep: how many of the newest are kept; at least 2, so that one survives damage.
    """

    def __init__(self, folder: str | pathlib.Path, *, keep: int = 2):
        self.folder = pathlib.Path(folder).resolve()
        self.keep = max(keep, 2)
        distributed.barrier("start of training")
        self.orbax = self.open()

    def open(self, *, cleanup: bool = True) -> ocp.CheckpointManager:
        """A fresh view of the folder; half-written steps are not seen.

        Args:
          cleanup: whether to remove what killed saves left, in the background.
        """
        return ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=self.keep,
                cleanup_tmp_directories=cleanup,
                atomicity_options=AtomicityOptions(mode=AtomicityMode.COMMIT_FILE),
            ),
        )

    def save(self, step: int, state: Any) -> None:
        """Saves in the background; an error of the previous save is raised here.

        Raises:
          CheckpointError: Orbax did not take it (the step exists already).
        """
        state = distributed.everywhere(state)
        about = {"format": FORMAT, "leaves": leaves(state)}
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about)
        )
        if not self.orbax.save(step, args=arguments, force=True):
            raise CheckpointError(f"step {step} could not be saved in {self.folder}")

    def restore(self, like: S) -> tuple[S, int]:
        """The newest readable state and its step; (`like`, 0) when there is none.

        A damaged checkpoint is set aside (renamed to STEP.damaged) with a warning on
        stderr, and the one before it is taken.

        Raises:
          CheckpointError: the newest belongs to another config or version, or all are
            damaged.
        """
        steps = sorted(self.orbax.all_steps(), reverse=True)
        like = distributed.everywhere(like) if steps else like
        for step in steps:
            try:
                about = self.orbax.restore(
                    step, args=ocp.args.Composite(about=ocp.args.JsonRestore())
                )["about"]
                found, version = about["leaves"], about["format"]
            except Exception as e:
                self.set_aside(step, e)
                continue
            self.check(step, found, version, leaves(like))
            try:
                with without_late_callbacks():
                    restored = self.orbax.restore(
                        step,
                        args=ocp.args.Composite(state=ocp.args.StandardRestore(like)),
                    )["state"]
                return restored, step
            except Exception as e:
                self.set_aside(step, e)
        if steps:
            raise CheckpointError(
                f"all checkpoints in {self.folder} are damaged (set aside as "
                f"STEP.damaged); start again in another workdir"
            )
        return like, 0

    def restore_raw(self) -> list[np.ndarray]:
        """The arrays of the newest checkpoint, in the order of their paths.

        For looking into a run without its code; random keys come as their bits.
        """
        step = self.orbax.latest_step()
        place: Any = self.folder / str(step) / "state"
        about = ocp.StandardCheckpointHandler().metadata(place)
        # Wherever they were saved, on one device of this process.
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        like = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), about.tree
        )
        tree = self.orbax.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like))
        )["state"]
        return [
            np.asarray(jax.random.key_data(x) if is_key(x) else x)
            for x in jax.tree.leaves(tree)
        ]

    def check(self, step: int, found: dict, version: int, wanted: dict) -> None:
        """Checks that a stored state has the leaves that this run needs."""
        where = f"checkpoint {self.folder / str(step)}"
        if version != FORMAT:
            raise CheckpointError(
                f"{where} has format {version}, this version reads format {FORMAT}"
            )
        for path in sorted({*found, *wanted}):
            if found.get(path) != wanted.get(path):
                raise CheckpointError(
                    f"{where} belongs to another config or version: {path} is "
                    f"{found.get(path, 'absent')} there, "
                    f"{wanted.get(path, 'absent')} here"
                )

    def set_aside(self, step: int, error: Exception) -> None:
        """Renames a damaged checkpoint and says so."""
        folder = self.folder / str(step)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        print(
            f"warning: checkpoint {folder} is damaged and set aside: {reason}",
            file=sys.stderr,
        )
        self.orbax.close()
        distributed.barrier("damaged checkpoint")
        if distributed.is_first():
            self.rename(folder, step)
        distributed.barrier("damaged checkpoint")
        self.orbax = self.open(cleanup=False)

    def rename(self, folder: pathlib.Path, step: int) -> None:
        """Renames the folder of a step to STEP.damaged, with a number where needed."""
        target = self.folder / f"{step}.damaged"
        number = 1
        while target.exists():
            number += 1
            target = self.folder / f"{step}.damaged-{number}"
        folder.rename(target)

    def close(self) -> None:
        """Waits for the running save and closes; raises what went wrong in it."""
        self.orbax.wait_until_finished()
        self.orbax.close()
