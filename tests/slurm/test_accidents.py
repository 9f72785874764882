"""Accidents of clusters, each on the private one: nothing is trained twice, nothing is lost, and no bit changes."""

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.work import LONG, Work, done, recipe, results, uninterrupted

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("installed", "cluster")]

# All of a node: whoever is to run beside it has to take its place.
WHOLE = ("--partition=urgent", "--cpus-per-task=8", "--mem=1G")


def test_a_worker_preempted_with_grace_comes_back_by_itself(work: Work, cluster: Cluster) -> None:
    work.write({**LONG, **recipe(25)}, site={"partition": "scavenge"})
    work.submit()
    cluster.wait(lambda: work.status()[0]["epoch"] > 0, 60, "an epoch")
    (task,) = work.tasks(cluster)
    urgent = cluster.submit("true", *WHOLE)
    cluster.wait_for("COMPLETED", urgent, timeout=60)
    assert "back to the queue" in work.log()
    assert work.tasks(cluster)[task] in ("PENDING", "RUNNING")
    cluster.wait(done(work), 120, "done")
    (run,) = work.status()
    _, second = work.sessions(run["id"])
    assert second["resumed_from"]["epoch"] > 1  # from the checkpoint that it wrote when it was warned
    cluster.wait(lambda: cluster.accounted(task) == {task: ("COMPLETED", "0:0")}, 60, "sacct says the same")
    assert work.call("status", "--store", str(work.store))[0] == 0
    assert results(work.store) == uninterrupted(work)


def test_a_full_queue_takes_what_fits_and_the_next_call_sends_the_rest(work: Work, cluster: Cluster) -> None:
    work.write({**LONG, **recipe(3), "members": 5})
    cluster.run("scontrol", "update", "PartitionName=main", "State=DOWN")  # none ends in between
    cluster.limit(MaxSubmitJobs=3)
    try:
        out = work.submit()
        assert "submitted 2 workers" in out
        assert "2 of 5 workers were accepted" in out
        assert "1 of 3 workers were accepted" in work.submit()
        code, out = work.call("submit", str(work.grid), "--site", str(work.folder / "site.yaml"), *work.at_store)
        assert code == 2
        assert "as many jobs as you may have are queued" in out
        cluster.limit(MaxSubmitJobs=-1)
        assert "submitted 2 workers" in work.submit()
    finally:
        cluster.limit(MaxSubmitJobs=-1)
        cluster.run("scontrol", "update", "PartitionName=main", "State=UP")
    assert len(work.tasks(cluster)) == 5
    cluster.wait(done(work), 120, "done")
    assert [len(work.sessions(run["id"])) for run in work.status()] == [1] * 5
    assert results(work.store) == uninterrupted(work)
