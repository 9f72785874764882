"""What a person sees of a run: a bar that says what its numbers are, and a last line that stays."""

import logging
import sys
from io import StringIO

import pytest

from bench.work.progress import RunProgress
from tests.store.runs import epoch, run_spec


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_names_its_numbers_and_the_last_epoch_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    caplog.set_level(logging.INFO, "bench")
    with RunProgress("[1/2] EDST", run_spec(), 0) as progress:
        progress.epoch(epoch(1, validation_accuracy=0.156), 8)
        progress.epoch(epoch(2, validation_accuracy=0.25), 16)
        assert caplog.messages == []
    assert "epoch 2/350, validation 25.0%" in terminal.getvalue()
    assert caplog.messages == ["[1/2] EDST: epoch 2/350 (train): loss 2.500, validation 25.0%, 100 images/s"]


def test_without_a_terminal_there_are_lines_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bench")
    with RunProgress("[1/2] EDST", run_spec(), 0, bars=False) as progress:
        progress.epoch(epoch(350), 8)
    assert caplog.messages == ["[1/2] EDST: epoch 350/350 (train): loss 2.500, training 25.0%, 100 images/s"]
