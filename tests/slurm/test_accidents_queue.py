"""A queue that does not answer, on the private cluster: nothing is submitted twice."""

import shutil
import time
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.work import LONG, Work, done, recipe, same_as_uninterrupted

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("installed", "cluster")]


def test_while_squeue_answers_an_error_for_a_minute_nothing_is_submitted_twice(
    work: Work, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = refusing_squeue(work.folder, monkeypatch)
    work.write({**LONG, **recipe(30)})
    with work.slower():  # longer than the minute
        work.submit()
        away.touch()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            code, out = work.call("submit", str(work.grid), "--site", str(work.folder / "site.yaml"), *work.at_store)
            assert code == 2
            assert "squeue failed: slurm_load_jobs error" in out
            assert "Traceback" not in out
            code, out = work.call("status", *work.at_store)
            assert code == 1
            assert "Whether anything more happens by itself is not known" in out
            time.sleep(5)
        away.unlink()
    assert "Nothing to submit." in work.submit()
    cluster.wait(done(work), 120, "done")
    assert len(work.tasks(cluster)) == 1
    same_as_uninterrupted(work, cluster, sessions=[1])


def refusing_squeue(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Put a squeue first in PATH that answers an error for as long as the file is there that is returned."""
    programs, away = folder / "programs", folder / "squeue is away"
    programs.mkdir()
    squeue = programs / "squeue"
    squeue.write_text(
        f"#!/bin/sh\nif [ -e '{away}' ]; then\n"
        "  echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2\n  exit 1\nfi\n"
        f'exec {shutil.which("squeue")} "$@"\n'
    )
    squeue.chmod(0o755)
    patch.setenv("PATH", str(programs), prepend=":")
    return away
