"""The front door: a grid becomes a report with one command, again and again, and the commands the README opens with."""

import json
import os
import re
import signal
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest
import torch

import analysis.__main__
import reproduce
from bench.grid import grid_files, load_grid
from bench.plan import make_plan
from bench.store.store import Store
from bench.work import worker

ROOT = Path(reproduce.__file__).parent
GRID = """
base:
  data: digits
  model: {name: wide_resnet, depth: 10, width: 1}
  batch_size: 32
  recipe: {epochs: 4}
replicates: 1
cells:
  - {name: dense ensemble, method: dense, members: 2}
scales:
  paper: {needs_gpu: true}
  quick: {train_images: 64, validation_images: 32, test_images: 32}
  quick_gpu: {train_images: 64, validation_images: 32, test_images: 32, needs_gpu: true}
"""


class Door:
    """`python -m reproduce` on a small grid in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.grid, self.store, self.out = folder / "small.yaml", folder / "results", folder / "report"
        self.grid.write_text(GRID)

    def __call__(self, scale: str, *options: str) -> int:
        with pytest.raises(SystemExit) as ended:
            reproduce.main(
                [str(self.grid), "--scale", scale, "--store", str(self.store), "--out", str(self.out), *options]
            )
        return ended.value.code if isinstance(ended.value.code, int) else 0

    def runs(self) -> list[Path]:
        store = Store(self.store)
        return [store.run(run.id).path for run in make_plan(load_grid(self.grid), "quick", store).runs]


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


@pytest.mark.slow
def test_a_report_is_made_of_what_is_done_and_the_next_call_adds_the_rest(
    door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("analysis.report.write_figures", lambda *_: [])  # tested elsewhere, and takes longest
    failed, other = door.runs()
    failed.mkdir(parents=True)
    (failed / "error.json").write_text(json.dumps({"type": "ValueError", "message": "diverged", "attempt": 1}))
    page = door.out / "small-quick" / "index.html"

    assert door("quick", "--device", "cpu") == 1
    printed = capsys.readouterr().out
    assert str(page) in printed
    assert "--retry" in printed
    trained = (other / "result.json").stat().st_mtime_ns
    page.unlink()

    assert door("quick", "--device", "cpu", "--retry") == 0
    assert page.is_file()
    assert (failed / "result.json").is_file()
    assert (other / "result.json").stat().st_mtime_ns == trained, "a run that was done is not trained again"
    assert "as expected" not in capsys.readouterr().out

    expected = door.grid.parent / "expected" / "small-quick.json"
    kept = ["compare", str(door.grid), str(door.store), "--scale", "quick", "--keep", str(expected)]
    with pytest.raises(SystemExit):
        analysis.__main__.main(kept)
    assert door("quick", "--device", "cpu") == 0
    assert "1 of 1 cell as expected: 1 identical." in capsys.readouterr().out

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert door("quick_gpu") == 0, "nothing is left to train, so nothing needs a GPU"
    assert (door.out / "small-quick_gpu" / "index.html").is_file()


@pytest.mark.parametrize("options", [(), ("--device", "cpu")])
def test_without_the_gpu_it_needs_a_scale_stops_before_any_work(
    door: Door, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(options))
    door.grid = ROOT / "paper_configs" / "cifar10.yaml"
    assert door("paper", *options) == 2
    printed = capsys.readouterr().out
    assert re.search(r"EDST M=7 S=0.9 .* GPU-hours", printed, re.DOTALL)
    assert "tox -e reproduce-digits\n" in printed
    assert "tox -e reproduce-cifar10 -- --scale tiny\n" in printed
    assert "--force" in printed
    assert not door.store.exists()
    assert not door.out.exists()


@pytest.mark.parametrize("scale", ["quick", "paper"])
def test_an_interruption_is_passed_on(
    scale: str, door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(worker, "train_run", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.delenv("TOX_ENV_NAME", raising=False)
    assert door(scale, "--device", "cpu", "--force") == 75
    out = capsys.readouterr().out
    assert "same command" in out
    assert "tox" not in out
    assert not door.out.exists()
    monkeypatch.setenv("TOX_ENV_NAME", "reproduce-digits")
    assert door(scale, "--device", "cpu", "--force") == 75
    assert "What tox says next, FAIL code 75 and evaluation failed" in capsys.readouterr().out


@pytest.mark.slow
def test_of_several_grids_a_mistake_in_one_stops_no_other(
    door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("analysis.report.write_figures", lambda *_: [])
    folder = door.grid.parent / "grids"
    folder.mkdir()
    (folder / "a.yaml").write_text(GRID.replace("digits", "imagenet").replace("wide_resnet", "resnet_imagenet"))
    (folder / "a.yaml").write_text((folder / "a.yaml").read_text().replace("depth: 10, width: 1", "depth: 18"))
    (folder / "b.yaml").write_text(GRID)
    door.grid = folder
    assert door("quick", "--device", "cpu") == 2
    assert "the images of imagenet are not in" in capsys.readouterr().err
    assert (door.out / "b-quick" / "index.html").is_file()


def test_a_mistake_is_one_line(door: Door, capsys: pytest.CaptureFixture) -> None:
    assert door("quik") == 2
    assert re.fullmatch(r"error: .*small\.yaml.*'quick'.*\n", capsys.readouterr().err)


@pytest.mark.parametrize("place", ["results", "report", "report/small-quick"])
def test_a_file_where_a_folder_is_needed_stops_before_any_work(
    place: str, door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(worker, "train_run", lambda *_: pytest.fail("trained"))
    file = door.grid.parent / place
    file.parent.mkdir(exist_ok=True)
    file.touch()
    assert door("quick", "--device", "cpu") == 2
    assert re.fullmatch(rf"error: --(store|out) {file}\S*: {file} is a file, not a folder\n", capsys.readouterr().err)


def test_the_gate_runs_the_commands_that_the_readme_opens_with() -> None:
    install, test = "python3 -m pip install tox", "python3 -m tox"
    commands = re.findall(r"^(python3 -m .*?) +#", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert commands == [f"{install} && {test} -e reproduce-digits", test]
    assert (ROOT / ".ci" / "run").read_text().endswith(f"\n{install} && {test}\n")


def test_every_grid_that_tox_reproduces_exists() -> None:
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    (environments,) = (name for name in tox if name.startswith("testenv:reproduce-"))
    grids = grid_files(ROOT / place for place in re.findall(r"paper_configs/\S+", tox[environments]["commands"]))
    names = [load_grid(grid).name for grid in grids]
    assert names[:4] == ["digits", "cifar10", "cifar100", "resnet_cifar"]
    assert {"sparsity", "ensemble_size", "semantics"} <= set(names[4:])


def test_what_tox_installs_is_pinned_by_version_and_hash_and_names_no_place() -> None:
    lock = (ROOT / "requirements" / "locked.txt").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[<>=!\[; ]", entry)[0].lower().replace("_", "-") for entry in wanted}
    pins = re.findall(r"^(\S+?)==\S+.* \\\n    --hash=sha256:", lock, re.MULTILINE)
    assert names <= set(pins)
    assert not re.search(r"://|(^|\s)-i\s|index|find-links", lock)
