"""Signals ask a worker to end; those that its caller has it ignore ask nothing."""

import os
import signal

import pytest

from bench.work.signals import SIGNALS, InterruptedRunError, StopRequest


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_asks_to_stop_and_afterwards_acts_as_before(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with StopRequest() as stop:
            stop.check()
            os.kill(os.getpid(), number)
            with pytest.raises(InterruptedRunError, match=number.name):
                stop.check()
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_under_nohup_a_closed_terminal_changes_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            stop.check()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
