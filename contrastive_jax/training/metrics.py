"""Metrics of a run: JSON lines as the truth, TensorBoard event files beside them.

`metrics.jsonl` holds one line per logged step, without times, so that an interrupted
run and an uninterrupted one write the same bytes.
"""

import json
import os
import pathlib
import sys
from typing import Any

from contrastive_jax.parallel import distributed

FILE = "metrics.jsonl"


def read(workdir: str | pathlib.Path) -> list[dict[str, Any]]:
    """All logged lines of a run, oldest first; none when it has not begun."""
    file = pathlib.Path(workdir) / FILE
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


class Writer:
    """Appends metrics; lines after `start_step`, left by a killed run, are dropped.

    Of several processes the first alone writes.

    Args:
      workdir: folder of the run.
      start_step: steps that are finished.
    """

    def __init__(self, workdir: str | pathlib.Path, start_step: int):
        from tensorboardX import SummaryWriter

        self.writes = distributed.is_first()
        if not self.writes:
            return
        workdir = pathlib.Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        file = workdir / FILE
        kept = []
        for line in file.read_bytes().splitlines() if file.exists() else []:
            try:
                if json.loads(line)["step"] > start_step:
                    break
            except (ValueError, KeyError, TypeError):
                break  # half a line, cut by a kill
            kept.append(line + b"\n")
        temporary = file.with_suffix(".tmp")
        temporary.write_bytes(b"".join(kept))
        os.replace(temporary, file)
        self.file = file.open("a", encoding="utf-8")
        self.events: Any = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=start_step + 1
        )

    def write(
        self,
        step: int,
        values: dict[str, float],
        *,
        only_events: dict[str, float] | None = None,
    ) -> None:
        """Writes one line; `only_events` (speeds) goes to the event files alone."""
        if not self.writes:
            return
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()
        try:
            for name, x in {**values, **(only_events or {})}.items():
                self.events.add_scalar(name, x, step)
        except OSError as e:  # a full disk for events must not end a run
            print(
                f"warning: no TensorBoard event for step {step}: {e}", file=sys.stderr
            )

    def close(self) -> None:
        """Closes both files."""
        if self.writes:
            self.file.close()
            self.events.close()
