"""SIGTERM, SIGINT, SIGHUP: a flag that a loop looks at, or an exception.

Of several processes, all stop when one gets a signal, after the same step.
"""

import os
import signal
import sys
import time
from typing import Any

from contrastive_jax.parallel import distributed

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
        self.relayed, self.since = False, 0.0
        self.previous: dict[int, Any] = {}

    def handle(self, number, frame):
        """Notes the first signal; at a later one the process ends, nothing waits."""
        own, now = number != distributed.RELAY, time.monotonic()
        if self.caught is None:
            name = signal.Signals(number).name
            distributed.STOP.ask(f"{name} in process {distributed.process_id()}")
            self.caught = distributed.STOP.reason or name
            self.relayed, self.since = not own, now
            self.first()
        elif own and self.relayed:  # the first of its own
            self.relayed, self.since = False, now
        elif own and now - self.since > SAME:
            print(f"{self.caught}, then another: ended", file=sys.stderr, flush=True)
            os._exit(128 + number)

    def first(self) -> None:
        """What the first signal does beyond being noted."""

    def stop_now(self) -> bool:
        """Whether to stop after this step, in all processes; called after every one."""
        return distributed.STOP.here(bool(self.caught))

    def __enter__(self):
        for number in (*NUMBERS, distributed.RELAY):
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
