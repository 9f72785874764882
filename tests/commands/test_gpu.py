"""`bench run` of a scale that needs a GPU, where there is none: the plan, what makes sense instead, and no work."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.__main__ import main
from bench.grid import load_grid
from bench.plan import make_plan
from bench.store.records import Failure
from bench.store.store import Store
from bench.work.items import Work
from tests.grid_text import write_grid

GRID = """
base: {data: digits, method: dense, recipe: {epochs: 4}}
cells: [{name: a, replicates: 1}, {name: b, replicates: 1, model: {width: 2}}]
scales: {paper: {needs_gpu: true}, tiny: {train_images: 64, validation_images: 32, test_images: 32}}
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cells of the runs that a worker is asked for, on a machine without a GPU."""
    cells: list[str] = []

    def run_worker(work: Work, *_: object, **__: object) -> int:
        cells.extend(run.cell for run in work.runs)
        return 75

    monkeypatch.setitem(sys.modules, "bench.work.worker", SimpleNamespace(run_worker=run_worker))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return cells


class Here:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.grid, self.store, self._capsys = write_grid(folder, GRID), Store(folder / "results"), capsys
        self.runs = [run.id for run in make_plan(load_grid(self.grid), "paper", None).runs]

    def run(self, *options: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["run", str(self.grid), "--store", str(self.store.root), *options])
        return int(ended.value.code or 0), self._capsys.readouterr().out

    def fail(self, run: str) -> None:
        self.store.run(run).write_failure(Failure(type="ValueError", message="diverged"))


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(tmp_path, capsys)


@pytest.mark.parametrize("options", [[], ["--device", "cpu"], ["--select", "cell=b"], ["--limit", "1"], ["--retry"]])
def test_it_stops_before_any_work(here: Here, asked: list[str], options: list[str]) -> None:
    code, out = here.run(*options)
    assert (code, asked, here.store.root.exists()) == (2, [], False)
    assert re.search(r"^a +1 .*GPU-hours|^2 distinct runs: 2 missing", out, re.MULTILINE)
    assert "Stopped before any work: the scale 'paper' needs a GPU" in out
    assert "--force trains it all the same." in out


def test_a_device_of_ones_own_is_a_gpu_only_if_it_is_one(
    here: Here, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert here.run("--device", "cpu")[0] == 2
    assert here.run()[0] == 75
    assert asked == ["a", "b"]


def test_force_and_a_scale_for_cpus_go_on(here: Here, asked: list[str]) -> None:
    assert here.run("--force")[0] == 75
    assert here.run("--scale", "tiny")[0] == 75
    assert asked == ["a", "b"] * 2


def test_what_is_left_alone_needs_no_gpu(here: Here, asked: list[str]) -> None:
    for run in here.runs:
        here.fail(run)
    assert here.run()[0] == 1  # as on any machine: failed runs are left, and --retry is named
    assert here.run("--retry")[0] == 2
    assert here.store.run(here.runs[0]).status() == "failed"
    assert asked == []
