"""What a run shows: one bar on a terminal, one line every so often elsewhere."""

import sys
from collections.abc import Mapping


class Progress:
    """Shows step, loss, examples per second and time left.

    Args:
      start_step: steps that are finished.
      num_steps: steps of the whole run.
    """

    def __init__(self, start_step: int, num_steps: int):
        self.step = start_step
        self.num_steps = num_steps
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

    def advance(self, step: int) -> None:
        """Moves the bar."""
        self.step = step
        if self.bar:
            self.bar.update(self.task, completed=step)

    def show(self, values: Mapping[str, float], speeds: Mapping[str, float]) -> None:
        """Shows the newest metrics, and the speeds of `observe.Meter` if there are."""
        text = f"loss {values['loss']:.4f}  " if "loss" in values else ""
        left = ""
        if "step_seconds" in speeds:
            text += f"{speeds['examples_per_second']:,.0f} examples/s"
            seconds = round((self.num_steps - self.step) * speeds["step_seconds"])
            left = f"  {seconds // 60}:{seconds % 60:02d} left"
        if self.bar:
            self.bar.update(self.task, text=text)
        else:
            print(f"step {self.step}/{self.num_steps}  {text}{left}", flush=True)

    def close(self) -> None:
        """Ends the bar."""
        if self.bar:
            self.bar.stop()
