"""The private cluster is what tests of jobs take it for."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("installed")]


def test_clients_find_the_cluster_by_the_environment(cluster: Cluster) -> None:
    shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=True).stdout
    assert f"SLURM_CONF              = {cluster.folder}/slurm.conf" in shown
    assert cluster.run("sinfo", "--noheader", "--format=%P %G").split() == [
        "main*",
        "gpu:fake:2",
        "short",
        "gpu:fake:2",
    ]


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
    script = (
        f"touch {tmp_path}/$SLURM_ARRAY_TASK_ID; ls {tmp_path} | wc -l; sleep 1; rm {tmp_path}/$SLURM_ARRAY_TASK_ID"
    )
    array = cluster.submit(script, "--array=0-4%2")
    elements = [f"{array}_{index}" for index in range(5)]
    cluster.wait_for("COMPLETED", *elements, timeout=60)
    counts = [int(cluster.output(element)) for element in elements]
    assert max(counts) == 2


def test_a_job_outlives_the_daemon_of_its_node(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.submit(f"while [ ! -e {tmp_path}/end ]; do sleep 0.1; done")
    cluster.wait_for("RUNNING", job)
    cluster.stop_slurmd()
    cluster.start_slurmd()
    (tmp_path / "end").touch()
    cluster.wait_for("COMPLETED", job)


def test_nothing_of_a_cluster_is_left() -> None:
    with Cluster() as own:
        job = own.submit("trap '' TERM; sleep 600 & wait; sleep 600")
        own.wait_for("RUNNING", job)
        own.wait(lambda: len(own.processes()) >= 7, 10, "the job's processes")  # 4 of daemons, slurmstepd, sh, sleep
        pids = own.processes()
    assert [pid for pid in pids if Path(f"/proc/{pid}/cwd").exists()] == []
    assert not own.folder.exists()
    assert os.getpid() not in pids


def test_a_cluster_that_does_not_start_shows_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.slurm.cluster.CONFIGURATION", "ClusterName=broken\nNoSuchKey=1\n")
    own = Cluster()
    with pytest.raises(RuntimeError, match=r"(?s)slurmctld.*ended.*NoSuchKey"), own:
        pass
    assert not own.folder.exists()
