"""Checkpoints: atomic, asynchronous, the newest few kept, damaged ones stepped over.

Orbax does the work; this is the only file that knows it. A checkpoint holds the whole
state and a list of its leaves (path, type, shape), so that a state of another config
or version is refused instead of cast. Of several processes each saves its part of the
arrays, in a folder that all see; any number of processes can restore them.
"""

import contextlib
import errno
import json
import pathlib
import sys
import threading
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.options import AtomicityMode, AtomicityOptions

from contrastive_jax.parallel import distributed
from contrastive_jax.training import digests

# Raised when the layout of checkpoints changes.
FORMAT = 1
# The file that Orbax writes last into a checkpoint (AtomicityMode.COMMIT_FILE).
COMMITTED = "commit_success.txt"
# Errors that may be gone at the next try.
PASSING = (
    errno.EACCES,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EPERM,
    errno.ESTALE,
)

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


def check(folder: pathlib.Path, about: Mapping[str, Any], wanted: Any) -> None:
    """Checks that a stored state has the leaves that this run needs.

    Args:
      folder: of the checkpoint, for what is said of it.
      about: what `Manager.save` wrote beside the state.
      wanted: a state, or its shapes.

    Raises:
      CheckpointError: another format, or the first leaf that differs.
    """
    found, expected = about["leaves"], leaves(wanted)
    if about["format"] != FORMAT:
        raise CheckpointError(
            f"checkpoint {folder} has format {about['format']}, this version reads "
            f"format {FORMAT}"
        )
    for path in sorted({*found, *expected}):
        if found.get(path) != expected.get(path):
            raise CheckpointError(
                f"checkpoint {folder} belongs to another config or version: {path} is "
                f"{found.get(path, 'absent')} there, "
                f"{expected.get(path, 'absent')} here"
            )


def read(folder: str | pathlib.Path, like: S) -> tuple[S, int]:
    """The newest readable state of a folder and its step; writes nothing there.

    For runs that are over and for those that go on: what is being saved is not seen,
    and where a step is removed while it is read, the folder is looked at once more.

    Args:
      folder: of the checkpoints.
      like: a state, or its shapes; arrays come on the first device.

    Raises:
      CheckpointError: there is none, none can be read, or the newest belongs to another
        config or version.
    """
    folder = pathlib.Path(folder).resolve()
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like
    )
    reason, tried = "", set()
    while True:
        new = set(steps_of(folder)) - tried
        if not new:
            break
        step = max(new)
        tried.add(step)
        place = folder / str(step)
        try:
            if wrong := digests.mismatch(place):
                reason = f" that can be read ({wrong})"
                continue
            about = read_item(place, about=ocp.args.JsonRestore())
            check(place, about, shapes)
            with without_late_callbacks():
                return read_item(place, state=ocp.args.StandardRestore(shapes)), step
        except CheckpointError:
            raise
        except Exception as e:
            reason = f" that can be read ({first_line(e)})"
    raise CheckpointError(f"{folder}: expected a checkpoint{reason or ', got none'}")


def steps_of(folder: pathlib.Path) -> list[int]:
    """The steps whose checkpoints are whole."""
    return [
        int(file.parent.name)
        for file in folder.glob(f"*/{COMMITTED}")
        if file.parent.name.isdecimal()
    ]


def read_item(folder: pathlib.Path, **item: Any) -> Any:
    """One item of a checkpoint, by the arguments with which Orbax restores it."""
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        found = reader.restore(folder, args=ocp.args.Composite(**item))
    return found[next(iter(item))]


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def is_passing(error: Exception) -> bool:
    """Whether an error tells of the machine, not of the files: they may be good."""
    if isinstance(error, OSError) and error.errno in PASSING:
        return True
    words = ("RESOURCE_EXHAUSTED", "PERMISSION_DENIED")
    return isinstance(error, MemoryError) or any(x in str(error) for x in words)


class Manager:
    """The checkpoints of one run.

    When a checkpoint is whole, digests of its files are written beside it
    (`training.digests`), by a thread; they are compared when it is restored.

    Args:
      folder: where they lie, one folder per step.
      keep: how many of the newest are kept; at least 2, so that one survives damage.
    """

    def __init__(self, folder: str | pathlib.Path, *, keep: int = 2):
        self.folder = pathlib.Path(folder).resolve()
        self.keep = max(keep, 2)
        if distributed.is_first():
            self.warn_of_unmarked()
        distributed.barrier("start of training")
        self.orbax = self.open()
        self.newest: int | None = None  # saved, and without digests so far
        self.thread: threading.Thread | None = None

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
        self.seal()
        state = distributed.everywhere(state)
        about = {"format": FORMAT, "leaves": leaves(state)}
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about)
        )
        if not self.orbax.save(step, args=arguments, force=True):
            raise CheckpointError(f"step {step} could not be saved in {self.folder}")
        self.newest = step

    def seal(self) -> None:
        """Waits for the running save; has its digests written in the background."""
        self.orbax.wait_until_finished()
        if self.thread:
            self.thread.join()
            self.thread = None
        if self.newest is not None and distributed.is_first():
            folder = self.folder / str(self.newest)
            self.thread = threading.Thread(target=digests.write, args=(folder,))
            self.thread.start()
        self.newest = None

    def restore(self, like: S) -> tuple[S, int]:
        """The newest readable state and its step; (`like`, 0) when there is none.

        A damaged checkpoint is set aside (renamed to STEP.damaged) with a warning on
        stderr, and the one before it is taken: one whose files are not what was
        written, or, where a kill came before their digests, one that cannot be read.

        Raises:
          CheckpointError: the newest belongs to another config or version; it cannot be
            read though its files are as written, or for want of memory or permission;
            all are damaged, now or before.
        """
        steps = sorted(self.orbax.all_steps(), reverse=True)
        like = distributed.everywhere(like) if steps else like
        for step in steps:
            if wrong := self.mismatch(step):
                self.set_aside(step, wrong)
                continue
            try:
                about = self.orbax.restore(
                    step, args=ocp.args.Composite(about=ocp.args.JsonRestore())
                )["about"]
                about = {name: about[name] for name in ("leaves", "format")}
            except Exception as e:
                self.refuse(step, e)
                continue
            check(self.folder / str(step), about, like)
            try:
                with without_late_callbacks():
                    restored = self.orbax.restore(
                        step,
                        args=ocp.args.Composite(state=ocp.args.StandardRestore(like)),
                    )["state"]
                return restored, step
            except Exception as e:
                self.refuse(step, e)
        if any(any(self.folder.glob(x)) for x in ("*.damaged*", "*.sha256")):
            raise CheckpointError(
                f"all checkpoints in {self.folder} are damaged; --anew starts over, "
                "another workdir leaves them"
            )
        return like, 0

    def warn_of_unmarked(self) -> None:
        """Names what was whole and lost the file that says so: Orbax removes it.

        Older ones than the newest that is whole may be half removed already.
        """
        newest = max(steps_of(self.folder), default=-1)
        for file in self.folder.glob("*.sha256"):
            folder = file.with_suffix("")
            if (
                folder.name.isdecimal()
                and folder.is_dir()
                and int(folder.name) > newest
            ):
                reason = f"{COMMITTED} is missing"
                print(
                    f"warning: checkpoint {folder} is damaged and left out: {reason}",
                    file=sys.stderr,
                )

    def mismatch(self, step: int) -> str:
        """What of a checkpoint is not as it was written, see `digests.mismatch`.

        Raises:
          CheckpointError: a file cannot be read.
        """
        found = error = ""
        if distributed.is_first():
            try:
                found = digests.mismatch(self.folder / str(step))
            except OSError as e:
                error = first_line(e)
        found, error = json.loads(
            distributed.exchange("digests", json.dumps([found, error]))[0]
        )
        if error:
            raise CheckpointError(
                f"checkpoint {self.folder / str(step)} cannot be read: {error}"
            )
        return found

    def refuse(self, step: int, error: Exception) -> None:
        """Sets a checkpoint aside that cannot be read, if it is its own fault.

        Raises:
          CheckpointError: its files are as they were written, or the machine failed.
        """
        folder = self.folder / str(step)
        if digests.file_of(folder).exists() or is_passing(error):
            raise CheckpointError(
                f"checkpoint {folder} cannot be read, and is left as it is: "
                f"{first_line(error)}"
            ) from error
        self.set_aside(step, first_line(error))

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

    def set_aside(self, step: int, reason: str) -> None:
        """Renames a damaged checkpoint and says so."""
        folder = self.folder / str(step)
        print(
            f"warning: checkpoint {folder} is damaged and set aside: {reason}",
            file=sys.stderr,
        )
        self.orbax.close()
        distributed.barrier("damaged checkpoint")
        if distributed.is_first():
            self.rename(folder)
        distributed.barrier("damaged checkpoint")
        self.orbax = self.open(cleanup=False)

    def rename(self, folder: pathlib.Path) -> None:
        """Renames the folder of a step to STEP.damaged, with a number where needed."""
        target = folder.with_name(f"{folder.name}.damaged")
        number = 1
        while target.exists():
            number += 1
            target = folder.with_name(f"{folder.name}.damaged-{number}")
        folder.rename(target)
        digests.file_of(folder).unlink(missing_ok=True)

    def close(self) -> None:
        """Waits for the running save and closes; raises what went wrong in it."""
        try:
            self.seal()
        finally:
            if self.thread:
                self.thread.join()
            self.orbax.close()
