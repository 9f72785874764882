"""Grids on a real cluster, from submission to report: everything that only SLURM itself can show.

Small runs on digits; "the same bits" compares with `bench run` in a store of its own, with as many threads.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from analysis.__main__ import main as analysis
from bench.store.logits import StoredLogits
from bench.store.store import Store
from slurm import __main__ as command_line
from tests.data.streamed.photographs import write_imagenet
from tests.slurm.cluster import Cluster
from tests.slurm.work import DENSE, FLAG, LONG, MODEL, MODULE, PF, SLOW, Work, done, recipe, results, uninterrupted

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("installed", "cluster")]


def test_a_grid_from_submission_to_its_report(work: Work, cluster: Cluster) -> None:
    sparse = {"members": 2, "sparsity": 0.8}
    work.write(
        {**DENSE, "name": "dense ensemble", "members": 2},
        {**PF, "members": 2},
        {
            "name": "EDST",
            "method": "edst",
            **sparse,
            "recipe": {"exploration_epochs": 2, "refinement_epochs": 2, "update_every": 5},
        },
        evaluations={"local_c": {"types": ["fog"], "severities": [3]}, "fgsm": {"budgets": [8], "images": 50}},
        site={"max_jobs": 2},
    )
    work.submit()
    assert "Nothing to submit." in work.submit()
    assert len(work.tasks(cluster)) == 2
    cluster.wait(done(work), 240, "all done")
    cluster.wait(lambda: set(work.tasks(cluster).values()) == {"COMPLETED"}, 90, "workers end, SLURM agrees")
    code, shown = work.call("status", "--store", str(work.store))
    assert code == 0, shown
    assert all(run["sets"] == run["sets_asked"] for run in work.status())
    assert "Nothing to submit." in work.submit()
    assert results(work.store) == uninterrupted(work)
    assert all(len(work.sessions(run["id"])) == 1 for run in work.status()), "nothing is trained twice"
    for run in work.status():
        spec = yaml.safe_load((work.store / "runs" / run["id"] / "spec.yaml").read_text())
        if spec["parent"] is not None:
            parent = Store(work.store).run(run["id"]).result().parent
            assert work.sessions(run["id"])[0]["started"] >= work.sessions(str(parent))[0]["ended"]
    assert list(work.store.glob("ensembles/*/logits/fgsm-50-images/8.safetensors"))
    report = work.folder / "report"
    with pytest.raises(SystemExit) as ended:
        analysis(["report", str(work.grid), "--store", str(work.store), "--out", str(report)])
    assert not ended.value.code
    assert (report / "index.html").is_file()


def test_workers_out_of_time_requeued_killed_or_cancelled_cost_no_bit(work: Work, cluster: Cluster) -> None:
    """A worker each: near its limit, requeued by SLURM, killed with SIGKILL, and cancelled."""
    work.write({**LONG, **recipe(30), "members": 4}, site={"gpus": 0})
    with work.slower():
        work.submit("--checkpoint-seconds", "1")
        cluster.wait(lambda: len(work.checkpoints()) == 4, 90, "checkpoints")
        runs = [run["id"] for run in work.status()]
        limited, requeued, killed, cancelled = (work.trainer(run) for run in runs)
        # SLURM looks each 30 s whose limit is near: it is to warn before the limit is over.
        minutes = (cluster.seconds(limited) + 40) // 60 + 1
        cluster.run("scontrol", "update", f"JobId={limited}", f"TimeLimit={minutes}")
        cluster.run("scontrol", "requeue", requeued)
        cluster.run("scancel", "--signal=KILL", f"{killed}.0")
        cluster.run("scancel", cancelled)
        cluster.wait(lambda: "back to the queue: a process was killed" in work.log(), 60, "killed")
        cluster.wait(lambda: work.tasks(cluster)[cancelled] == "CANCELLED", 60, "cancelled")
        out = work.submit("--checkpoint-seconds", "1")
        assert "submitted 1 worker" in out  # in place of the cancelled one; the others come back
        cluster.wait(
            lambda: "back to the queue: the next" in work.log(), 120, "the signal ahead of the limit, and the requeue"
        )
    cluster.run("scontrol", "update", f"JobId={limited}", "TimeLimit=60")
    cluster.wait(done(work), 240, "all done")
    for run in runs:
        sessions = work.sessions(run)
        assert len(sessions) >= 2
        assert all(session["resumed_from"] is not None for session in sessions[1:])
    assert results(work.store) == uninterrupted(work)


@pytest.mark.slow
def test_a_run_goes_on_by_itself_after_its_node_crashed(work: Work, cluster: Cluster) -> None:
    work.write({**LONG, **recipe(25)})
    work.submit("--checkpoint-seconds", "1")
    cluster.wait(lambda: bool(work.checkpoints()), 60, "a checkpoint")
    (task,) = work.tasks(cluster)
    cluster.crash_node()
    cluster.wait(lambda: work.tasks(cluster)[task] == "PENDING", 60, "the node is missed")
    cluster.start_slurmd()
    cluster.wait(done(work), 120, "done")
    (run,) = work.status()
    assert [session["resumed_from"] is None for session in work.sessions(run["id"])] == [True, False]
    assert results(work.store) == uninterrupted(work)


@pytest.mark.slow
def test_a_worker_outlives_the_daemon_of_its_node(work: Work, cluster: Cluster) -> None:
    work.write({**LONG, **recipe(8)})
    with work.slower():
        work.submit()
        cluster.wait(lambda: work.states() == ["running"], 60, "running")
        cluster.stop_slurmd()
        cluster.start_slurmd()
    cluster.wait(done(work), 90, "done")
    (run,) = work.status()
    assert len(work.sessions(run["id"])) == 1


def test_a_failed_run_is_reported_blocks_its_child_and_retry_makes_both(work: Work, cluster: Cluster) -> None:
    net = {"model": {"name": f"{MODULE}:fragile"}}
    work.write({**DENSE, **net}, {**PF, **net})
    work.submit()
    cluster.wait(lambda: work.states() == ["failed", "blocked"], 60, "failed and blocked")
    cluster.wait(lambda: set(work.tasks(cluster).values()) == {"COMPLETED"}, 60, "no worker waits for nothing")
    parent = work.status()[0]
    assert parent["reason"].endswith("the flag is not there")
    assert len(work.sessions(parent["id"])) == 1, "one worker of two that begin at once trained it"
    code, shown = work.call("status", "--store", str(work.store))
    assert code == 1
    assert "the flag is not there" in shown
    code, log = work.call("logs", parent["id"][:8], "--store", str(work.store))
    assert code == 0
    assert "the flag is not there" in log
    (work.folder / FLAG).touch()
    assert "Nothing to submit." in work.submit()
    out = work.submit("--retry")
    assert "submitted" in out
    cluster.wait(done(work), 90, "both done")
    assert work.call("status", "--store", str(work.store))[0] == 0


def test_cancel_ends_all_workers_with_checkpoints_and_submit_continues(work: Work, cluster: Cluster) -> None:
    work.write({**LONG, **recipe(8), "members": 2})
    with work.slower():
        work.submit()
        cluster.wait(lambda: all(run["epoch"] > 0 for run in work.status()), 90, "both trained an epoch")
        code, out = work.call("cancel", "grid", "--store", str(work.store), "--yes")
        assert code == 0, out
        assert "cancelled 2 workers" in out
        cluster.wait(lambda: set(work.tasks(cluster).values()) == {"CANCELLED"}, 60, "cancelled")
    assert len(work.checkpoints()) == 2
    code, out = work.call("status", "--store", str(work.store))
    assert code == 1
    assert "Work is left and no worker is queued or running" in out
    work.submit()
    cluster.wait(done(work), 120, "both done")
    for run in work.status():
        assert work.sessions(run["id"])[1]["resumed_from"] is not None


@pytest.mark.slow
def test_a_submission_cut_short_is_found_again(work: Work, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    class CutShort(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise CutShort

    work.write({**DENSE, "members": 2, "model": SLOW})
    with monkeypatch.context() as patch:
        patch.setattr("submitit.core.utils.JobPaths.move_temporary_file", die)  # what submitit does after sbatch
        with pytest.raises(CutShort):
            work.submit()
    assert "Nothing to submit." in work.submit()
    cluster.wait(lambda: set(work.tasks(cluster).values()) == {"FAILED"}, 90, "gave up")
    work.submit()
    cluster.wait(done(work), 90, "done")
    assert [len(work.sessions(run["id"])) for run in work.status()] == [1, 1]


@pytest.mark.slow
def test_a_run_trained_elsewhere_meanwhile_is_not_trained_twice(work: Work, cluster: Cluster) -> None:
    work.write({**DENSE, "members": 2, "model": SLOW}, site={"max_jobs": 1})
    cluster.run("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        work.submit()
        command = [sys.executable, "-m", "bench", "run", str(work.grid), "--store", str(work.store), "--device", "cpu"]
        subprocess.run(command, cwd=Path(command_line.__file__).parent.parent, check=True, capture_output=True)
        assert set(work.states()) == {"done"}
    finally:
        cluster.run("scontrol", "update", "PartitionName=main", "State=UP")
    cluster.wait(lambda: set(work.tasks(cluster).values()) == {"COMPLETED"}, 60, "completed at once")
    assert [len(work.sessions(run["id"])) for run in work.status()] == [1, 1]


@pytest.mark.slow
def test_two_processes_train_one_run_to_the_same_numbers(work: Work, cluster: Cluster) -> None:
    # Few steps: rounding, which differs as it does with the number of threads, has no time to grow.
    work.write(
        {**LONG, "data": "digits", "model": MODEL, "batch_size": 512, **recipe(3, update_every=4)},
        site={"processes": 2},
    )
    work.submit()
    cluster.wait(done(work), 120, "done")
    (run,) = work.status()
    together = Store(work.store).run(run["id"])
    assert together.result().processes == 2
    assert together.result().batch_size == 512
    cluster.wait(lambda: set(work.tasks(cluster).values()) == {"COMPLETED"}, 60, "completed")
    uninterrupted(work)
    alone = Store(work.folder / "uninterrupted").run(run["id"])
    masks, others = alone.masks(0), together.masks(0)
    same = np.concatenate([(masks[name] == others[name]).ravel() for name in masks]).mean()
    ours, theirs = (StoredLogits.of_run(folder).logits("test")[0] for folder in (alone, together))
    np.testing.assert_allclose(ours, theirs, atol=1e-2)
    assert same > 0.999


@pytest.mark.slow
def test_two_processes_on_streamed_images_requeued_within_an_epoch_cost_no_bit(work: Work, cluster: Cluster) -> None:
    """And the processes that decode for them end with them."""
    write_imagenet(work.folder / "images")
    data = {"name": "imagenet", "image_size": 32, "train_images": 100, "validation_images": 20, "test_images": 12}
    steps = {"exploration_epochs": 8, "refinement_epochs": 8, "update_every": 4}
    edst = {"name": "EDST", "method": "edst", "members": 2, "sparsity": 0.8, "recipe": steps}
    work.write({**edst, "data": data, "batch_size": 10}, site={"processes": 2, "cpus": 1})
    options = ("--data", str(work.folder / "images"), "--checkpoint-seconds", "0")
    work.submit(*options)
    cluster.wait(lambda: bool(work.checkpoints()), 90, "a checkpoint")
    (task,) = work.tasks(cluster)
    cluster.run("scontrol", "requeue", task)
    cluster.wait(done(work), 240, "done")
    (run,) = work.status()
    first, second, *_ = work.sessions(run["id"])
    assert (first["processes"], second["processes"]) == (2, 2)
    assert second["resumed_from"]["step"] > 0 or second["resumed_from"]["epoch"] > 1
    cluster.wait(lambda: set(work.tasks(cluster).values()) == {"COMPLETED"}, 60, "completed")
    interrupted = results(work.store)
    work.store = work.folder / "whole"
    work.submit(*options)
    cluster.wait(done(work), 240, "done without interruption")
    assert len(work.sessions(run["id"])) == 1
    assert results(work.store) == interrupted


def test_what_sbatch_refuses_is_one_clear_line(work: Work) -> None:
    work.write(DENSE, site={"partition": "mian"})
    site = str(work.folder / "site.yaml")
    code, out = work.call("submit", str(work.grid), "--site", site, "--store", str(work.store))
    assert code == 2
    assert "did you mean 'main'?" in out
    assert "Traceback" not in out
    work.write(DENSE, site={"gpus": 9})
    code, out = work.call("submit", str(work.grid), "--site", site, "--store", str(work.store))
    assert code == 2
    assert "Requested node configuration is not available" in out
    assert work.submissions() == []
