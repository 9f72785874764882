"""When a worker of a cluster ends because others have all that is left: only if they are alive."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

import bench.store.lock
from bench.data.loading import ImageLoader
from bench.store.lock import STALE_SECONDS
from bench.store.store import Store
from bench.work import worker
from tests.store.test_lock import foreign_lock
from tests.training.runs import dense_spec, work_of
from tests.work.test_together import leaving

HELD, OWN = dense_spec(epochs=4, seed=1), dense_spec(epochs=4, seed=2)
HOUR = 3600.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that lets time pass for locks."""
    passed, monotonic = [0.0], time.monotonic
    monkeypatch.setattr(bench.store.lock.time, "monotonic", lambda: monotonic() + sum(passed))
    return passed.append


@pytest.mark.parametrize("alive", [False, True])
def test_a_lock_that_moved_while_a_worker_trained_is_looked_at_until_it_moves_again_or_is_stale(
    alive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    """Its holder, on another machine, may have died within the hour for which the worker did not look."""
    store = Store(tmp_path)
    lock = store.run(HELD.run_id).path / "lock"
    lock.parent.mkdir(parents=True)
    foreign_lock(lock)
    load, slept = ImageLoader.load, []

    def an_hour_of_training(*arguments: object) -> object:
        if not slept:
            clock(HOUR)
            foreign_lock(lock, ahead=15)
        return load(*arguments)  # type: ignore[arg-type]

    def sleep(_: float) -> None:
        slept.append(1)
        clock(15 if alive else STALE_SECONDS)
        if alive:
            foreign_lock(lock, ahead=30)

    monkeypatch.setattr(ImageLoader, "load", an_hour_of_training)
    monkeypatch.setattr(worker.time, "sleep", sleep)
    assert leaving(work_of([HELD, OWN]), store) == 0
    assert slept == [1]
    assert store.run(OWN.run_id).status() == "done"
    assert store.run(HELD.run_id).status() == ("running" if alive else "done")
