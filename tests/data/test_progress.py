"""Progress: a bar for people, lines for logs, and every item either way."""

import logging
import sys

import pytest

from bench.data import progress


def test_a_log_gets_a_line_at_the_start_and_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO):
        assert list(progress.tracked(range(1500), "decoding x.zip", progress=False)) == list(range(1500))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "decoding x.zip: 0 of 1,500"
    assert 1500 / 4 < len(lines) < 1500 / 2


@pytest.mark.parametrize(("wanted", "terminal"), [(True, False), (False, True)])
def test_no_bar_is_drawn_where_nobody_wants_or_sees_one(
    wanted: bool, terminal: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert list(progress.tracked("abc", "decoding", progress=wanted)) == ["a", "b", "c"]
    assert capfd.readouterr() == ("", "")


def test_a_terminal_sees_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(progress.tracked("abc", "decoding x.zip", progress=True)) == ["a", "b", "c"]
    assert "decoding x.zip" in capsys.readouterr().err
