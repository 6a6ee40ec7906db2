"""Metrics of a run: JSON lines as the truth, loggers beside them.

`metrics.jsonl` holds one line per logged step, without times, so that an interrupted
run and an uninterrupted one write the same bytes. `speed.jsonl` holds the times.
"""

import json
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from contrastive_jax.parallel import distributed
from contrastive_jax.training import loggers, observe

FILE = "metrics.jsonl"
SPEED = "speed.jsonl"


def read(workdir: str | pathlib.Path) -> list[dict[str, Any]]:
    """All logged lines of a run, oldest first; none when it has not begun."""
    file = pathlib.Path(workdir) / FILE
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def reopen(file: pathlib.Path, start_step: int) -> TextIO:
    """A file of JSON lines to append to, without the lines after `start_step`."""
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
    return file.open("a", encoding="utf-8")


class Writer:
    """Appends metrics; lines after `start_step`, left by a killed run, are dropped.

    Of several processes the first alone writes.

    Args:
      workdir: folder of the run.
      start_step: steps that are finished.
    """

    def __init__(self, workdir: str | pathlib.Path, start_step: int):
        self.writes = distributed.is_first()
        if not self.writes:
            return
        workdir = pathlib.Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        self.file = reopen(workdir / FILE, start_step)
        self.speed = reopen(workdir / SPEED, start_step)
        self.loggers = [
            loggers.open_logger(which, workdir, start_step)
            for which in observe.current().loggers
        ]

    def write(
        self,
        step: int,
        values: Mapping[str, float],
        speeds: Mapping[str, float] | None = None,
    ) -> None:
        """Writes a line, one of speeds if there are any, and tells the loggers."""
        if not self.writes:
            return
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()
        try:
            if speeds:
                self.speed.write(json.dumps({"step": step, **speeds}) + "\n")
                self.speed.flush()
            for logger in self.loggers:
                logger.write(step, {**values, **(speeds or {})})
        except Exception as e:  # a full disk or a lost network there must not end a run
            print(f"warning: not logged at step {step}: {e}", file=sys.stderr)

    def close(self) -> None:
        """Closes all of them."""
        if not self.writes:
            return
        self.file.close()
        self.speed.close()
        for logger in self.loggers:
            logger.close()
