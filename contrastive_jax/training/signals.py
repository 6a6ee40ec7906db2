"""SIGTERM, SIGINT, SIGHUP: a flag that a loop looks at, or an exception."""

import os
import signal
import sys
import time
from typing import Any

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Seconds in which a second signal counts as the first: schedulers and terminals often
# send two.
SAME = 1.0


class Preempted(BaseException):
    """A signal asked the run to stop; its state is saved and it can go on later.

    No `Exception`, as KeyboardInterrupt is none: code that goes on after errors does
    not swallow it.
    """


class Catch:
    """Within it the first signal sets `caught`; one that comes later ends at once.

    After it `Preempted` is raised if there was a signal and no other error. Outside of
    the main thread, where Python sets no handlers, it does nothing.

    Attributes:
      caught: name of the signal, None before there was one.
      saved: what `Preempted` says is saved.
    """

    def __init__(self):
        self.caught: str | None = None
        self.saved = "stopped"
        self.since = 0.0
        self.previous: dict[int, Any] = {}

    def handle(self, number, frame):
        """Notes the first signal; at a later one the process ends, nothing waits."""
        if self.caught is None:
            self.caught, self.since = signal.Signals(number).name, time.monotonic()
            self.first()
        elif time.monotonic() - self.since > SAME:
            print(f"{self.caught}, then another: ended", file=sys.stderr, flush=True)
            os._exit(128 + number)

    def first(self) -> None:
        """What the first signal does beyond being noted."""

    def __enter__(self):
        for number in NUMBERS:
            try:
                self.previous[number] = signal.signal(number, self.handle)
            except ValueError:
                break
        return self

    def __exit__(self, kind, *_):
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        if self.caught and kind is None:
            raise Preempted(f"{self.caught}: {self.saved}")


class Stop(Catch):
    """Within it the first signal raises `Preempted`, a later one ends at once.

    For what can be done again from what is saved, as evaluation; a `Catch` inside of it
    has the signals to itself.
    """

    def first(self) -> None:
        """Raises."""
        raise Preempted(f"{self.caught}: stopped, what is trained is saved")
