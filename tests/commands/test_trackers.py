"""Curves for TensorBoard, read back with its own reader, and for Weights & Biases, by what of its API is used."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bench.__main__ import main
from bench.commands.trackers import CURVES, LOCK, Feed, TensorBoard, Wandb
from bench.store.lock import RunLock
from bench.store.records import Session
from bench.store.run_folder import RunFolder
from bench.store.store import Store
from tests.store.runs import epoch, finished_run, run_spec


def begun_run(store: Store, epochs: int, **changes: Any) -> RunFolder:
    spec = run_spec(seed=7, **changes)
    folder = store.run(spec.run_id)
    folder.write_spec(spec)
    for number in range(1, epochs + 1):
        folder.append_history(line(number))
    return folder


def line(number: int) -> dict[str, Any]:
    return epoch(number, train_loss=2.0 / number, validation_accuracy=number / 8, seconds=10.0)


def send(store: Store, folder: Path) -> list[str]:
    """Send what there is as a process would that ends after one look."""
    with TensorBoard(folder) as tracker:
        return Feed(store, [tracker]).send()


def points(folder: Path, run: RunFolder, curve: str = "loss/train") -> list[tuple[int, float]]:
    found = EventAccumulator(str(folder / "edst S=0.8" / run.path.name)).Reload()
    return [(point.step, pytest.approx(point.value)) for point in found.Scalars(curve)]


def test_tensorboard_reads_each_epoch_once_however_often_it_was_sent(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "store"), tmp_path / "curves"
    run = begun_run(store, 2)
    assert send(store, folder) == []
    run.append_history(line(3))
    for _ in range(2):
        assert send(store, folder) == []
    assert points(folder, run) == [(1, 2.0), (2, 1.0), (3, 2 / 3)]
    assert points(folder, run, "accuracy/validation") == [(1, 1 / 8), (2, 2 / 8), (3, 3 / 8)]
    tags = EventAccumulator(str(folder / "edst S=0.8" / run.path.name)).Reload().Tags()["scalars"]
    assert set(tags) == set(CURVES) - {"loss/validation"}  # which the history does not have


def test_one_tracker_follows_a_store_that_grows(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "store"), tmp_path / "curves"
    run = begun_run(store, 1)
    with TensorBoard(folder) as tracker:
        feed = Feed(store, [tracker])
        feed.send()
        run.append_history(line(2))
        done = finished_run(store.root)
        feed.send()
        assert points(folder, run) == [(1, 2.0), (2, 1.0)]  # there for TensorBoard while this process goes on
        assert points(folder, done) == [(1, 2.5), (2, 1.25)]
        run.write_history([line(1)])  # as a run that resumes from its checkpoint
        feed.send()
        run.append_history(line(2))
        run.append_history(line(3))
        feed.send()
    assert points(folder, run) == [(1, 2.0), (2, 1.0), (3, 2 / 3)]


def test_an_event_cut_short_by_a_kill_is_written_again(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "store"), tmp_path / "curves"
    run = begun_run(store, 3)
    send(store, folder)
    (events,) = (folder / "edst S=0.8" / run.path.name).iterdir()
    events.write_bytes(events.read_bytes()[:-9])
    send(store, folder)
    assert points(folder, run) == [(1, 2.0), (2, 1.0), (3, 2 / 3)]


def test_the_clock_of_a_curve_is_that_of_training(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "store"), tmp_path / "curves"
    run = begun_run(store, 2)
    facts = {"started": "2026-01-01T00:00:00+00:00", "host": "a", "pid": 1, "job": None, "command": (), "git": None}
    versions = {"python": "3", "versions": {}, "cuda": None, "cudnn": None, "device": "cpu", "device_name": "a"}
    run.write_provenance([Session(**facts, **versions, cpu_threads=1, deterministic=False)])
    send(store, folder)
    found = EventAccumulator(str(folder / "edst S=0.8" / run.path.name)).Reload().Scalars("loss/train")
    assert [point.wall_time for point in found] == [1_767_225_600 + 10, 1_767_225_600 + 20]


def test_a_damaged_history_is_named_and_the_others_are_sent(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "store"), tmp_path / "curves"
    run, other = begun_run(store, 2), begun_run(store, 2, batch_size=64)
    (run.path / "history.jsonl").write_text('{"epoch": 1}\n')
    (damage,) = send(store, folder)
    assert damage.startswith(f"{run.path / 'history.jsonl'}: line 1: ")
    assert [step for step, _ in points(folder, other)] == [1, 2]


def test_two_at_once_would_write_every_point_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun_run(Store(tmp_path / "store"), 1)
    words = ["watch", "--store", str(tmp_path / "store"), "--tensorboard", str(tmp_path / "curves")]
    with RunLock(tmp_path / "curves" / LOCK), pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "another `bench watch` writes there" in capsys.readouterr().err
    main_ended(words)


def main_ended(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code


@pytest.mark.parametrize(("option", "value"), [("tensorboard", "curves"), ("wandb", "project")])
def test_what_is_not_installed_is_named_with_its_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    for name in [name for name in sys.modules if name.partition(".")[0] == option]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, option, None)
    with pytest.raises(SystemExit) as ended:
        main(["watch", "--store", "store", f"--{option}", value])
    assert ended.value.code == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: --{option}: ")
    assert f"freetickets-bench[{option}]" in error


# -- Weights & Biases --------------------------------------------------------------------------------------------------


class Server:
    """What wandb's server keeps of runs by id, and the client of it that is used: init, log, step, finish."""

    def __init__(self) -> None:
        self.points: dict[str, list[tuple[int, dict[str, float]]]] = {}
        self.about: dict[str, dict[str, Any]] = {}
        self.open: set[str] = set()
        self.Settings = dict

    def init(self, **about: Any) -> SimpleNamespace:
        name = about["id"]
        self.about[name] = about
        self.open.add(name)
        kept = self.points.setdefault(name, [])
        begun = SimpleNamespace(step=kept[-1][0] + 1 if kept else 0)
        begun.log = lambda values, step: kept.append((step, values))
        begun.finish = lambda: self.open.discard(name)
        return begun


def test_wandb_gets_each_epoch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, store = Server(), Store(tmp_path / "store")
    monkeypatch.setitem(sys.modules, "wandb", server)  # type: ignore[arg-type]
    run, done = begun_run(store, 2), finished_run(store.root)
    for notes in (tmp_path / "wandb", tmp_path / "wandb", tmp_path / "elsewhere" / "wandb"):
        with Wandb("project", notes) as tracker:
            Feed(store, [tracker]).send()
            assert server.open <= {run.path.name}  # one that ended is finished
        assert not server.open
    assert [step for step, _ in server.points[run.path.name]] == [1, 2]
    assert [step for step, _ in server.points[done.path.name]] == [1, 2]
    assert server.points[run.path.name][1][1]["loss/train"] == 1.0
    about = server.about[run.path.name]
    assert (about["project"], about["resume"], about["group"]) == ("project", "allow", "edst S=0.8")
    assert about["config"]["seed"] == 7


def test_wandb_offline_by_the_library_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "store")
    run = begun_run(store, 2)
    for _ in range(2):
        with Wandb("project") as tracker:
            Feed(store, [tracker]).send()
    (kept,) = Path("wandb").glob("offline-run-*")
    assert kept.name.endswith(run.path.name)
    assert b"loss/train" in (kept / f"run-{run.path.name}.wandb").read_bytes()
