"""Ctrl-C while a program imports: one line and exit code 130, whatever the library makes of the interrupt."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.commands import options
from bench.commands.ctrl_c import end_imports_at_once
from tests.grid_text import REPOSITORY

# As some libraries do: caught, and followed by an error of another kind.
SLOW = """
import time
print("importing", flush=True)
try:
    time.sleep(600)
except BaseException:
    raise ImportError("half of it")
"""
PROGRAMS = [["-m", "bench"], ["-m", "analysis"], ["-m", "slurm"], ["-m", "reproduce"], ["freetickets.py"]]


@pytest.fixture
def untouched() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program[-1])
def test_an_import_ends_at_once(tmp_path: Path, program: list[str]) -> None:
    (tmp_path / "typer.py").write_text(SLOW, encoding="utf-8")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process started while it is ignored ignores it too
    started = subprocess.Popen(
        [sys.executable, *program, "--version"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "importing\n"
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=300)
    assert (started.returncode, said) == (130, "interrupted\n")


@pytest.mark.usefixtures("untouched")
def test_at_any_other_time_it_is_an_exception_as_before() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_imports_at_once()
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("untouched")
def test_a_signal_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_imports_at_once()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_before_a_command_begins(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Typer turns an interrupt of a command into an exit code, and one that comes while it makes commands into none."""

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(options, "_check", interrupted)
    with pytest.raises(SystemExit) as ended:
        options.run_app(options.make_app("a program"), [])
    assert (ended.value.code, capsys.readouterr().err) == (130, "interrupted\n")
