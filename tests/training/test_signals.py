"""Signals: noted between steps, raised elsewhere, two at once are one."""

import os
import signal

import pytest

from contrastive_jax.training import signals


class Ended(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def clock(monkeypatch):
    """Time that stands still until it is moved, and an end that can be caught."""
    now = [0.0]

    def end(code):
        raise Ended(code)

    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(signals.os, "_exit", end)
    return now


@pytest.mark.parametrize("number", signals.NUMBERS)
def test_a_signal_is_noted_and_raised_at_the_end(number):
    before = signal.getsignal(number)
    with (
        pytest.raises(signals.Preempted, match=f"{number.name}: saved step 3"),
        signals.Catch() as caught,
    ):
        os.kill(os.getpid(), number)
        assert caught.caught == number.name
        caught.saved = "saved step 3"
    assert signal.getsignal(number) == before


def test_a_return_does_not_swallow_a_signal():
    def work():
        with signals.Catch():
            os.kill(os.getpid(), signal.SIGTERM)
            return 1

    with pytest.raises(signals.Preempted):
        work()


def test_an_error_is_told_before_a_signal():
    with pytest.raises(KeyError), signals.Catch():
        os.kill(os.getpid(), signal.SIGTERM)
        raise KeyError


def test_two_signals_at_once_are_one_and_a_later_one_ends(clock, capsys):
    with pytest.raises(Ended, match="143"), signals.Catch() as caught:
        os.kill(os.getpid(), signal.SIGINT)
        clock[0] = 0.03
        os.kill(os.getpid(), signal.SIGTERM)
        assert caught.caught == "SIGINT"
        clock[0] = 2.0
        os.kill(os.getpid(), signal.SIGTERM)
    assert "SIGINT, then another: ended" in capsys.readouterr().err


def test_stop_raises_through_code_that_goes_on_after_errors(clock):
    with pytest.raises(signals.Preempted), signals.Stop():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception as e:
            raise AssertionError from e
        raise AssertionError


def test_a_catch_within_a_stop_has_the_signals_to_itself():
    steps = []
    with pytest.raises(signals.Preempted, match="SIGHUP: all"), signals.Stop():
        with signals.Catch() as caught:
            os.kill(os.getpid(), signal.SIGHUP)
            steps.append(1)
            caught.saved = "all"
        raise AssertionError
    assert steps == [1]
