"""Output that nobody reads."""

import os
import sys

import pytest

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
