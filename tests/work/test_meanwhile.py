"""What other processes did between a worker's look at the store and its lock of the run that it found there."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.data.loading import ImageLoader
from bench.store.lock import RunLock, is_live
from bench.store.records import Failure
from bench.store.run_folder import RunFolder
from bench.store.store import Store
from bench.work import holding, worker
from bench.work.attempts import MOST_WITHOUT_PROGRESS, begin_attempt
from bench.work.readiness import StoreView
from tests.training.runs import dense_spec, do

RUN = dense_spec(epochs=4)
BAD = dense_spec(epochs=4, learning_rate=1e4)
FAILURE = Failure(type="ValueError", message="of another process", attempt=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def give_up(folder: Path, item: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(MOST_WITHOUT_PROGRESS):
        begin_attempt(folder, item)


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Act once, when a worker reads the images of the run that it chose."""
    load, acts = ImageLoader.load, [act]

    def loads(*arguments: object) -> object:
        while acts:
            acts.pop()()
        return load(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageLoader, "load", loads)


def fail(folder: RunFolder) -> None:
    with RunLock(folder.path / "lock"):
        folder.write_failure(FAILURE)


@pytest.mark.parametrize(
    ("act", "said", "reason"),
    [
        (fail, "blocked, another process left it failed meanwhile", "ValueError: of another process"),
        (lambda folder: give_up(folder.path, "train"), "blocked, other processes gave up: 3 attempts", "gave up: 3"),
    ],
    ids=["failed", "given up"],
)
def test_a_run_that_failed_meanwhile_is_not_trained_again(
    act: Callable[[RunFolder], None],
    said: str,
    reason: str,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = store.run(RUN.run_id)
    meanwhile(monkeypatch, lambda: act(folder))
    with caplog.at_level(logging.WARNING):
        assert do([RUN], store) == 1
    assert said in caplog.text
    assert folder.sessions() == ()
    found = StoreView(store).run(RUN)
    assert found.state == "failed"
    assert found.reason.startswith(reason)


def test_a_run_that_was_made_and_damaged_meanwhile_is_left_as_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert do([RUN], Store(tmp_path / "elsewhere")) == 0
    made, folder = Store(tmp_path / "elsewhere").run(RUN.run_id).path, store.run(RUN.run_id)

    def damaged() -> None:
        folder.path.parent.mkdir(parents=True)
        made.rename(folder.path)
        folder.tensor_file("tickets", 0).unlink()

    meanwhile(monkeypatch, damaged)
    with caplog.at_level(logging.WARNING):
        assert do([RUN], store) == 1
    assert "another process left it damaged meanwhile" in caplog.text
    assert len(folder.sessions()) == 1


def test_a_failure_is_on_record_before_anybody_else_can_take_the_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, held = store.run(BAD.run_id), []
    record = worker.record_failure

    def recorded(*arguments: object) -> None:
        held.append(is_live(folder.path / "lock"))
        record(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(worker, "record_failure", recorded)
    assert do([BAD], store) == 1
    assert held == [True]
    assert not (folder.path / "lock").exists()


def test_a_failed_run_stays_failed_while_somebody_takes_its_lock_to_see_that(store: Store) -> None:
    folder = store.run(RUN.run_id)
    fail(folder)
    with RunLock(folder.path / "lock"):
        assert StoreView(store).run(RUN).state == "failed"


def test_retry_says_which_failed_run_it_leaves_to_another_process(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    folder, running = store.run(RUN.run_id), store.run(BAD.run_id)
    fail(folder)
    with RunLock(folder.path / "lock"), RunLock(running.path / "lock"), caplog.at_level(logging.WARNING):
        assert do([RUN], store, retry=True) == 1
    assert f"{folder.path}: failed, and not tried again now: " in caplog.text
    assert str(running.path) not in caplog.text
    assert do([RUN], store, retry=True) == 0


def test_a_set_that_was_given_up_meanwhile_is_not_made(store: Store) -> None:
    assert do([RUN], store) == 0
    folder = store.run(RUN.run_id)
    give_up(folder.path, "one")
    taken = holding.Holding(folder.path, "run", lambda: holding.StoredLogits.of_run(folder))
    with ExitStack() as held:
        assert taken.take(["one", "two"], held)
        assert taken.missing == ["two"]
