"""Accidents of clusters, each on the private one: nothing is trained twice, nothing is lost, and no bit changes."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.store.lock import holder
from slurm import __main__ as command_line
from tests.slurm.cluster import Cluster
from tests.slurm.work import (
    DENSE,
    LONG,
    SLOW,
    WHOLE,
    Work,
    done,
    ended_with_work_left,
    recipe,
    results,
    same_as_uninterrupted,
    uninterrupted,
)

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("installed", "cluster")]

ROOT = Path(command_line.__file__).parent.parent


def test_a_worker_preempted_with_grace_comes_back_by_itself(work: Work, cluster: Cluster) -> None:
    work.write({**LONG, **recipe(12)}, site={"partition": "scavenge"})
    with work.slower():
        work.submit()
        cluster.wait(lambda: work.status()[0]["epoch"] > 0, 60, "an epoch")
        (task,) = work.tasks(cluster)
        urgent = cluster.submit("true", *WHOLE)
        cluster.wait(lambda: "back to the queue" in work.log(), 60, "it makes room")
    cluster.wait_for("COMPLETED", urgent, timeout=60)
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


def test_controller_and_accounts_go_and_come_back_while_workers_run(work: Work, cluster: Cluster) -> None:
    work.write({**LONG, **recipe(12), "members": 2})
    with work.slower():
        work.submit()
        cluster.wait(lambda: work.states() == ["running", "running"], 60, "running")
        cluster.stop_slurmdbd()
        cluster.stop_slurmctld()
        code, out = work.call("status", *work.at_store)
        assert code == 1
        assert "Whether anything more happens by itself is not known" in out
        cluster.start_slurmdbd()  # without which the controller does not start
        cluster.start_slurmctld()
    cluster.wait(done(work), 120, "done")
    same_as_uninterrupted(work, cluster, sessions=[1, 1])


def test_a_worker_killed_while_the_controller_is_away_comes_back_with_it(work: Work, cluster: Cluster) -> None:
    work.write({**LONG, **recipe(12)})
    with work.slower():
        work.submit("--checkpoint-seconds", "1")
        cluster.wait(lambda: bool(work.checkpoints()), 60, "a checkpoint")
        (run,) = work.status()
        cluster.stop_slurmctld()
        os.kill(holder(work.store / "runs" / run["id"] / "lock")["pid"], signal.SIGKILL)
    cluster.wait(lambda: "a process was killed" in work.log(), 60, "the shell of the job asks")
    cluster.start_slurmctld()
    cluster.wait(done(work), 180, "done")
    assert "not put back" not in work.log()
    same_as_uninterrupted(work, cluster, sessions=[2])


def test_a_drained_node_ends_its_worker_s_work_and_takes_no_other(work: Work, cluster: Cluster) -> None:
    work.write({**LONG, **recipe(8), "members": 2}, site={"partition": "both", "max_jobs": 1})
    work.submit()
    cluster.wait(lambda: "running" in work.states(), 60, "running")
    (task,) = work.tasks(cluster)
    node = cluster.job(task)["NodeList"]  # also between its two runs
    cluster.run("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    try:
        other = cluster.submit("hostname", "--partition=both", "--no-requeue")
        cluster.wait_for("COMPLETED", other)
        assert cluster.output(other).strip() != node
        cluster.wait(done(work), 120, "done, as a drained node ends what it has")
    finally:
        cluster.run("scontrol", "update", f"NodeName={node}", "State=RESUME")
    same_as_uninterrupted(work, cluster, sessions=[1, 1])


def test_an_array_cancelled_in_part_leaves_its_work_to_the_others(work: Work, cluster: Cluster) -> None:
    work.write({**LONG, **recipe(12), "members": 2})
    with work.slower():
        work.submit("--checkpoint-seconds", "1")
        cluster.wait(lambda: len(work.checkpoints()) == 2, 60, "checkpoints")
        cancelled, other = (work.trainer(run["id"]) for run in work.status())
        cluster.run("scancel", cancelled)
        cluster.wait(lambda: work.tasks(cluster)[cancelled] == "CANCELLED", 60, "cancelled")
    cluster.wait(done(work), 120, "the other does both")
    first, second = work.sessions(work.status()[0]["id"])
    assert (first["job"], second["job"]) == (cancelled, other)
    assert second["resumed_from"] is not None
    cluster.wait(lambda: cluster.accounted(cancelled)[cancelled][0] == "CANCELLED", 30, "sacct says so")
    same_as_uninterrupted(work, cluster, sessions=[2, 1])


def test_a_submission_from_inside_a_job_is_as_any_other(work: Work, cluster: Cluster) -> None:
    work.write({**DENSE, "members": 2}, site={"max_jobs": 2})
    words = [sys.executable, "-m", "slurm", "submit", work.grid, "--site", work.folder / "site.yaml", *work.at_store]
    script = f"cd {ROOT} && {shlex.join(map(str, words))}"
    job = cluster.submit(script, "--cpus-per-task=3", "--mem=2G", "--export=ALL")
    cluster.wait_for("COMPLETED", job, timeout=90)
    assert "submitted 2 workers" in cluster.output(job)
    cluster.wait(done(work), 120, "done")
    same_as_uninterrupted(work, cluster, sessions=[1, 1])


def test_a_grid_submitted_from_two_shells_at_once_gets_the_workers_of_one(work: Work, cluster: Cluster) -> None:
    work.write({**DENSE, "members": 3, "model": SLOW})
    words = [sys.executable, "-m", "slurm", "submit", work.grid, "--site", work.folder / "site.yaml", *work.at_store]
    shells = [
        subprocess.Popen(list(map(str, words)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    ended = [(shell.communicate(timeout=120)[0], shell.returncode) for shell in shells]
    submitted = [out for out, code in ended if code == 0 and "submitted 3 workers" in out]
    assert len(submitted) == 1, ended
    ((out, code),) = [(out, code) for out, code in ended if out not in submitted]
    assert (code, "Nothing to submit." in out, "another submission" in out) in ((0, True, False), (2, False, True))
    assert len(work.tasks(cluster)) == 3
    cluster.wait(done(work), 120, "done")
    same_as_uninterrupted(work, cluster, sessions=[1, 1, 1])


def test_without_scontrol_on_the_node_a_worker_near_its_limit_says_what_goes_on(work: Work, cluster: Cluster) -> None:
    programs = work.folder / "programs"
    programs.mkdir()
    for name in ("srun", "bash", "sh", "env", "uname", "cat"):
        (programs / name).symlink_to(str(shutil.which(name)))
    work.write({**LONG, **recipe(12)}, site={"setup": [f"export PATH='{programs}'"]})
    with work.slower():
        work.submit()
        cluster.wait(lambda: work.status()[0]["epoch"] > 0, 60, "an epoch")
        (task,) = work.tasks(cluster)
        cluster.run("scancel", "--signal=USR2", f"{task}.0")
    ended_with_work_left(work, cluster, task, "76:0")
    assert "not put back into the queue; `python -m slurm submit` goes on with its work" in work.log()
    work.submit()
    cluster.wait(done(work), 120, "done")
    same_as_uninterrupted(work, cluster, sessions=[2])
