"""What other processes did between a worker's look at the store and its lock of the run that it found there."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import pytest

from bench.data.loading import ImageLoader
from bench.evaluation.sets import own_sets
from bench.recipes.pruning import prune_finetune
from bench.store.lock import RunLock, is_live
from bench.store.records import Failure
from bench.store.run_folder import REPLACED_RESULT, RunFolder
from bench.store.store import Store
from bench.training.ranks import Ranks
from bench.training.trainer import Trainer
from bench.work import holding, readiness, train, worker
from bench.work.attempts import MOST_WITHOUT_PROGRESS, begin_attempt, given_up, was_begun
from bench.work.items import RunWork
from bench.work.options import Options
from bench.work.readiness import StoreView
from bench.work.repair import clear_failures
from bench.work.weights import StoreParent
from tests.training.runs import SETTING, child_spec, dense_spec, do, with_parent, work_of

RUN = dense_spec(epochs=4)
BAD = dense_spec(epochs=4, learning_rate=1e4)
CHILD = child_spec(prune_finetune(SETTING, epochs=1, dense_epochs=3))
PARENT = with_parent(CHILD)[0]
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


class NeverTaken(RunLock):
    def __enter__(self) -> NoReturn:
        pytest.fail("taken")


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


def test_a_worker_that_comes_too_late_does_not_make_a_failed_run_look_like_running(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.run(RUN.run_id)
    meanwhile(monkeypatch, lambda: fail(folder))
    monkeypatch.setattr(train, "RunLock", NeverTaken)
    assert do([RUN], store) == 1
    assert StoreView(store).run(RUN).state == "failed"


def test_a_run_that_fails_as_its_lock_is_about_to_be_taken_is_not_trained_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, enter = store.run(RUN.run_id), RunLock.__enter__

    def fails_first(lock: RunLock) -> RunLock:
        monkeypatch.setattr(RunLock, "__enter__", enter)
        fail(folder)
        return enter(lock)

    monkeypatch.setattr(train, "begin_attempt", lambda *_: pytest.fail("trained"))
    monkeypatch.setattr(RunLock, "__enter__", fails_first)
    assert do([RUN], store) == 1
    assert StoreView(store).run(RUN).state == "failed"


def test_retry_says_which_failed_run_it_leaves_to_another_process(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    folder, running = store.run(RUN.run_id), store.run(BAD.run_id)
    fail(folder)
    with RunLock(folder.path / "lock"), RunLock(running.path / "lock"), caplog.at_level(logging.WARNING):
        clear_failures(work_of([RUN, BAD]), store)
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


# -- a run that another process has taken over, or has begun -----------------------------------------------------------


def test_an_error_in_a_run_that_another_process_has_taken_over_is_no_failure_of_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder, other, seen = store.run(RUN.run_id), RunLock(store.run(RUN.run_id).path / "lock"), []
    train_epoch, leave = Trainer.train_epoch, other.__exit__

    def taken_over(*_: object) -> None:
        monkeypatch.setattr(Trainer, "train_epoch", train_epoch)
        (folder.path / "lock").unlink()
        other.__enter__()
        raise ArithmeticError("as a GPU says after this process was stopped for minutes")

    def looks_again(_: float) -> None:
        seen.append(StoreView(store).run(RUN).state)
        leave()

    monkeypatch.setattr(Trainer, "train_epoch", taken_over)
    monkeypatch.setattr(worker.time, "sleep", looks_again)
    with caplog.at_level(logging.WARNING):
        assert do([RUN], store) == 0
    assert seen == ["running"]
    assert "left to another process" in caplog.text


@pytest.mark.parametrize("item", ["train", "test"])
def test_a_last_attempt_that_has_just_begun_is_running_and_not_given_up(
    item: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = store.run(RUN.run_id), own_sets(RUN.data)[0]
    assert asked.name == "test"
    if item == "test":
        assert do([RUN], store) == 0
        (folder.path / "evaluations.json").unlink()
    for _ in range(MOST_WITHOUT_PROGRESS - 1):
        folder.path.mkdir(parents=True, exist_ok=True)
        begin_attempt(folder.path, item)

    def state() -> str:
        view = StoreView(store)
        return view.run(RUN).state if item == "train" else view.evaluation(RUN, asked).state

    with ExitStack() as held:

        def begins(path: Path, name: str) -> bool:
            monkeypatch.setattr(readiness, "given_up", given_up)
            held.enter_context(RunLock(folder.path / "lock"))
            begin_attempt(folder.path, item)
            return given_up(path, name)

        monkeypatch.setattr(readiness, "given_up", begins)
        assert state() == "running"
    assert state() == "failed"


def test_a_rank_0_that_is_not_the_first_to_fail_gives_the_lock_back_with_a_failure_on_record(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 1 says that it was first, and is slow to write it down."""

    def fails(run: RunWork, context: Any, title: str, held: ExitStack) -> None:
        held.enter_context(RunLock(context.store.run(run.id).path / "lock"))
        raise ArithmeticError(f"{title}: the same on all ranks")

    monkeypatch.setattr(worker, "train_run", fails)
    monkeypatch.setattr(Ranks, "claim_failure", lambda _: False)
    assert worker.run_worker(work_of([RUN]), store, Options(device="cpu"), Ranks(0, 2)) == 1
    assert store.run(RUN.run_id).status() == "failed"
    assert worker.run_worker(work_of([BAD]), store, Options(device="cpu"), Ranks(1, 2)) == 1
    assert store.run(BAD.run_id).status() == "missing"


# -- a parent that is not what it was ----------------------------------------------------------------------------------


def test_a_parent_that_is_made_again_meanwhile_blocks_its_child_and_stops_no_other_run(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = train._trainer

    def retried(spec: Any, *arguments: Any, **options: Any) -> Trainer:
        if spec == CHILD:
            path = store.run(PARENT.run_id).path
            (path / "result.json").rename(path / REPLACED_RESULT)
        return trainer(spec, *arguments, **options)

    monkeypatch.setattr(train, "_trainer", retried)
    with caplog.at_level(logging.WARNING):
        assert do([PARENT, CHILD, RUN], store) == 1
    assert "blocked, its parent is damaged" in caplog.text
    assert store.run(RUN.run_id).status() == "done"


def test_a_child_of_a_parent_that_is_finished_anew_while_it_reads_the_weights_is_made_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets, parent = StoreParent.tickets, store.run(PARENT.run_id)

    def finished_anew(self: StoreParent) -> Any:
        monkeypatch.setattr(StoreParent, "tickets", tickets)
        read = tickets(self)
        parent.write_ticket(0, {name: tensor + 1 for name, tensor in parent.ticket(0).items()}, {})
        parent.record_again("tickets/0.safetensors")
        return read

    monkeypatch.setattr(StoreParent, "tickets", finished_anew)
    assert do([PARENT, CHILD], store) == 1
    assert store.status(CHILD) == "damaged"


def test_a_child_that_is_blocked_again_and_again_is_not_given_up(store: Store) -> None:
    assert do([PARENT], store) == 0
    ticket = store.run(PARENT.run_id).tensor_file("tickets", 0)
    content = bytearray(ticket.read_bytes())
    content[-1] ^= 1
    ticket.write_bytes(content)
    for _ in range(MOST_WITHOUT_PROGRESS):
        assert do([CHILD], store) == 1
        assert not was_begun(store.run(CHILD.run_id).path, "train")
    assert all(session.ended for session in store.run(CHILD.run_id).sessions())


# -- --retry while a worker is at work ---------------------------------------------------------------------------------


def test_a_worker_takes_up_what_it_failed_in_when_somebody_has_cleared_the_failure(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_epoch, work = Trainer.train_epoch, work_of([RUN, PARENT])

    def fails_once(*_: object) -> None:
        monkeypatch.setattr(Trainer, "train_epoch", cleared_meanwhile)
        raise ArithmeticError("once")

    def cleared_meanwhile(*arguments: Any) -> object:
        monkeypatch.setattr(Trainer, "train_epoch", train_epoch)
        assert store.run(RUN.run_id).status() == "failed"
        clear_failures(work, store)
        return train_epoch(*arguments)

    monkeypatch.setattr(Trainer, "train_epoch", fails_once)
    assert do(work, store) == 0
