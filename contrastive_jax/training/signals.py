"""SIGTERM and SIGINT: a flag that a loop looks at between steps, or an exception.

Of several processes, all stop when one gets a signal, after the same step.
"""

import signal
import sys
from typing import Any

from contrastive_jax.parallel import distributed

CAUGHT = (signal.SIGTERM, signal.SIGINT, distributed.RELAY)


class Preempted(Exception):
    """A signal asked the run to stop; its state is saved and it can go on later."""


class Catch:
    """Within it the first SIGTERM or SIGINT sets `caught`; a second ends at once.

    Outside of the main thread, where Python sets no handlers, it does nothing.
    """

    def __init__(self):
        self.caught: str | None = None
        self.relayed = False
        self.previous: dict[int, Any] = {}

    def handle(self, number, frame):
        """Notes the signal, or exits at the second one that is this process's own."""
        own = number != distributed.RELAY
        if self.caught and own and not self.relayed:
            sys.exit(128 + number)
        self.relayed = not own
        name = signal.Signals(number).name
        distributed.STOP.ask(f"{name} in process {distributed.process_id()}")
        self.caught = distributed.STOP.reason or name

    def stop_now(self) -> bool:
        """Whether to stop after this step, in all processes; called after every one."""
        return distributed.STOP.here(bool(self.caught))

    def __enter__(self):
        for number in CAUGHT:
            try:
                self.previous[number] = signal.signal(number, self.handle)
            except ValueError:
                break
        return self

    def __exit__(self, *_):
        for number, handler in self.previous.items():
            signal.signal(number, handler)


class Stop(Catch):
    """Within it the first SIGTERM or SIGINT raises `Preempted`, a second ends at once.

    For what can be done again from what is saved, as evaluation; a `Catch` inside of it
    has the signals to itself.
    """

    def handle(self, number, frame):
        """Raises, or exits at the second one."""
        super().handle(number, frame)
        raise Preempted(f"{self.caught}: stopped, what is trained is saved")
