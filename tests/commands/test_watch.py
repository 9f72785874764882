"""`watch`: what it shows of stores that are worked on, empty, damaged or large, that it writes nothing, how it ends."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.commands.watched import PLAIN_BARS, sparkline
from bench.grid import load_grid
from bench.plan import make_plan
from bench.plan.live import of_store
from bench.plan.records import RunPlan
from bench.store.lock import RunLock
from bench.store.pace import pace_of
from bench.store.records import EpochRecord, Failure
from bench.store.store import Store
from tests.grid_text import REPOSITORY, write_grid
from tests.store.runs import epoch, finished_run

GRID = """
replicates: 2
base: {data: digits, model: {depth: 10, width: 1}}
cells:
  - {name: plain, method: dense, recipe: {epochs: 10}}
  - {name: sparse, method: static, sparsity: 0.8, recipe: {epochs: 10}}
"""


class Here:
    """A store of a grid of four runs: two are worked on, one failed, one is not there."""

    def __init__(self, folder: Path, held: ExitStack) -> None:
        self.grid, self.store = write_grid(folder, GRID), Store(folder / "results")
        self.runs = make_plan(load_grid(self.grid), "paper", None).runs
        self.plain, self.sparse, self.failed, _ = self.runs
        for run in (self.plain, self.sparse):
            self.store.run(run.id).write_spec(run.spec)
            held.enter_context(RunLock(self.store.run(run.id).path / "lock"))
        for number in (1, 2, 3):
            self.write(self.plain, number, train_loss=2.0 / number, validation_loss=3.0 / number)
        self.store.run(self.failed.id).write_spec(self.failed.spec)
        self.store.run(self.failed.id).write_failure(Failure(type="ValueError", message="loss is nan"))

    def write(self, run: RunPlan, number: int, **changes: object) -> None:
        line = {"validation_accuracy": number / 8, "seconds": 60.0, "images_per_second": 321.0, **changes}
        self.store.run(run.id).append_history(epoch(number, **line))

    def files(self) -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in self.store.root.rglob("*")}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    monkeypatch.setenv("COLUMNS", "160")
    with ExitStack() as held:
        yield Here(tmp_path, held)


def watched(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["watch", *map(str, words)])
    return int(ended.value.code or 0), *capsys.readouterr()


def row(out: str, run: RunPlan) -> list[str]:
    (found,) = [line.split() for line in out.splitlines() if line.startswith(run.id[:8])]
    return found


def test_a_grid_that_is_worked_on(capsys: pytest.CaptureFixture[str], here: Here) -> None:
    before = here.files()
    code, out, err = watched(capsys, here.grid, "--store", here.store.root)
    assert (code, err, here.files()) == (0, "", before)
    curves = ["█▃▁", "0.667", "█▃▁", "1.000", "▁▅█", "37.5%"]  # 2, 1, 2/3; 3, 3/2, 1; an eighth each
    assert row(out, here.plain) == [here.plain.id[:8], "plain", "3/10", "train", "321", *curves, "7", "min"]
    assert row(out, here.sparse) == [here.sparse.id[:8], "sparse", "0/10", "starting"]
    assert "4 runs: 2 running, 1 failed, 1 missing" in out
    assert "ValueError: loss is nan" in out
    assert "to train 4 runs" in out
    assert "with 2 workers, as now" in out


def test_a_store_without_a_grid_says_methods_and_no_total(capsys: pytest.CaptureFixture[str], here: Here) -> None:
    code, out, _ = watched(capsys, "--store", here.store.root)
    assert code == 0
    assert row(out, here.plain)[:4] == [here.plain.id[:8], "dense", "3/10", "train"]
    assert row(out, here.sparse)[1] == "static"
    assert "3 runs: 2 running, 1 failed" in out
    assert "left:" not in out


def test_the_time_that_is_left_follows_what_running_runs_have_done(here: Here) -> None:
    from bench.plan.live import of_plans

    plans = [make_plan(load_grid(here.grid), "paper", here.store)]
    snapshot = of_plans(plans, here.store)
    assert snapshot.left is not None
    (left,) = snapshot.left
    by_estimate = sum(run.hours for run in plans[0].runs if run.id != here.plain.id)
    assert left.training == pytest.approx(by_estimate + 7 * 60 / 3600)
    assert snapshot.hours_left == pytest.approx(left.hours / 2)


def test_a_finished_run_that_is_evaluated_is_shown_with_its_sets(tmp_path: Path) -> None:
    folder = finished_run(tmp_path)
    with RunLock(folder.path / "lock"):
        (live,) = of_store(Store(tmp_path)).runs
        assert (live.cell, live.phase) == ("edst", "evaluation: 2 sets")
    assert of_store(Store(tmp_path)).runs == ()


def test_a_line_that_is_being_written_waits_for_the_next_look(here: Here) -> None:
    path = here.store.run(here.plain.id).path / "history.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-40])
    (plain, _) = sorted(of_store(here.store).runs, key=lambda run: run.id != here.plain.id)
    assert len(plain.history) == 2


@pytest.mark.parametrize("damage", ['{"epoch": 1}\n', "\x00\xff", "nothing\n{}\n"])
def test_damage_is_shown_and_ends_nothing(capsys: pytest.CaptureFixture[str], here: Here, damage: str) -> None:
    folder = here.store.run(here.plain.id).path
    (folder / "history.jsonl").write_bytes(damage.encode("latin-1"))
    (folder / "spec.yaml").write_text("cut")
    (here.store.run(here.failed.id).path / "error.json").write_text("[")
    (here.store.root / "runs" / "stray").write_text("")
    for grid in ([], [here.grid]):
        code, out, err = watched(capsys, *grid, "--store", here.store.root)
        assert (code, err) == (0, "")
        assert row(out, here.sparse)[2] == "0/10"
        assert here.plain.id[:8] in out


def test_an_empty_store_and_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, out, _ = watched(capsys, "--store", tmp_path / "empty")
    assert (code, out) == (0, "0 runs\nno process works on any of them\n")
    code, _, err = watched(capsys, "--store", tmp_path / "none")
    assert (code, err) == (2, f"error: --store {tmp_path / 'none'}: no such folder; give --store DIR\n")
    assert not (tmp_path / "none").exists()


def test_a_look_at_a_thousand_runs_takes_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "replicates: 1000\nbase: {data: digits, model: {depth: 10, width: 1}}\ncells: [{name: a, method: dense}]"
    store = Store(tmp_path / "results")
    plan = make_plan(load_grid(write_grid(tmp_path, text)), "paper", None)
    for run in plan.runs:
        store.run(run.id).write_spec(run.spec)
        store.run(run.id).append_history(epoch(1))
    with ExitStack() as held:
        for run in plan.runs[:40]:
            held.enter_context(RunLock(store.run(run.id).path / "lock"))
        begun = time.process_time()
        code, out, _ = watched(capsys, tmp_path / "grid.yaml", "--store", store.root)
        assert time.process_time() - begun < 60
    assert code == 0
    assert "1,000 runs: 40 running, 960 missing" in out
    assert "... and 10 more at work" in out


@pytest.mark.skipif(not hasattr(os, "login_tty"), reason="needs os.login_tty of Python 3.11")
def test_in_a_terminal_it_goes_on_until_ctrl_c(here: Here) -> None:
    own, its = pty.openpty()
    command = [sys.executable, "-m", "bench", "watch", str(here.grid), "--store", str(here.store.root)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run where it is ignored
    process = subprocess.Popen(command, cwd=REPOSITORY, stdin=its, stdout=its, stderr=its, env=environment)
    signal.signal(signal.SIGINT, before)
    os.close(its)
    seen = b""
    try:
        while b"3/10" not in seen:
            seen += os.read(own, 65_536)
        here.write(here.plain, 4)
        while b"4/10" not in seen:
            seen += os.read(own, 65_536)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=300) == 130
    finally:
        process.kill()
        process.wait()
    assert b"Traceback" not in seen


def test_following_a_grid_ends_with_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    finished_run(tmp_path / "results")
    text = "replicates: 1\nbase: {data: digits}\ncells: [{name: a, method: dense}]"
    plan = make_plan(load_grid(write_grid(tmp_path, text)), "paper", None)
    assert plan.runs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.plan.live.left_of", lambda _: ())
        assert watched(capsys, tmp_path / "grid.yaml", "--store", tmp_path / "results", "--follow")[0] == 0


# -- parts -------------------------------------------------------------------------------------------------------------


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 9, 1, 9, 2, 9, 7, 9], 4) == "▁▁▁▁"  # the last of each two
    assert sparkline([1.0, None, float("nan"), float("inf"), 2.0], 8, PLAIN_BARS) == "_#"
    assert sparkline([], 8) == sparkline([None], 8) == ""
    assert sparkline([3.0, 3.0], 8) == "▁▁"


def test_pace_is_that_of_the_last_epochs() -> None:
    seconds = [1000.0, 10.0, 10.0, 10.0, 99.0, 10.0]
    history = [EpochRecord.model_validate_json(_json(epoch(n + 1, seconds=s))) for n, s in enumerate(seconds)]
    pace = pace_of(history, 10)
    assert (pace.epoch, pace.images_per_second, pace.seconds_left) == (6, 100.0, 4 * 10.0)
    assert pace_of([], 10).seconds_left is None


def _json(line: dict[str, object]) -> str:
    import json

    return json.dumps(line)
