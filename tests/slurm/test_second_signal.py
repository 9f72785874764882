"""SLURM signals every process of a step: a second signal must not kill what the first made a worker ask."""

import os
from pathlib import Path

import pytest

from slurm import array_task


def test_a_second_signal_does_not_kill_what_asks_and_what_requeues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(
        f"#!/bin/sh\nkill -USR2 $$; kill -TERM $$\necho $1 >> '{tmp_path}/calls'\necho PreemptTime=2026-11-27\n"
    )
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    assert array_task._is_preempted()
    array_task._requeue()
    assert (tmp_path / "calls").read_text() == "show\nrequeue\n"
    assert "SLURM did not take it" not in caplog.text
