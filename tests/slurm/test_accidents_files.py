"""Accidents of file systems on the private cluster: nothing is trained twice, nothing is lost, and no bit changes."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.faults import STALE, plant
from tests.slurm.work import LONG, Work, done, ended_with_work_left, recipe, same_as_uninterrupted

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("installed", "cluster")]


def test_a_store_with_stale_handles_costs_an_attempt_and_no_work(work: Work, cluster: Cluster) -> None:
    plant(work.folder, STALE)
    work.write({**LONG, **recipe(8)})
    work.submit("--checkpoint-seconds", "1")
    cluster.wait(done(work), 180, "done")
    assert {name for name in ("read", "checkpoint", "set") if (work.folder / name).exists()} == {
        "read",
        "checkpoint",
        "set",
    }
    assert "it goes on from its checkpoint" in work.log()
    assert len(work.tasks(cluster)) == 1  # the same worker goes on
    same_as_uninterrupted(work, cluster, sessions=[2])


def test_a_full_disk_ends_workers_and_the_same_command_goes_on_when_there_is_room(
    work: Work, cluster: Cluster, small_disk: Path
) -> None:
    work.store = small_disk / "results"
    work.write({**LONG, **recipe(8)})
    with work.slower():
        work.submit("--checkpoint-seconds", "1")
        cluster.wait(lambda: bool(work.checkpoints()), 90, "a checkpoint")
        (task,) = work.tasks(cluster)
        with filled(small_disk):
            ended_with_work_left(work, cluster, task, "2:0")
            assert "the disk is full; free some space, then run the same command" in work.log()
    work.submit()
    cluster.wait(done(work), 180, "done")
    second = work.sessions(work.status()[0]["id"])[-1]
    assert second["resumed_from"] is not None
    same_as_uninterrupted(work, cluster, sessions=[2])


def test_a_log_folder_that_the_node_cannot_write_fails_workers_and_says_so(work: Work, two_nodes: Cluster) -> None:
    work.write({**LONG, **recipe(8)})
    work.store.mkdir()
    with two_nodes.covered("n1", work.store, "--bind", "-o", "ro", str(work.store)):
        work.submit()
        (task,) = work.tasks(two_nodes)
        two_nodes.wait(lambda: work.tasks(two_nodes)[task] == "FAILED", 60, "it ends")
        code, out = work.call("status", *work.at_store)
        assert code == 1
        assert "left no log" in out
        assert out.splitlines()[-1].startswith("Work is left and no worker is queued or running")
    work.submit()
    two_nodes.wait(done(work), 120, "done")
    same_as_uninterrupted(work, two_nodes, sessions=[1])


@contextlib.contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Fill a disk to its last block, also that which others leave, for as long as this is entered."""
    ballast, over = disk / "ballast", threading.Event()

    def fill() -> None:
        with ballast.open("wb", buffering=0) as stream:
            while not over.wait(0.01):
                for size in (2**16, 2**12, 1):
                    with contextlib.suppress(OSError):
                        while True:
                            stream.write(b"\0" * size)

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        ballast.unlink()


def test_a_store_that_is_moved_ends_its_workers_and_goes_on_at_its_new_place(work: Work, cluster: Cluster) -> None:
    work.write({**LONG, **recipe(8), "members": 2}, site={"gpus": 0})
    with work.slower():
        work.submit("--checkpoint-seconds", "1")
        cluster.wait(lambda: len(work.checkpoints()) == 2, 120, "checkpoints")
        tasks, old = work.tasks(cluster), work.store
        work.store = old.rename(work.folder / "moved")
    ended = dict.fromkeys(tasks, ("FAILED", "2:0"))
    cluster.wait(lambda: cluster.accounted(*tasks) == ended, 90, "the workers end with 2")
    assert "submission.json: gone, as somebody moved or deleted it" in work.log()
    written = {path.name for path in old.rglob("*") if path.is_file()}
    assert written <= {"checkpoint.pt", "provenance.json"}  # of the session that ended
    work.submit()
    cluster.wait(done(work), 240, "done")
    assert all(work.sessions(run["id"])[1]["resumed_from"] is not None for run in work.status())
    same_as_uninterrupted(work, cluster, sessions=[2, 2])
