"""Output that nobody reads any more (`| head`, a full disk) does not end a command."""

import os
import sys
from typing import Any


class Patient:
    """A stream whose output is dropped from the first error of writing on.

    Args:
      stream: a text stream with a file descriptor.
    """

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes, or drops."""
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
