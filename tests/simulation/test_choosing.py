"""What a worker's choices ask a file server: hundreds of workers look at thousands of runs."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import simpy

from bench.evaluation.sets import own_sets
from bench.store.lock import RunLock
from bench.store.logits import StoredLogits
from bench.store.store import Store
from bench.work import worker as module
from bench.work.attempts import was_begun
from bench.work.items import EvaluateRun, RunWork, TrainRun, Work
from bench.work.readiness import StoreView
from bench.work.signals import StopRequest
from bench.work.summary import is_finished
from bench.work.worker import WAIT, Worker
from tests.simulation.clock import FileServer, Process, drive
from tests.simulation.files import Files
from tests.simulation.training import context
from tests.store.runs import LABELS, LOGITS, finished_run, run_spec


def asked(root: Path, act: Callable[[], object]) -> int:
    """Return how many operations on files below a folder something takes."""
    env = simpy.Environment()
    process = Process(act, FileServer(env, 0.0), "here")
    with pytest.MonkeyPatch.context() as patch:
        Files(root).watch(patch)
        env.run(env.process(drive(env, process)))
    return process.operations


def work_of(count: int) -> Work:
    specs = [run_spec(seed=18 + number) for number in range(count)]
    return Work(runs=tuple(RunWork(spec=spec, cell="a cell", evaluations=own_sets(spec.data)) for spec in specs))


def worker_on(store: Store, work: Work) -> Worker:
    return Worker(work, context(store, StopRequest()))


def test_runs_that_nobody_has_begun_cost_a_choice_nothing(tmp_path: Path) -> None:
    StoredLogits.of_run(finished_run(tmp_path)).forget(["validation"])
    finished_run(tmp_path, seed=19)
    costs = []
    for count in (2, 2, 4, 40):  # the first makes a folder of workers
        worker = worker_on(Store(tmp_path), work_of(count))

        def choose(worker: Worker = worker) -> None:
            (chosen,) = worker._next()
            assert isinstance(chosen, EvaluateRun)
            assert chosen.name == "validation"
            worker._peers.leave()

        costs.append(asked(tmp_path, choose))
    assert costs[1:] == costs[1:2] * 3


def test_where_another_was_faster_the_next_run_costs_no_look_at_those_in_progress(tmp_path: Path) -> None:
    costs = []
    for others in (1, 20):
        store, work = tmp_path / str(others), work_of(others + 3)
        worker = worker_on(Store(store), work)
        with ExitStack() as locks:
            for run in work.runs[:others]:
                locks.enter_context(RunLock(store / "runs" / run.id / "lock"))
            for run in work.runs[others:]:
                found: list[Any] = []
                costs.append(asked(store, lambda worker=worker, found=found: found.extend(worker._next())))
                assert [(type(item), item.run) for item in found] == [(TrainRun, run)]
                locks.enter_context(RunLock(store / "runs" / run.id / "lock"))
                assert worker._take(found) == "locked"
            assert worker._next() == WAIT, "none is left, and all are looked at"
        assert [item.run for item in worker._next()] == [work.runs[0]], "the others have left all behind"
        worker._peers.leave()
    first, second, third, *of_many = costs
    assert [second, third] == of_many[1:] == [second] * 2
    assert second < first < of_many[0]


def test_own_sets_follow_training_and_ask_nothing_of_other_runs(tmp_path: Path) -> None:
    StoredLogits.of_run(finished_run(tmp_path)).forget(["validation"])  # somebody left it behind
    mine = finished_run(tmp_path, seed=19)
    StoredLogits.of_run(mine).forget(["validation", "test"])
    costs = []
    for others in (1, 1, 20):  # the first makes a folder of workers
        work = work_of(2 + others)
        worker = worker_on(Store(tmp_path), work)
        worker._trained = work.runs[1]

        def choose(worker: Worker = worker) -> None:
            items = worker._next()
            assert isinstance(items, list)
            assert [(item.run.id, item.name) for item in items] == [(mine.path.name, n) for n in ("test", "validation")]
            worker._peers.leave()

        with ExitStack() as locks:
            for run in work.runs[2:]:
                locks.enter_context(RunLock(tmp_path / "runs" / run.id / "lock"))
            costs.append(asked(tmp_path, choose))
    assert costs[1] == costs[2]

    worker._tried = {item for item in worker._items if item.run.id == mine.path.name}
    (first,) = worker._next()
    assert isinstance(first, EvaluateRun)
    assert first.run.id == run_spec().run_id, "what was left behind is next"
    worker._peers.leave()


def test_what_a_share_finds_done_is_not_looked_at_again(tmp_path: Path) -> None:
    StoredLogits.of_run(finished_run(tmp_path)).forget(["validation"])
    finished_run(tmp_path, seed=19)
    worker = worker_on(Store(tmp_path), work_of(3))
    worker._next()
    worker._peers.leave()
    assert [(item.run.id, item.name) for item in worker._items] == [
        (run_spec().run_id, "validation"),
        *((run_spec(seed=20).run_id, name) for name in ("train", "test", "validation")),
    ]


def test_a_worker_stays_where_another_takes_at_that_moment_what_it_was_to_evaluate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished_run(tmp_path)
    StoredLogits.of_run(folder).forget(["validation"])
    worker = worker_on(Store(tmp_path), work_of(2))
    with ExitStack() as other:

        def begun(path: Path, name: str) -> bool:
            found = was_begun(path, name)
            if path == folder.path and not (path / "lock").exists():
                other.enter_context(RunLock(path / "lock"))
            return found

        monkeypatch.setattr(module, "was_begun", begun)
        assert worker._next() == WAIT
    monkeypatch.undo()
    (first, *_) = worker._next()
    assert isinstance(first, EvaluateRun), "the other has left it behind"
    StoredLogits.of_run(folder).write("validation", LOGITS, LABELS, images="the test's own")
    (first,) = worker._next()
    assert isinstance(first, TrainRun)
    worker._peers.leave()


def test_a_finished_run_costs_a_look_once(tmp_path: Path) -> None:
    finished_run(tmp_path)
    store, work = Store(tmp_path), work_of(1)

    def look() -> None:
        view = StoreView(store)
        assert {view.may_start(item).state for item in work.items()} == {"done"}

    # result.json three times, evaluations.json and not_exported.json twice each, five files, two sets
    assert asked(tmp_path, look) == 14
    worker = worker_on(store, work)
    assert worker._next() == ()
    worker._peers.leave()
    assert asked(tmp_path / "runs", worker._next) == 0


def test_a_worker_that_ends_looks_at_one_run_of_each_data_set(tmp_path: Path) -> None:
    for number in range(3):
        finished_run(tmp_path, seed=18 + number)
    costs = []
    for count in (1, 3):
        worker = worker_on(Store(tmp_path), work_of(count))
        costs.append(asked(tmp_path, lambda worker=worker: list(worker._first_done())))
    assert costs[0] == costs[1] > 0


def test_whether_work_is_left_is_found_without_a_look_at_what_is_finished(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(3):
        finished_run(tmp_path, seed=18 + number)
    answers: list[bool] = []
    left = asked(tmp_path, lambda: answers.append(is_finished(work_of(4), store)))
    nothing_left = asked(tmp_path, lambda: answers.append(is_finished(work_of(3), store)))
    assert answers == [False, True]
    assert left < nothing_left / 3, "one run was looked at, not four"


def test_a_worker_that_waits_looks_less_and_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = worker_on(Store(tmp_path), work_of(1))
    sleeps, looks = [], iter([WAIT, WAIT, WAIT, WAIT, ()])

    def choose() -> Any:
        sleeps.append(0.0)
        return next(looks)

    def sleep(seconds: float) -> None:
        sleeps[-1] += seconds

    monkeypatch.setattr(worker, "_next", choose)
    monkeypatch.setattr(module.time, "sleep", sleep)
    assert worker.work() == 0
    assert sleeps == [2, 4, 8, 8, 0]


def test_a_signal_ends_the_wait_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, sleeps = StopRequest(), []
    worker = Worker(work_of(1), context(Store(tmp_path), stop))

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 4:  # the first of four
            stop.received = module.signal.SIGTERM

    monkeypatch.setattr(worker, "_next", lambda: WAIT)
    monkeypatch.setattr(module.time, "sleep", sleep)
    assert worker.work() == 75
    assert sleeps == [2.0] * 4
