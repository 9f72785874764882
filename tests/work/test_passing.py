"""A file server that is away for a moment (ESTALE, EIO, ETIMEDOUT) costs no run, no set and no bit."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from bench.plan import work_of as work_of_plan
from bench.store.files import regular_bytes
from bench.store.lock import RunLock
from bench.store.logits import StoredLogits
from bench.store.store import Store
from bench.work import readiness, train, worker
from bench.work.readiness import StoreView
from bench.work.summary import is_finished
from tests.training.runs import dense_spec, do, outcome, work_of
from tests.work.test_evaluate import finished, plan_of

RUN = dense_spec(epochs=4)
ASKED = "evaluations: {ood: {sets: [uniform], images: 20}}"


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)


class Away:
    """A function that fails the first times it is called, and then does what it did before."""

    def __init__(self, before: Any, times: int, number: int = errno.ESTALE) -> None:
        self.before, self.left, self.number = before, times, number

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.left > 0:
            self.left -= 1
            raise OSError(self.number, os.strerror(self.number))
        return self.before(*arguments, **options)


def test_a_stale_handle_is_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("text")
    away = Away(os.open, 2)
    monkeypatch.setattr(os, "open", away)
    assert regular_bytes(tmp_path / "file") == b"text"
    away.left = 3
    with pytest.raises(OSError, match="Stale"):
        regular_bytes(tmp_path / "file")


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
def test_a_checkpoint_that_could_not_be_written_once_costs_no_run_and_no_bit(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, store = Store(tmp_path / "whole"), Store(tmp_path / "store")
    assert do([RUN], whole) == 0
    save = train.save_checkpoint
    calls = []

    def away_at_the_third(*arguments: Any) -> None:
        calls.append(None)
        if len(calls) == 3:
            raise OSError(number, os.strerror(number))
        save(*arguments)

    monkeypatch.setattr(train, "save_checkpoint", away_at_the_third)
    assert do([RUN], store, checkpoint_seconds=0.0) == 0
    assert outcome(store.root, RUN) == outcome(whole.root, RUN)
    first, second = store.run(RUN.run_id).sessions()
    assert first.ended is not None
    assert second.resumed_from is not None


@pytest.mark.parametrize("times", [1, 2])
def test_a_look_at_the_run_under_its_lock_that_fails_once_costs_no_run(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    lock, enter, exists, left = store.run(RUN.run_id).path / "lock", RunLock.__enter__, Path.exists, [times]

    def away(path: Path, **options: Any) -> bool:
        if path == lock.with_name("result.json") and left[0]:
            left[0] -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return exists(path, **options)

    def entered(self: RunLock) -> RunLock:
        taken = enter(self)
        if self.path == lock:
            monkeypatch.setattr(Path, "exists", away)
        return taken

    monkeypatch.setattr(RunLock, "__enter__", entered)
    assert do([RUN], store) == 0
    assert left == [0]


@pytest.mark.parametrize(
    ("times", "number", "code"),
    [(1, errno.EIO, 0), (2, errno.ETIMEDOUT, 0), (5, errno.EIO, 0), (1000, errno.EIO, 1), (1000, errno.EACCES, 1)],
)
def test_a_worker_does_not_end_for_a_look_at_a_file_system_that_is_away(
    times: int, number: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    exists, left, waits = Path.exists, [times], []

    def away(path: Path, **options: Any) -> bool:
        if path.name == "result.json" and left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return exists(path, **options)

    monkeypatch.setattr(Path, "exists", away)
    monkeypatch.setattr(worker.time, "sleep", waits.append)
    assert do([RUN], store) == code
    assert len(waits) <= 1 + 2 + 4
    assert (number == errno.EACCES) == (not waits)


@pytest.mark.parametrize(("times", "number"), [(0, 0), (1, errno.EIO), (1000, errno.EIO), (1000, errno.EACCES)])
@pytest.mark.parametrize("made", [False, True], ids=["missing", "done"])
def test_what_a_file_system_that_is_away_holds_is_not_finished(
    made: bool, times: int, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, exists = Store(tmp_path), Away(Path.exists, times, number)
    if made:
        assert do([RUN], store) == 0
    monkeypatch.setattr(Path, "exists", lambda path, **options: exists(path, **options))
    assert is_finished(work_of([RUN]), store) == ((made and not times) or number == errno.EACCES)


def test_a_lock_that_cannot_be_read_for_a_moment_ends_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    lock = store.run(RUN.run_id).path / "lock"
    with RunLock(lock):
        monkeypatch.setattr(readiness, "holder", Away(readiness.holder, 1, errno.EIO))
        assert [StoreView(store).run(RUN).state for _ in range(2)] == ["running", "running"]
    assert do([RUN], store) == 0
    lock.write_text("of one that was killed")
    live = Away(worker.is_live, 1, errno.EIO)
    monkeypatch.setattr(worker, "is_live", live)
    assert do([RUN], store) == 0
    assert live.left == 0


def test_a_file_system_that_never_takes_a_checkpoint_ends_after_three_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    monkeypatch.setattr(train, "save_checkpoint", Away(None, 1000))
    do([RUN], store, checkpoint_seconds=0.0)
    assert len(store.run(RUN.run_id).sessions()) == 3
    state = StoreView(store).run(RUN)
    assert state.state == "failed"
    assert "gave up" in state.reason


def test_a_set_that_could_not_be_written_once_is_made_by_the_same_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    plan = finished(tmp_path, store, ASKED)
    away = Away(StoredLogits.write, 1)
    monkeypatch.setattr(StoredLogits, "write", lambda *arguments, **options: away(*arguments, **options))
    do(work_of_plan(plan, plan.runs), store)
    after = plan_of(tmp_path, store, ASKED)
    assert [run.lacking for run in after.runs] == [()] * len(after.runs)


def test_sets_that_can_never_be_written_end_after_three_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    plan = finished(tmp_path, store, ASKED)
    away = Away(None, 1000)
    monkeypatch.setattr(StoredLogits, "write", away)
    do(work_of_plan(plan, plan.runs), store)
    assert 1000 - away.left <= 3 * sum(len(run.evaluations) for run in work_of_plan(plan, plan.runs).runs)
