"""What a task does on its node, attempt after attempt; in this process, as submitit's local executor would call it."""

import json
import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.evaluation.sets import AttackSet, CorruptedSet
from bench.spec.run import RunSpec
from bench.store.folders import Store
from bench.store.lock import STALE_SECONDS, RunLock
from bench.work.signals import StopRequest
from slurm import element as under_test
from slurm.element import Element
from slurm.ledger import BatchFolder, Ledger
from slurm.records import EnsembleItem, RunItem, Unit
from tests.slurm.fakes import batch_record
from tests.training.runs import dense_spec

JOB = 4711
FOG = CorruptedSet("local-c", "fog", 3)
FGSM = AttackSet(0, 8.0)


@pytest.fixture(autouse=True)
def job(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The variables of a job of the local executor, and afterwards this process as it was."""
    before = dict(os.environ)
    numbers = {"JOB_ID": JOB, "NTASKS": 1, "JOB_NUM_NODES": 1, "NODEID": 0, "GLOBALID": 0, "LOCALID": 0}
    for name, value in numbers.items():
        monkeypatch.setenv(f"SUBMITIT_LOCAL_{name}", str(value))
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    logger = logging.getLogger("bench")
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers, logger.level = handlers, level
    os.environ.clear()
    os.environ.update(before)


def item(spec: RunSpec, *sets: CorruptedSet) -> RunItem:
    return RunItem(
        id=spec.run_id,
        grid="grid paper",
        cells=("cell",),
        spec=spec,
        parent=spec.parent.run_id if spec.parent else None,
        evaluations=sets,
        hours=0.1,
        evaluation_hours=0.1 if sets else 0.0,
    )


def ensemble(*specs: RunSpec) -> EnsembleItem:
    ids = tuple(spec.run_id for spec in specs)
    return EnsembleItem(runs=ids, members=len(ids), specs=specs, evaluations=(FGSM,), cells=("cell",), hours=0.1)


def unit(items: Sequence[RunItem], *ensembles: EnsembleItem) -> Unit:
    ids = tuple(one.id for one in items)
    return Unit(train=ids, evaluate=ids, runs=tuple(items), ensembles=ensembles)


def submitted(store: Path, *units: Unit, name: str = "grid-0", **changes: Any) -> BatchFolder:
    batch = batch_record(name, units=len(units), created=under_test.now(), scheduler="local")
    batch = batch.model_copy(update=changes)
    return BatchFolder.create(Ledger(Store(store)).folder(name), batch, units)


def attempt(folder: BatchFolder, index: int = 0) -> int:
    """Return the exit code of an attempt at an element."""
    with pytest.raises(SystemExit) as ended:
        Element(folder.path, index)()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def signalled(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a signal come after the second step that anybody trains."""
    from bench.training.trainer import Trainer

    step, steps = Trainer._step, []

    def noisy(self: Trainer, *arguments: Any) -> None:
        step(self, *arguments)
        steps.append(None)
        if len(steps) == 2:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Trainer, "_step", noisy)


def test_a_unit_is_trained_and_evaluated_and_its_last_run_attacks_the_ensemble(tmp_path: Path) -> None:
    specs = [dense_spec(), dense_spec(seed=19)]
    whole = ensemble(*specs)
    folder = submitted(tmp_path, *(unit([item(spec, FOG)], whole) for spec in specs))
    store = Store(tmp_path)
    assert attempt(folder, 0) == 0
    assert not (tmp_path / "ensembles").exists()  # the other run is not there: no failure, and no attack
    assert attempt(folder, 1) == 0
    assert [store.status(spec) for spec in specs] == ["done", "done"]
    (attacks,) = tmp_path.glob("ensembles/*/evaluations.json")
    assert list(json.loads(attacks.read_text())) == [FGSM.name]
    mark = folder.mark(1)
    assert mark is not None
    assert (mark.job, mark.attempt, mark.code, mark.message) == (str(JOB), 1, 0, None)
    assert mark.ended is not None


def test_a_failed_run_leaves_the_others_of_its_unit_alone_and_is_tried_again_by_a_later_submission_only(
    tmp_path: Path,
) -> None:
    diverging, well = dense_spec(learning_rate=1e30), dense_spec(seed=19)
    both = unit([item(diverging), item(well, FOG)])
    folder = submitted(tmp_path, both)
    store = Store(tmp_path)
    assert attempt(folder) == 1
    assert [store.status(one) for one in (diverging, well)] == ["failed", "done"]
    assert (store.run(well.run_id).path / "evaluations.json").exists()
    assert attempt(folder) == 1  # as after a requeue
    assert (store.run(diverging.run_id).error() or {})["attempt"] == 1
    assert attempt(submitted(tmp_path, both, name="grid-1")) == 1
    assert (store.run(diverging.run_id).error() or {})["attempt"] == 2


def test_a_mistake_that_stops_every_run_is_written_down(tmp_path: Path) -> None:
    folder = submitted(tmp_path, unit([item(dense_spec())]), scratch="$NOT_SET/tmp")
    assert attempt(folder) == 2
    mark = folder.mark(0)
    assert mark is not None
    assert mark.code == 2
    assert "$NOT_SET is not set" in str(mark.message)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("requeue", "code"), [(True, 144), (False, 75)])
def test_the_signal_ahead_of_the_limit_puts_the_element_back_in_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requeue: bool, code: int
) -> None:
    spec = dense_spec()
    folder = submitted(tmp_path, unit([item(spec)]), requeue=requeue)
    with monkeypatch.context() as patch:
        signalled(signal.SIGUSR2, patch)
        assert attempt(folder) == code  # 144 asks the local executor to start it again
    mark = folder.mark(0)
    assert mark is not None
    assert mark.code == 75
    assert (Store(tmp_path).run(spec.run_id).path / "checkpoint.pt").exists()
    assert attempt(folder) == 0
    sessions = json.loads((Store(tmp_path).run(spec.run_id).path / "provenance.json").read_text())["sessions"]
    assert [session["resumed_from"] for session in sessions] == [None, {"epoch": 1, "step": 2}]


def test_after_sigterm_the_element_stays_out_of_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the user's scancel, or a preemption after which SLURM itself starts it again."""
    folder = submitted(tmp_path, unit([item(dense_spec())]))
    signalled(signal.SIGTERM, monkeypatch)
    assert attempt(folder) == 75


def test_after_three_attempts_that_got_no_further_the_run_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    spec = dense_spec()
    folder = submitted(tmp_path, unit([item(spec)]))
    with monkeypatch.context() as patch:
        patch.setattr(under_test._Work, "_train", die)
        for number in (1, 2, 3):
            with pytest.raises(Killed):
                Element(folder.path, 0)()
            mark = folder.mark(0)
            assert mark is not None
            assert (mark.attempt, mark.stalls, mark.code) == (number, number - 1, None)
    assert attempt(folder) == 1
    error = Store(tmp_path).run(spec.run_id).error() or {}
    assert error["type"] == "GaveUp"
    assert "3 attempts in a row" in error["message"]
    assert attempt(submitted(tmp_path, unit([item(spec)]), name="grid-1")) == 0  # retry


def test_an_attempt_that_got_further_may_be_followed_by_any_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = dense_spec()
    folder = submitted(tmp_path, unit([item(spec)]), requeue=False)
    for number in range(1, 6):
        with monkeypatch.context() as patch:
            signalled(signal.SIGUSR2, patch)
            assert attempt(folder) == 75
        mark = folder.mark(0)
        assert mark is not None
        assert (mark.attempt, mark.stalls) == (number, 0)


def test_a_run_that_another_process_trains_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "LOCK_PATIENCE", 0.2)
    monkeypatch.setattr(under_test, "POLL_SECONDS", 0.05)
    spec = dense_spec()
    folder = submitted(tmp_path, unit([item(spec)]))
    with RunLock(Store(tmp_path).run(spec.run_id).path / "lock"):
        assert attempt(folder) == 1  # what it was to do is not done
    assert Store(tmp_path).status(spec) == "missing"
    assert attempt(folder) == 0


def test_processes_take_their_own_of_the_gpus_that_the_job_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    import submitit

    environment = submitit.JobEnvironment()
    for rank, own in ((0, "4,5"), (1, "6,7")):
        monkeypatch.setenv("SUBMITIT_LOCAL_LOCALID", str(rank))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
        under_test._take_own_gpus(environment, 2)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == own


def test_a_lock_whose_heartbeat_stands_still_is_waited_for_before_evaluation_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a node which died while it evaluated: it looks alive for two minutes."""
    monkeypatch.setattr(under_test, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(under_test, "LOCK_PATIENCE", 30.0)
    spec = dense_spec()
    assert attempt(submitted(tmp_path, unit([item(spec)]), name="grid-0")) == 0
    lock = Store(tmp_path).run(spec.run_id).path / "lock"
    dead = {"host": "othernode", "pid": 1, "token": "t", "heartbeat": time.time() - STALE_SECONDS + 2}
    lock.write_text(json.dumps(dead))
    assert attempt(submitted(tmp_path, unit([item(spec, FOG)]), name="grid-1")) == 0
    assert (lock.parent / "evaluations.json").exists()


def test_the_warning_ahead_of_the_limit_counts_though_sigterm_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = submitted(tmp_path, unit([item(dense_spec())]))
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received is signal.SIGUSR2
    signalled(signal.SIGUSR2, monkeypatch)
    assert attempt(folder) == 144
