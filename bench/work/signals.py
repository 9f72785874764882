"""Polite interruption: a signal asks, the training loop stops at the next step with a checkpoint.

SIGTERM and SIGINT come from people and batch systems, SIGUSR1 and SIGUSR2 ahead of a SLURM time limit, SIGHUP when a
terminal or a connection closes (not under nohup, which has it ignored).
"""

import signal
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
# SLURM sends one of these ahead of a time limit.
AHEAD_OF_LIMIT = (signal.SIGUSR1, signal.SIGUSR2)
# sysexits.h EX_TEMPFAIL: nothing is wrong, the same command continues.
EXIT_INTERRUPTED = 75


class InterruptedRunError(Exception):
    """A signal asked this process to end; the work so far is saved."""


class StopRequest:
    """While entered, turns the signals into a flag; a second SIGINT acts at once, as people expect of Ctrl-C."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise InterruptedRunError if a signal came."""
        if self.received is not None:
            raise InterruptedRunError(f"stopped by {self.received.name}")

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        # The first says why: after SLURM's warning of a time limit comes its SIGTERM.
        self.received = self.received or signal.Signals(number)
