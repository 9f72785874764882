"""A folder that a command is going to write in is tried before any work: before a plan is made or a table is drawn."""

import tempfile
from pathlib import Path
from types import ModuleType

import pytest

import analysis.__main__
import analysis.loading
import bench.__main__
import bench.grid.load
import reproduce
import slurm.__main__
from bench.commands.folders import check_writable
from bench.errors import UserError
from tests.grid_text import write_grid

GRID = """
base: {data: digits, method: dense}
cells: [{name: a}]
scales: {tiny: {train_images: 64, validation_images: 32, test_images: 32}}
"""
# Each command that writes where it is told to: arguments, of which GRID is the grid, and the option of the place.
WRITE: list[tuple[ModuleType, list[str], str]] = [
    (bench.__main__, ["run", "GRID"], "--store"),
    (bench.__main__, ["export", "GRID"], "--out"),
    (bench.__main__, ["import", "GRID"], "--store"),
    (bench.__main__, ["data", "pack", "--data", "."], "--out"),
    (analysis.__main__, ["tables", "GRID"], "--out"),
    (analysis.__main__, ["figures", "GRID"], "--out"),
    (analysis.__main__, ["report", "GRID"], "--out"),
    (analysis.__main__, ["compare", "GRID", "results"], "--keep"),
    (slurm.__main__, ["submit", "GRID", "--site", "local"], "--store"),
    (reproduce, ["GRID"], "--store"),
    (reproduce, ["GRID"], "--out"),
]


@pytest.mark.parametrize(("program", "words", "option"), WRITE)
def test_a_place_that_cannot_be_written_stops_before_any_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    program: ModuleType,
    words: list[str],
    option: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "locked").mkdir()
    grid = str(write_grid(tmp_path, GRID))
    make, tried = tempfile.mkdtemp, []

    def refusing(suffix: str | None = None, prefix: str | None = None, dir: str | None = None) -> str:
        if dir is not None and Path(dir).is_relative_to(tmp_path / "locked"):
            tried.append(dir)
            raise PermissionError(13, "Permission denied", dir)
        return make(suffix, prefix, dir)

    monkeypatch.setattr(tempfile, "mkdtemp", refusing)
    monkeypatch.setattr("bench.work.worker.run_worker", lambda *_, **__: pytest.fail("trained"))
    monkeypatch.setattr(analysis.loading, "load", lambda *_, **__: pytest.fail("read results"))
    place = tmp_path / "locked" / "deep" / "place"
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        program.main([grid if word == "GRID" else word for word in words] + [option, str(place)])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert f"error: {option} {tmp_path / 'locked'}" in said
    assert f"nothing can be written in {tmp_path / 'locked'} (Permission denied)\n" in said
    assert tried
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_of_a_report_that_is_there_is_tried_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report" / "grid-paper").mkdir(parents=True)
    (tmp_path / "report" / "grid-paper" / "figures").touch()
    with pytest.raises(SystemExit) as ended:
        analysis.__main__.main(["report", str(write_grid(tmp_path, GRID))])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("report/grid-paper/figures is a file, not a folder\n")


def test_a_store_that_is_only_read_may_be_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "mkdtemp", lambda *_, **__: pytest.fail("tried to write"))
    for words in (["plan"], ["list"]):
        with pytest.raises(SystemExit) as ended:
            bench.__main__.main([*words, str(write_grid(tmp_path, GRID)), "--store", str(tmp_path)])
        assert not ended.value.code


def test_trying_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable("--out", tmp_path / "a" / "b")
    assert not [*tmp_path.iterdir()]
    with pytest.raises(UserError, match=r"^--out /proc/a/b: nothing can be written in /proc \("):
        check_writable("--out", Path("/proc/a/b"))
