"""Output that nobody reads."""

import io
import os
import signal
import sys
import threading

import pytest

from contrastive_jax.training import signals
from launch import output


def closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w", encoding="utf-8")


def full_disk():
    return open("/dev/full", "w", encoding="utf-8")


@pytest.mark.parametrize("make", [closed_pipe, full_disk])
def test_what_cannot_be_written_is_dropped(make):
    stream = make()
    patient = output.Patient(stream)
    for _ in range(3):
        print("x" * 100_000, file=patient, flush=True)
    stream.close()  # flushes, as the end of the process does


def test_a_closed_output_is_nowhere(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    output.be_patient()
    print("x", flush=True)
    assert not sys.stdout.isatty()


def test_silence_is_broken_by_what_is_at_work(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: clock[0])
    text = io.StringIO()
    stream, thread = output.Patient(text), threading.get_ident()
    seen = []

    class Watched(signals.Catch):
        def first(self):
            for clock[0] in (5.0, 75.0, 80.0):
                seen.append(output.tell_in_silence(stream, thread, 0.0))

    Watched().handle(signal.SIGTERM, None)
    assert seen == [False, True, False]
    line = "... 1:15 at contrastive_jax.training.signals.Catch.handle\n"
    assert text.getvalue() == line
    clock[0] = 200.0
    assert not output.tell_in_silence(stream, thread, 0.0)  # nothing of ours
