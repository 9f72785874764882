"""A run killed anywhere, by anything, ends with the bits of one that was never interrupted (CPU, float32)."""

import json
import logging
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.store.store import Store
from bench.work.signals import EXIT_INTERRUPTED
from tests.training.runs import SPECS, do, outcome, with_parent

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Uninterrupted:
    """What each run comes to without any interruption: trained once, when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._store, self._outcomes = folder, dict[str, dict[str, Any]]()

    def __getitem__(self, name: str) -> dict[str, Any]:
        if name not in self._outcomes:
            spec = SPECS[name]()
            assert do(with_parent(spec), Store(self._store)) == 0
            self._outcomes[name] = outcome(self._store, spec)
        return self._outcomes[name]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    return Uninterrupted(tmp_path_factory.mktemp("uninterrupted"))


def start(store: Path, name: str, where: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.training.victim", str(store), name, where], cwd=ROOT)


def finish(store: Path, name: str) -> dict[str, Any]:
    """Run again in this process, saving at every step, and return what came out."""
    spec = SPECS[name]()
    assert do(with_parent(spec), Store(store), checkpoint_seconds=0.0) == 0
    return outcome(store, spec)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        pytest.param("edst released", "step:5", id="exploration"),
        pytest.param(
            "edst released", "step:12", id="rewiring step that ends an epoch and a phase", marks=pytest.mark.long
        ),
        pytest.param("edst standard", "step:20", id="step before a global exploration"),
        pytest.param("edst random", "step:24", id="rewiring step in a refinement", marks=pytest.mark.long),
        pytest.param("gradual pruning", "step:9", id="pruning step"),
        pytest.param("acdc", "step:8", id="step before all weights become active again", marks=pytest.mark.long),
        pytest.param("acdc", "step:10", id="dense phase after a sparse one"),
        pytest.param("mc dropout", "step:6", id="dropout", marks=pytest.mark.long),
        pytest.param("mimo snapshots", "step:6", id="second cycle of several inputs an image", marks=pytest.mark.long),
        pytest.param("batch ensemble", "step:5", id="weights of two learning rates", marks=pytest.mark.long),
        pytest.param("own network that draws", "step:6", id="draws from every global generator"),
        pytest.param("rewinding", "step:3", id="early step of the parent, and then of the child"),
        pytest.param("edst standard", "write:11", id="half a checkpoint"),
        pytest.param("edst released", "rename:25", id="between two files", marks=pytest.mark.long),
    ],
)
def test_sigkill_costs_no_bit(name: str, where: str, tmp_path: Path, uninterrupted: Uninterrupted) -> None:
    victim = start(tmp_path, name, where)
    assert victim.wait(600) == -signal.SIGKILL
    assert Store(tmp_path).run(SPECS[name]().run_id).status() == "missing"
    assert finish(tmp_path, name) == uninterrupted[name]


@pytest.mark.long
def test_kills_at_random_moments_cost_no_bit(tmp_path: Path, uninterrupted: Uninterrupted) -> None:
    name, chance = "edst released", random.Random(0)
    spec = SPECS[name]()
    checkpoint = Store(tmp_path).run(spec.run_id).path / "checkpoint.pt"
    kills = 0
    for _ in range(2):
        victim = start(tmp_path, name, "never")
        seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while victim.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == seen):
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.5))
        victim.kill()
        kills += victim.wait(300) == -signal.SIGKILL
    assert kills, "every victim finished before it was killed: the run is too short for this test"
    assert finish(tmp_path, name) == uninterrupted[name]


@pytest.mark.parametrize(
    "number", ["SIGTERM", *(pytest.param(name, marks=pytest.mark.long) for name in ("SIGUSR1", "SIGHUP"))]
)
def test_a_polite_signal_saves_the_step_and_exits_with_75(
    number: str, tmp_path: Path, uninterrupted: Uninterrupted
) -> None:
    name = "edst standard"
    victim = start(tmp_path, name, f"signal:{number}:14")
    assert victim.wait(600) == EXIT_INTERRUPTED
    folder = Store(tmp_path).run(SPECS[name]().run_id)
    state = torch.load(folder.path / "checkpoint.pt", weights_only=True)
    assert state["at"]["steps"] == 14
    assert not (folder.path / "lock").exists()
    assert finish(tmp_path, name) == uninterrupted[name]
    sessions = json.loads((folder.path / "provenance.json").read_text())["sessions"]
    assert [session["resumed_from"] for session in sessions] == [None, {"epoch": 4, "step": 2}]
    assert all(session["ended"] for session in sessions)


@pytest.mark.parametrize("damage", ["truncate", pytest.param("alter", marks=pytest.mark.long)])
def test_a_damaged_checkpoint_is_named_and_the_run_starts_over(
    damage: str, tmp_path: Path, uninterrupted: Uninterrupted, caplog: pytest.LogCaptureFixture
) -> None:
    name = "edst standard"
    kill_self = start(tmp_path, name, "step:14")
    assert kill_self.wait(600) == -signal.SIGKILL
    checkpoint = Store(tmp_path).run(SPECS[name]().run_id).path / "checkpoint.pt"
    content = bytearray(checkpoint.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 1
    checkpoint.write_bytes(content[:middle] if damage == "truncate" else content)
    with caplog.at_level(logging.WARNING):
        assert finish(tmp_path, name) == uninterrupted[name]
    assert str(checkpoint) in caplog.text
