"""The private cluster is what tests of jobs take it for."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.configuration import SLURM

# All cores of a node, in the partition whose jobs make room for urgent ones.
WHOLE = ("--cpus-per-task=8", "--mem=1G")
SCAVENGE = ("--partition=scavenge",)

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("installed")]


def test_clients_find_the_cluster_by_the_environment(cluster: Cluster) -> None:
    shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=True).stdout
    assert f"SLURM_CONF              = {cluster.folder}/slurm.conf" in shown
    shown = cluster.run("sinfo", "--noheader", "--Node", "--partition=both", "--format=%N %G").splitlines()
    assert shown == ["n1 gpu:fake:2", "n2 gpu:fake:2"]


def test_a_step_on_two_nodes_has_two_host_names_and_two_scratch_folders(two_nodes: Cluster) -> None:
    line = f"hostname; touch {two_nodes.folder}/scratch/mine; ls {two_nodes.folder}/scratch | wc -l"
    shown = two_nodes.run("srun", "--partition=both", "--nodes=2", "--label", "sh", "-c", line)
    assert sorted(shown.splitlines()) == ["0: 1", "0: n1", "1: 1", "1: n2"]
    assert not (two_nodes.folder / "scratch" / "mine").exists()  # nor is it this machine's
    for node in ("n1", "n2"):
        (two_nodes.folder / f"scratch-{node}" / "mine").unlink()


def test_sacct_tells_what_squeue_does(cluster: Cluster) -> None:
    failed, well = cluster.submit("exit 3"), cluster.submit("exit 0")
    cluster.wait_for("FAILED", failed)
    cluster.wait_for("COMPLETED", well)
    expected = {failed: ("FAILED", "3:0"), well: ("COMPLETED", "0:0")}
    cluster.wait(lambda: cluster.accounted(failed, well) == expected, 10, "slurmdbd has both")


def test_limits_of_accounts_and_rules_of_a_partition_refuse_jobs(cluster: Cluster) -> None:
    cluster.limit(MaxSubmitJobs=2)
    try:
        refused = cluster.attempt("sbatch", "--array=0-2", "--wrap=true")
    finally:
        cluster.limit(MaxSubmitJobs=-1)
    assert "AssocMaxSubmitJobLimit" in refused.stderr
    refused = cluster.attempt("sbatch", "--partition=strict", "--mem=3G", "--wrap=true")
    assert "leave out --mem" in refused.stderr
    refused = cluster.attempt("sbatch", "--partition=strict", "--cpus-per-task=1", "--wrap=true")
    assert "leave out --cpus-per-task" in refused.stderr
    cluster.wait_for("COMPLETED", cluster.submit("true", "--partition=strict"))


@pytest.mark.slow
def test_an_urgent_job_preempts_with_a_warning_and_the_preempted_one_runs_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    script = (
        f"trap 'touch {tmp_path}/warned' TERM; touch {tmp_path}/$SLURM_RESTART_COUNT.begun; "
        f"while [ ! -e {tmp_path}/1.begun ]; do sleep 0.1; done"
    )
    modest = cluster.submit(f"export SLURM_RESTART_COUNT=${{SLURM_RESTART_COUNT:-0}}; {script}", *WHOLE, *SCAVENGE)
    cluster.wait((tmp_path / "0.begun").exists, 30, "it runs")
    urgent = cluster.submit("true", *WHOLE, "--partition=urgent")
    cluster.wait_for("COMPLETED", urgent, timeout=60)
    cluster.wait_for("COMPLETED", modest, timeout=60)
    assert (tmp_path / "1.begun").exists()
    assert (tmp_path / "warned").exists()


@pytest.mark.slow
def test_the_controller_and_the_daemon_of_accounts_can_go_and_come_back(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.submit(f"while [ ! -e {tmp_path}/end ]; do sleep 0.1; done")
    cluster.wait_for("RUNNING", job)
    cluster.stop_slurmctld()
    cluster.start_slurmctld()
    assert cluster.queue()[job] == "RUNNING"
    cluster.stop_slurmdbd()
    (tmp_path / "end").touch()
    cluster.wait_for("COMPLETED", job)
    assert cluster.attempt("sacct").returncode != 0
    cluster.start_slurmdbd()
    cluster.wait(lambda: cluster.accounted(job) == {job: ("COMPLETED", "0:0")}, 60, "the accounts catch up")


def test_a_job_sees_the_gpu_it_was_given(cluster: Cluster) -> None:
    job = cluster.submit("echo gpu $CUDA_VISIBLE_DEVICES", "--gpus-per-node=fake:2")
    cluster.wait_for("COMPLETED", job)
    assert cluster.output(job) == "gpu 0,1\n"


def test_a_failed_job_is_known_by_its_exit_code(cluster: Cluster) -> None:
    job = cluster.submit("exit 3", "--job-name=with a space")
    cluster.wait_for("FAILED", job)
    facts = cluster.job(job)
    assert (facts["JobName"], facts["JobState"], facts["ExitCode"]) == ("with a space", "FAILED", "3:0")


def test_an_array_runs_no_more_at_once_than_its_throttle(cluster: Cluster, tmp_path: Path) -> None:
    script = (  # the first one counts when it is not alone
        f"cd {tmp_path}; touch $SLURM_ARRAY_TASK_ID; "
        "until count=$(ls | wc -l); [ $SLURM_ARRAY_TASK_ID != 0 ] || [ $count -gt 1 ]; do sleep 0.1; done; "
        "echo $count; sleep 1; rm $SLURM_ARRAY_TASK_ID"
    )
    array = cluster.submit(script, "--array=0-4%2")
    elements = [f"{array}_{index}" for index in range(5)]
    cluster.wait_for("COMPLETED", *elements, timeout=60)
    counts = [int(cluster.output(element)) for element in elements]
    assert max(counts) == 2


@pytest.mark.slow
def test_a_job_outlives_the_daemon_of_its_node(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.submit(f"while [ ! -e {tmp_path}/end ]; do sleep 0.1; done")
    cluster.wait_for("RUNNING", job)
    cluster.stop_slurmd()
    cluster.start_slurmd()
    (tmp_path / "end").touch()
    cluster.wait_for("COMPLETED", job)


@pytest.mark.slow
def test_nothing_of_a_cluster_is_left() -> None:
    with Cluster() as own:
        job = own.submit("trap '' TERM; sleep 600 & wait; sleep 600")
        own.wait_for("RUNNING", job)
        own.wait(lambda: len(own.processes()) >= 9, 10, "the job's processes")  # 6 of daemons at least, and 3
        pids = own.processes()
    assert [pid for pid in pids if Path(f"/proc/{pid}/cwd").exists()] == []
    assert not own.folder.exists()
    assert os.getpid() not in pids


@pytest.mark.slow
def test_a_cluster_that_does_not_start_shows_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.slurm.cluster.SLURM", SLURM.replace("sched/backfill", "sched/no_such"))
    own = Cluster()
    with pytest.raises(RuntimeError, match=r"(?s)slurmctld.*ended.*no_such"), own:
        pass
    assert not own.folder.exists()
