"""A grid, a site and a store in a folder, for commands against the private cluster, and what becomes of them.

Small runs on digits; "the same bits" compares with `bench run` in a store of its own, with as many threads.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.store.logits import StoredLogits, ticket_checksums
from bench.store.store import Store
from slurm import __main__ as command_line
from slurm.records import SubmissionFolder, submissions
from tests.slurm.cluster import Cluster

# A site's partition is SLURM's; its GPU is one of those the cluster pretends to have.
SITE = {"partition": "main", "gpus": 1, "device": "cpu", "cpus": 1, "signal": "30s", "max_jobs": 8}
# All of a node: whoever is to run beside it has to take its place.
WHOLE = ("--partition=urgent", "--cpus-per-task=8", "--mem=1G")
# Ten steps an epoch: what a run computes is little, and what it waits makes it long enough to be interrupted.
DATA = {"name": "digits", "train_images": 320, "validation_images": 64, "test_images": 64}
BASE = {"data": DATA, "batch_size": 32}
MODEL = {"name": "wide_resnet", "depth": 10, "width": 1}
DENSE = {"name": "dense", "method": "dense", "recipe": {"epochs": 3}}
PF = {
    "name": "PF",
    "method": "prune_finetune",
    "members": 1,
    "sparsity": 0.8,
    "recipe": {"dense_epochs": 3, "epochs": 2},
}
# Networks in a module beside the grid. In a job `slow` takes its time, a second an epoch (five while a file is there),
# and computes the same as elsewhere; `fragile` cannot be built in a job before another file is there.
MODULE = "cluster_networks"
FLAG, SLOWER = "flag", "slower"
NETWORKS = """
import os
import time

from torch import nn


class Slow(nn.Sequential):
    def forward(self, x):
        if "SLURM_JOB_ID" in os.environ and self.training:
            time.sleep(0.5 if os.path.exists({slower!r}) else 0.08)
        return super().forward(x)


def slow(classes: int):
    layers = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    return Slow(*layers, nn.Linear(64, classes))


def fragile(classes: int):
    if "SLURM_JOB_ID" in os.environ and not os.path.exists({flag!r}):
        raise RuntimeError("first line\\nthe flag is not there")
    return slow(classes)
"""
SLOW = {"name": f"{MODULE}:slow"}
LONG = {"name": "long", "method": "dst", "members": 1, "sparsity": 0.8, "model": SLOW}


def recipe(epochs: int, update_every: int = 20) -> dict[str, Any]:
    return {"recipe": {"epochs": epochs, "update_every": update_every, "growth": "gradient"}}


# What `bench run` made of a grid, by the grid's text and the options.
_uninterrupted: dict[tuple[str, tuple[str, ...]], dict[str, dict[str, str]]] = {}


class Work:
    """A folder with a grid, a site and a store, and the commands on them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.store = folder / "results"
        self.grid = folder / "grid.yaml"

    def write(
        self, *cells: dict[str, Any], replicates: int = 1, site: dict[str, Any] | None = None, **rest: Any
    ) -> None:
        grid = {"replicates": replicates, "base": BASE, "cells": [{"model": MODEL, **cell} for cell in cells], **rest}
        self.grid.write_text(yaml.safe_dump(grid))
        (self.folder / "site.yaml").write_text(yaml.safe_dump({**SITE, **(site or {})}))

    def call(self, *arguments: str) -> tuple[int, str]:
        """Return exit code and output of a command."""
        code = 0
        try:
            command_line.main(list(arguments))
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = self._capsys.readouterr()
        return code, out + err

    @contextmanager
    def slower(self) -> Iterator[None]:
        """Let an epoch of `slow` take five seconds: no run ends before a test has done what takes a while."""
        file = self.folder / SLOWER
        file.touch()
        try:
            yield
        finally:
            file.unlink()

    @property
    def at_store(self) -> tuple[str, str]:
        """The option that names the store."""
        return "--store", str(self.store)

    def submit(self, *options: str) -> str:
        site = str(self.folder / "site.yaml")
        code, out = self.call("submit", str(self.grid), "--site", site, "--store", str(self.store), *options)
        assert code == 0, out
        return out

    def status(self) -> list[dict[str, Any]]:
        _, out = self.call("status", "--store", str(self.store), "--json")
        runs: list[dict[str, Any]] = json.loads(out)["runs"]
        return runs

    def states(self) -> list[str]:
        return [run["state"] for run in self.status()]

    def submissions(self) -> list[SubmissionFolder]:
        return submissions(Store(self.store))

    def tasks(self, cluster: Cluster) -> dict[str, str]:
        """Return the state of each array task that SLURM still knows of, ended ones too."""
        names = {folder.submission.name for folder in self.submissions()}
        lines = cluster.run(
            "squeue", "--all", "--array", "--noheader", "--states=all", "--format=%i|%T|%j"
        ).splitlines()
        fields = [line.split("|", 2) for line in lines]
        return {task: state for task, state, name in fields if name in names}

    def trainer(self, run: str) -> str:
        """Return the array task that works on a run, or did last."""
        return str(self.sessions(run)[-1]["job"])

    def sessions(self, run: str) -> list[dict[str, Any]]:
        path = self.store / "runs" / run / "provenance.json"
        sessions: list[dict[str, Any]] = json.loads(path.read_text())["sessions"]
        return sessions

    def checkpoints(self) -> list[Path]:
        return list(self.store.glob("runs/*/checkpoint.pt"))

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.store.glob("slurm/*/*_log.out")))


def done(work: Work) -> Callable[[], bool]:
    """Whether every run is trained, and evaluated."""
    return lambda: all(run["state"] == "done" and run["sets"] == run["sets_asked"] for run in work.status())


def results(store: Path) -> dict[str, dict[str, str]]:
    """Return by run what its tickets and logits are, as their checksums."""
    found = {}
    for path in store.glob("runs/*/result.json"):
        folder = Store(store).run(path.parent.name)
        logits = {name: record.sha256 for name, record in StoredLogits.of_run(folder).records().items()}
        found[folder.path.name] = {**ticket_checksums(folder), **logits}
    return found


def uninterrupted(work: Work, *options: str) -> dict[str, dict[str, str]]:
    """Return what `bench run` makes of the grid with one thread; tests that share a grid train it once."""
    grid = work.grid.read_text(), options
    if grid in _uninterrupted:
        return _uninterrupted[grid]
    store = work.folder / "uninterrupted"
    command = [sys.executable, "-m", "bench", "run", str(work.grid), "--store", str(store), "--device", "cpu", *options]
    root = Path(command_line.__file__).parent.parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)
    _uninterrupted[grid] = results(store)
    return _uninterrupted[grid]


def ended_with_work_left(work: Work, cluster: Cluster, task: str, exit_code: str) -> None:
    """Wait until a worker has ended with an exit code, of which SLURM and `status` say the same: nobody goes on."""
    cluster.wait(lambda: cluster.accounted(task) == {task: ("FAILED", exit_code)}, 90, f"it ends with {exit_code}")
    cluster.wait(lambda: work.tasks(cluster)[task] == "FAILED", 30, "its job has completed, too")
    code, out = work.call("status", *work.at_store)
    assert code == 1
    assert out.splitlines()[-1].startswith("Work is left and no worker is queued or running")


def same_as_uninterrupted(work: Work, cluster: Cluster, *options: str, sessions: list[int]) -> None:
    """Hold what became of an accident to its promises: sessions of each run, workers, last line of status, bits."""
    assert [len(work.sessions(run["id"])) for run in work.status()] == sessions
    ended = {"COMPLETED", "CANCELLED", "FAILED"}
    cluster.wait(lambda: set(work.tasks(cluster).values()) <= ended, 60, "no worker is left")
    code, out = work.call("status", *work.at_store)
    assert code == 0, out
    assert out.splitlines()[-1] == "All is done: nothing more happens by itself."
    states = work.tasks(cluster)
    cluster.wait(lambda: {t: s for t, (s, _) in cluster.accounted(*states).items()} == states, 60, "sacct agrees")
    assert results(work.store) == uninterrupted(work, *options)
