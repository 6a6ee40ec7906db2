"""What a run shows: one bar on a terminal, one line every so often elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import Any

import jax

from contrastive_jax.parallel import distributed


class Progress:
    """Shows step, loss, examples per second and time left.

    Args:
      start_step: steps that are finished.
      num_steps: steps of the whole run.
    """

    def __init__(self, start_step: int, num_steps: int):
        self.step = self.start_step = start_step
        self.num_steps = num_steps
        self.began = self.shown = time.monotonic()
        self.shown_step = start_step
        self.bar = None
        if sys.stdout.isatty():
            from rich import progress

            self.bar = progress.Progress(
                progress.TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
                progress.BarColumn(),
                progress.TextColumn("{task.fields[text]}"),
                progress.TimeRemainingColumn(),
            )
            self.task = self.bar.add_task("", total=num_steps, text="compiling")
            self.bar.update(self.task, completed=start_step)
            self.bar.start()

    def advance(self, step: int, values: Mapping[str, Any]) -> None:
        """Moves the bar; time counts from the end of the first step, which compiles."""
        if self.step == self.start_step:
            jax.block_until_ready(values)
            self.shown, self.shown_step = time.monotonic(), step
        self.step = step
        if self.bar:
            self.bar.update(self.task, completed=step)

    def show(self, values: Mapping[str, float], rows_per_step: int) -> float:
        """Shows the newest metrics; returns examples per second since the last call.

        Of several processes `rows_per_step` are this one's, the speed is that of all.
        """
        if self.shown_step == self.step:  # the first step alone
            self.shown, self.shown_step = self.began, self.start_step
        now = time.monotonic()
        steps = self.step - self.shown_step
        rows = steps * rows_per_step * distributed.num_processes()
        speed = rows / max(now - self.shown, 1e-9)
        left = (self.num_steps - self.step) * (now - self.shown) / max(steps, 1)
        self.shown, self.shown_step = now, self.step
        text = f"loss {values['loss']:.4f}  " if "loss" in values else ""
        text += f"{speed:,.0f} examples/s"
        if self.bar:
            self.bar.update(self.task, text=text)
        else:
            minutes, seconds = divmod(round(left), 60)
            total = self.num_steps
            print(
                f"step {self.step}/{total}  {text}  {minutes}:{seconds:02d} left",
                flush=True,
            )
        return speed

    def close(self) -> None:
        """Ends the bar."""
        if self.bar:
            self.bar.stop()
