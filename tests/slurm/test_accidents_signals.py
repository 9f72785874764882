"""Signals at bad moments, on the private cluster: no work and no bit is lost."""

import time

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.work import LONG, Work, done, ended_with_work_left, recipe, same_as_uninterrupted

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("installed", "cluster")]


def in_training(work: Work, cluster: Cluster) -> str:
    """Return the array task of a worker that has trained an epoch, and whose steps are as long as 80 ms."""
    work.write({**LONG, **recipe(12)})
    with work.slower():
        work.submit()
        cluster.wait(lambda: work.status()[0]["epoch"] > 0, 90, "an epoch")
        (task,) = work.tasks(cluster)
    time.sleep(0.5)  # the step that began meanwhile is over
    return task


@pytest.mark.parametrize(("first", "second"), [("USR2", "TERM"), ("TERM", "USR2")])
def test_two_signals_80_ms_apart_are_one_with_one_checkpoint(
    work: Work, cluster: Cluster, first: str, second: str
) -> None:
    task = in_training(work, cluster)
    cluster.run("scancel", f"--signal={first}", f"{task}.0")
    time.sleep(0.08)
    cluster.run("scancel", f"--signal={second}", f"{task}.0")
    if first == "USR2":  # the time limit is why, whatever follows: it comes back by itself
        cluster.wait(done(work), 240, "done")
        assert work.log().count("back to the queue") == 1
    else:  # somebody ended it: it stays away
        ended_with_work_left(work, cluster, task, "75:0")
        work.submit()
        cluster.wait(done(work), 240, "done")
    assert work.log().count("checkpoint written") == 1
    assert work.sessions(work.status()[0]["id"])[1]["resumed_from"]["epoch"] > 1
    same_as_uninterrupted(work, cluster, sessions=[2])


def test_a_worker_cancelled_just_after_the_signal_ahead_of_its_limit_stays_away(work: Work, cluster: Cluster) -> None:
    task = in_training(work, cluster)
    cluster.run("scancel", "--signal=USR2", f"{task}.0")
    time.sleep(0.08)
    cluster.run("scancel", task)
    cluster.wait(lambda: not cluster.run("squeue", "--noheader"), 60, "it has ended, and nothing is queued")
    assert work.tasks(cluster)[task] == "CANCELLED"
    assert "back to the queue" not in work.log()
    work.submit()
    cluster.wait(done(work), 240, "done")
    same_as_uninterrupted(work, cluster, sessions=[2])
