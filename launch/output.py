"""Output: nobody need read it (`| head`, a full disk), and it is never silent for long.

While nothing is printed, as in the evaluation of a run, a line tells now and then which
function of ours is at work.
"""

import os
import pathlib
import sys
import threading
import time
from types import FrameType
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = tuple(str(ROOT / part) + os.sep for part in ("contrastive_jax", "experiments"))
# Seconds without a line after which one is printed.
SILENCE = 20.0


class Patient:
    """A stream whose output is dropped from the first error of writing on.

    Args:
      stream: a text stream with a file descriptor.
    """

    def __init__(self, stream: Any):
        self.stream, self.last = stream, time.monotonic()

    def write(self, text: str) -> int:
        """Writes, or drops."""
        self.last = time.monotonic()
        try:
            return self.stream.write(text)
        except OSError:
            self.drop()
            return len(text)

    def flush(self) -> None:
        """Flushes, or drops."""
        try:
            self.stream.flush()
        except OSError:
            self.drop()

    def drop(self) -> None:
        """Sends what is buffered, and what comes, nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def be_patient() -> None:
    """Has stdout and stderr go on when nobody reads them, or none is open."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by who started the process
            stream = open(os.devnull, "w", encoding="utf-8")
        setattr(sys, name, Patient(stream))


def at_work(frame: FrameType | None) -> str:
    """The innermost function of ours on a stack, with its module; "" for none."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(OURS):
            module = pathlib.Path(file).relative_to(ROOT).with_suffix("")
            return ".".join((*module.parts, frame.f_code.co_qualname))
        frame = frame.f_back
    return ""


def tell_in_silence(stream: Patient, thread: int, began: float) -> bool:
    """Prints what a thread is at where nothing was for a while; whether it did."""
    now = time.monotonic()
    where = at_work(sys._current_frames().get(thread))
    if now - stream.last < SILENCE or not where:
        return False
    minutes, seconds = divmod(round(now - began), 60)
    print(f"... {minutes}:{seconds:02d} at {where}", file=stream, flush=True)
    return True


def break_silence() -> None:
    """Has a thread tell what the main thread is at while nothing is printed."""
    stream, thread, began = sys.stdout, threading.get_ident(), time.monotonic()

    def watch():
        while True:
            time.sleep(1)
            tell_in_silence(stream, thread, began)

    if isinstance(stream, Patient):
        threading.Thread(target=watch, name="silence", daemon=True).start()
