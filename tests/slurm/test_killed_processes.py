"""A worker that is killed goes back to the queue by itself; of several processes whichever it is."""

import os
import signal
from pathlib import Path

import pytest

from slurm.dispatch import REQUEUE
from slurm.records import submissions
from tests.slurm.cluster import Cluster
from tests.slurm.fakes import FakeSlurm
from tests.slurm.place import Place
from tests.slurm.work import LONG, Work, done, recipe, results


def of_rank(cluster: Cluster, rank: int) -> int:
    """Return the pid of a process that trains."""

    def has(pid: int) -> bool:
        process = Path(f"/proc/{pid}")
        try:
            lines = process.joinpath("environ").read_bytes().split(b"\0")
            python = process.joinpath("comm").read_text().startswith("python")
        except OSError:  # it has ended
            return False
        return python and f"SLURM_PROCID={rank}".encode() in lines

    (pid,) = [pid for pid in cluster.processes() if has(pid)]
    return pid


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.usefixtures("installed", "cluster")
def test_a_process_of_two_that_is_killed_costs_an_attempt_and_the_worker_comes_back(
    work: Work, cluster: Cluster
) -> None:
    work.write({**LONG, **recipe(8)}, site={"processes": 2, "gpus": 0})
    work.submit("--checkpoint-seconds", "1")
    killed = [0, 1, 0]
    for sessions, rank in enumerate(killed, start=1):
        cluster.wait(
            lambda sessions=sessions: (
                [len(work.sessions(path.parent.name)) for path in work.checkpoints()] == [sessions]
            ),
            120,
            "it trains",
        )
        os.kill(of_rank(cluster, rank), signal.SIGKILL)
        (task,) = work.tasks(cluster)
        cluster.wait(lambda times=sessions: work.log().count("back to the queue") == times, 60, "its worker goes back")
        assert "failed" not in work.states()
    cluster.wait(done(work), 240, "done")
    assert list(work.tasks(cluster)) == [task]
    (run,) = work.status()
    assert len(work.sessions(run["id"])) == 1 + len(killed)
    cluster.wait(lambda: cluster.accounted(task) == {task: ("COMPLETED", "0:0")}, 60, "sacct says the same")
    interrupted = results(work.store)
    work.store = work.folder / "whole"
    work.submit()
    cluster.wait(done(work), 240, "done without an accident")
    assert results(work.store) == interrupted


@pytest.mark.parametrize(
    ("site", "comes_back"),
    [
        ("processes: 2", True),
        ("processes: 2, requeue: false", False),
        ("processes: 1", True),
        ("requeue: false", False),
    ],
)
def test_workers_that_may_be_requeued_come_back(place: Place, slurm: FakeSlurm, site: str, comes_back: bool) -> None:
    place.site.write_text(f"{{gpus: 0, {site}}}")
    assert place.submit()[0] == 0
    assert slurm.queue()
    (folder,) = submissions(place.store)
    scripts = [path.read_text() for path in folder.path.glob("*.sh")]
    assert {REQUEUE in script for script in scripts} == {comes_back}
