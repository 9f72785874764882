"""Signals, preemption and short walltimes at bad moments, on the private cluster: no work and no bit is lost."""

import time

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.faults import HELD_WRITES, plant
from tests.slurm.work import LONG, WHOLE, Work, done, recipe, same_as_uninterrupted

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("installed", "cluster")]


@pytest.mark.parametrize("moment", ["writing", "evaluating"])
def test_a_worker_preempted_at_a_bad_moment_comes_back_by_itself(work: Work, cluster: Cluster, moment: str) -> None:
    """While it writes a checkpoint, and in the middle of an evaluation."""
    plant(work.folder, HELD_WRITES)
    other = "evaluating" if moment == "writing" else "writing"
    (work.folder / f"go {other}").touch()
    work.write({**LONG, **recipe(8)}, site={"partition": "scavenge"})
    work.submit(*(("--checkpoint-seconds", "2") if moment == "writing" else ()))
    cluster.wait((work.folder / moment).exists, 120, moment)
    (task,) = work.tasks(cluster)
    urgent = cluster.submit("true", *WHOLE)
    cluster.wait(lambda: cluster.job(task).get("PreemptTime", "None") not in ("None", "N/A"), 60, "it is warned")
    time.sleep(0.5)
    (work.folder / f"go {moment}").touch()
    cluster.wait_for("COMPLETED", urgent, timeout=90)
    cluster.wait(done(work), 240, "done")
    assert "back to the queue" in work.log()
    assert list(work.tasks(cluster)) == [task]
    cluster.wait(lambda: cluster.accounted(task) == {task: ("COMPLETED", "0:0")}, 90, "sacct says the same")
    run = work.status()[0]["id"]
    if moment == "writing":
        assert all(session["resumed_from"] is not None for session in work.sessions(run)[1:])
    assert not list(work.store.glob("runs/*/.tmp-*"))
    same_as_uninterrupted(work, cluster, sessions=[2 if moment == "writing" else 1])


def test_a_walltime_shorter_than_an_epoch_is_carried_over_by_checkpoints_within_it(
    work: Work, cluster: Cluster
) -> None:
    work.write({**LONG, **recipe(3), "batch_size": 4})  # 80 steps an epoch
    work.submit("--checkpoint-seconds", "1")
    warned_after_a_checkpoint(work, cluster, saved(work), times=1)
    warned_after_a_checkpoint(work, cluster, saved(work), times=2)
    cluster.wait(done(work), 240, "done")
    first, second, third = work.sessions(work.status()[0]["id"])
    assert first["resumed_from"] is None
    assert second["resumed_from"]["step"] > 0  # within the first epoch
    assert (third["resumed_from"]["epoch"], third["resumed_from"]["step"]) > (
        second["resumed_from"]["epoch"],
        second["resumed_from"]["step"],
    )
    same_as_uninterrupted(work, cluster, sessions=[3])


def warned_after_a_checkpoint(work: Work, cluster: Cluster, before: int, *, times: int) -> None:
    """Send what SLURM sends ahead of the limit, once there is another checkpoint than before."""
    (task,) = work.tasks(cluster)
    cluster.wait(lambda: saved(work) > before, 120, "another checkpoint")
    cluster.run("scancel", "--signal=USR2", f"{task}.0")
    cluster.wait(lambda: work.log().count("back to the queue") == times, 90, "back to the queue")


def saved(work: Work) -> int:
    """Return when the newest checkpoint was written, 0 without any."""
    return max((path.stat().st_mtime_ns for path in work.checkpoints()), default=0)
