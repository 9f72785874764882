"""Nodes that die or disagree, on the private cluster: no work and no bit is lost."""

import json
import time

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.faults import WRONG_CLOCK, plant
from tests.slurm.work import LONG, Work, done, recipe, results, same_as_uninterrupted

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("installed", "cluster")]


def test_a_node_whose_clock_is_three_minutes_ahead_leaves_its_run_to_another(work: Work, two_nodes: Cluster) -> None:
    plant(work.folder, WRONG_CLOCK)
    # A worker for each node; one that is killed does not come back.
    work.write({**LONG, **recipe(8), "members": 2}, site={"partition": "both", "gpus": 2, "requeue": False})
    with work.slower():
        work.submit("--checkpoint-seconds", "1")
        two_nodes.wait(lambda: len(work.checkpoints()) == 2, 120, "checkpoints")
        hosts = {str(run["host"]): run["id"] for run in work.status() if run["state"] == "running"}
        assert set(hosts) == {"n1", "n2"}
        ahead = hosts["n2"]
        lock = json.loads((work.store / "runs" / ahead / "lock").read_text())
        assert 120 < lock["heartbeat"] - time.time() < 200
        task = work.trainer(ahead)
        # Before its first heartbeat, 15 s after it began: one that moved between two looks would be taken for alive.
        two_nodes.run("scancel", "--signal=KILL", f"{task}.0")  # its lock stays, its last heartbeat is in the future
    two_nodes.wait(lambda: work.tasks(two_nodes)[task] == "FAILED", 60, "killed")
    two_nodes.wait(done(work), 240, "the other waits until the lock has not moved for two minutes, and does both")
    _, after = work.sessions(ahead)
    assert after["host"] == "n1"
    assert after["resumed_from"] is not None
    assert "taking over a stale lock" in work.log()
    same_as_uninterrupted(work, two_nodes, sessions=[2 if run["id"] == ahead else 1 for run in work.status()])


def test_four_processes_on_two_nodes_of_which_one_dies_go_on_when_it_is_back(work: Work, two_nodes: Cluster) -> None:
    site = {"partition": "both", "processes": 4, "nodes": 2, "gpus": 0, "setup": ["export GLOO_SOCKET_IFNAME=lo"]}
    work.write({**LONG, **recipe(20)}, site=site)
    work.submit("--checkpoint-seconds", "1")
    two_nodes.wait(lambda: bool(work.checkpoints()), 180, "a checkpoint")
    (task,) = work.tasks(two_nodes)
    two_nodes.crash_node("n2")
    two_nodes.run("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test")
    two_nodes.wait(lambda: work.tasks(two_nodes)[task] in ("PENDING", "FAILED"), 60, "the node is missed")
    two_nodes.start_slurmd("n2", resume=True)
    two_nodes.wait(done(work), 240, "done")
    assert list(work.tasks(two_nodes)) == [task]  # it came back by itself
    (run,) = work.status()
    first, second = work.sessions(run["id"])
    assert (first["processes"], second["processes"]) == (4, 4)
    assert second["resumed_from"] is not None
    two_nodes.wait(lambda: two_nodes.accounted(task) == {task: ("COMPLETED", "0:0")}, 60, "sacct says the same")
    code, out = work.call("status", *work.at_store)
    assert (code, out.splitlines()[-1]) == (0, "All is done: nothing more happens by itself.")
    interrupted = results(work.store)
    work.store = work.folder / "whole"
    work.submit("--checkpoint-seconds", "1")
    two_nodes.wait(done(work), 240, "done without an accident")
    assert len(work.sessions(run["id"])) == 1
    assert results(work.store) == interrupted
