"""A worker: what happens when an item fails, is locked, damaged, done before, or kills the process that takes it."""

import errno
import hashlib
import json
import logging
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.errors import UserError
from bench.recipes import Setting
from bench.recipes.pruning import prune_finetune
from bench.spec.run import RunSpec
from bench.store.lock import RunLock
from bench.store.logits import StoredLogits
from bench.store.records import checksum_of
from bench.store.store import DataRecord, Store
from bench.training import trainer as trainer_module
from bench.work import train, worker
from bench.work.attempts import begin_attempt
from bench.work.items import RunWork, Work
from bench.work.options import Options
from bench.work.readiness import StoreView
from bench.work.signals import InterruptedRunError, StopRequest
from bench.work.worker import run_worker
from tests.training.runs import child_spec, dense_spec, do, edst_spec, outcome, with_parent, work_of

GOOD = dense_spec(epochs=4)
BAD = dense_spec(epochs=4, learning_rate=1e4)


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.05)


def logits_of(store: Store, spec: RunSpec, name: str) -> tuple[np.ndarray, np.ndarray]:
    return StoredLogits.of_run(store.run(spec.run_id)).logits(name)


def alter(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_a_failure_is_recorded_and_the_others_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    assert do([BAD, GOOD], store) == 1
    bad, good = store.run(BAD.run_id), store.run(GOOD.run_id)
    assert (bad.status(), good.status()) == ("failed", "done")
    error = bad.error()
    assert error is not None
    assert (error.type, error.attempt) == ("DivergedError", 1)
    assert error.traceback[-1].endswith(error.message)

    written = (good.path / "result.json").stat().st_mtime_ns
    with caplog.at_level(logging.ERROR):
        assert do([BAD, GOOD], store) == 1
    assert "DivergedError" in caplog.text
    assert "--retry" in caplog.text
    assert bad.error() == error, "a failed run is not tried again by itself"
    assert do([BAD, GOOD], store, retry=True) == 1
    again = bad.error()
    assert again is not None
    assert again.attempt == 2
    assert (good.path / "result.json").stat().st_mtime_ns == written


def test_the_line_at_the_end_of_a_run_says_what_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = iter(["about 3.0 h on a CPU", ""])
    specs = [GOOD, dense_spec(epochs=3)]
    with caplog.at_level(logging.INFO):
        run_worker(work_of(specs), Store(tmp_path), Options(device="cpu"), say_left=lambda: next(said))
    ends = [line.partition("done in ")[2] for line in caplog.messages if "done in" in line]
    assert ends[0].endswith(" s; left: about 3.0 h on a CPU")
    assert ends[1].endswith(" s")


def test_stored_logits_are_those_of_the_stored_tickets(tmp_path: Path) -> None:
    spec, store = edst_spec(), Store(tmp_path)
    assert do([spec], store) == 0
    folder = store.run(spec.run_id)
    result = folder.result()
    logits, labels = logits_of(store, spec, "validation")
    assert logits.shape == (2, 60, 10)
    accuracies = (logits.argmax(axis=2) == labels).mean(axis=1)
    np.testing.assert_allclose(accuracies, [ticket.validation_accuracy for ticket in result.tickets])
    assert logits_of(store, spec, "test")[0].shape == (2, 60, 10)
    for ticket in result.tickets:
        masks = folder.masks(ticket.index)
        assert sum(m.sum() for m in masks.values()) / sum(m.size for m in masks.values()) == ticket.density
        assert not any(folder.ticket(ticket.index)[name][~mask].any() for name, mask in masks.items())
    for name in ("checkpoint.pt", "attempts.json", "error.json"):
        assert not (folder.path / name).exists()
    assert not list(folder.path.rglob(".tmp-*"))


def test_result_lists_the_checksum_of_every_file_but_logits(tmp_path: Path) -> None:
    assert do([GOOD], Store(tmp_path)) == 0
    path = Store(tmp_path).run(GOOD.run_id).path
    listed = json.loads((path / "result.json").read_text())["files"]
    present = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    own = {"result.json", "evaluations.json", "logits/test.safetensors", "logits/validation.safetensors"}
    assert set(listed) == present - own
    for name, recorded in listed.items():
        assert recorded["sha256"] == hashlib.sha256((path / name).read_bytes()).hexdigest()


# -- damage ------------------------------------------------------------------------------------------------------------


def test_lost_or_cut_logits_are_made_again_without_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    assert do([GOOD], store) == 0
    before = outcome(tmp_path, GOOD)
    logits = store.run(GOOD.run_id).path / "logits/test.safetensors"
    monkeypatch.setattr(trainer_module.Trainer, "train_epoch", no_training)
    for damaged in (None, logits.read_bytes()[:100]):
        logits.unlink()
        if damaged is not None:
            logits.write_bytes(damaged)
        assert do([GOOD], store) == 0
        assert outcome(tmp_path, GOOD) == before


def no_training(*_: object) -> None:
    raise AssertionError("trained again")


@pytest.mark.parametrize("name", ["logits/test.safetensors", "tickets/0.safetensors"])
def test_a_file_altered_within_its_size_is_found_by_retry(name: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert do([GOOD], store) == 0
    before = outcome(tmp_path, GOOD)
    alter(store.run(GOOD.run_id).path / name)
    assert do([GOOD], store, retry=True) == 0
    assert outcome(tmp_path, GOOD) == before


def test_a_lost_ticket_is_said_and_the_run_trained_again_by_retry(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    assert do([GOOD], store) == 0
    before = outcome(tmp_path, GOOD)
    ticket = store.run(GOOD.run_id).path / "tickets/0.safetensors"
    ticket.unlink()
    with caplog.at_level(logging.ERROR):
        assert do([GOOD], store) == 1
    assert "tickets/0.safetensors gone, truncated or altered; --retry" in caplog.text
    assert do([GOOD], store, retry=True) == 0
    assert outcome(tmp_path, GOOD) == before


def test_a_ticket_lost_before_the_run_was_done_starts_it_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)

    def failing(*_: object) -> None:
        raise RuntimeError("no result today")

    with monkeypatch.context() as patch:
        patch.setattr(train, "_finish", failing)
        assert do([GOOD], store) == 1
    ticket = store.run(GOOD.run_id).path / "tickets/0.safetensors"
    ticket.write_bytes(b"something else")
    with caplog.at_level(logging.WARNING):
        assert do([GOOD], store, retry=True) == 0
    assert str(ticket) in caplog.text


def test_damaged_notes_of_one_run_do_not_stop_the_others(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert do([BAD], store) == 1
    for name in ("provenance.json", "error.json", "attempts.json"):
        (store.run(BAD.run_id).path / name).write_text("[1")
    assert do([BAD, GOOD], store) == 1
    assert do([BAD, GOOD], store, retry=True) == 1
    assert store.run(GOOD.run_id).status() == "done"
    error = store.run(BAD.run_id).error()
    assert error is not None
    assert error.type == "DivergedError"


# -- what keeps a worker from a run ------------------------------------------------------------------------------------


def test_a_run_that_a_live_process_holds_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, folder = Store(tmp_path), Store(tmp_path).run(GOOD.run_id)
    lock, sleeps = RunLock(folder.path / "lock"), []
    lock.__enter__()

    def release(seconds: float) -> None:
        assert folder.status() == "running"
        sleeps.append(seconds)
        lock.__exit__()

    monkeypatch.setattr(worker.time, "sleep", release)
    assert do([GOOD], store) == 0
    assert len(sleeps) == 1


@pytest.mark.parametrize(("age", "said"), [(0, ""), (3600, ", silent for 60 min by this machine's clock"), (-3600, "")])
def test_a_run_held_on_another_machine_is_running_and_a_long_silence_is_said(
    age: float, said: str, tmp_path: Path
) -> None:
    store, lock = Store(tmp_path), Store(tmp_path).run(GOOD.run_id).path / "lock"
    with RunLock(lock):
        content = json.loads(lock.read_text())
    lock.write_text(json.dumps({**content, "host": "elsewhere", "heartbeat": content["heartbeat"] - age}))
    readiness = StoreView(store).run(GOOD)
    assert readiness.state == "running"
    assert readiness.reason.startswith(f"process {content['pid']} on elsewhere{said}")
    assert ("silent" in readiness.reason) == bool(said)


def test_a_worker_whose_store_was_moved_ends_and_makes_no_other_at_the_old_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, trained = Store(tmp_path / "results"), worker.train_run

    def moves(*arguments: object) -> None:
        trained(*arguments)
        store.root.rename(tmp_path / "moved")

    monkeypatch.setattr(worker, "train_run", moves)
    with pytest.raises(UserError, match="results: gone, as somebody moved or deleted it"):
        do([GOOD, dense_spec(epochs=5)], store)
    assert not store.root.exists()
    assert Store(tmp_path / "moved").run(GOOD.run_id).status() == "done"


def test_other_images_than_the_store_was_made_from_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.record_data("digits", DataRecord("images-0123456789ab", None, "other digits"))
    with pytest.raises(UserError, match=r"images-0123456789ab.*--store"):
        do([GOOD], store)
    assert store.run(GOOD.run_id).status() == "missing"


def test_three_attempts_that_got_no_further_and_the_run_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    path = store.run(BAD.run_id).path
    path.mkdir(parents=True)
    for attempt in range(1, 4):
        assert StoreView(store).run(BAD).now, f"before attempt {attempt}"
        assert begin_attempt(path, "train").attempts == attempt  # and the process dies
    given_up = StoreView(store).run(BAD)
    assert given_up.state == "failed"
    assert "3 attempts in a row ended without getting any further" in given_up.reason
    with caplog.at_level(logging.ERROR):
        assert do([BAD, GOOD], store) == 1
    assert "gave up" in caplog.text
    assert not (path / "history.jsonl").exists()
    (path / "checkpoint.pt").touch()  # an attempt that got further
    assert StoreView(store).run(BAD).now


def test_retry_takes_up_again_what_was_given_up(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.run(GOOD.run_id).path
    path.mkdir(parents=True)
    for _ in range(3):
        begin_attempt(path, "train")
    assert do([GOOD], store) == 1
    assert do([GOOD], store, retry=True) == 0


def test_a_killed_worker_s_lock_on_what_is_given_up_is_removed(tmp_path: Path) -> None:
    """Another machine, such as a login node, cannot know that its holder is dead: it would tell of a run at work."""
    store = Store(tmp_path)
    lock = store.run(GOOD.run_id).path / "lock"
    with RunLock(lock):
        content = json.loads(lock.read_text())
        for _ in range(3):
            begin_attempt(lock.parent, "train")
    lock.write_text(json.dumps({**content, "pid": 2**22 + 1}))  # no process has that number
    assert do([GOOD], store) == 1
    assert not lock.exists()


def test_a_set_that_kills_its_workers_is_given_up_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert do(Work(runs=(RunWork(spec=GOOD, cell="no sets"),)), store) == 0
    for _ in range(3):
        begin_attempt(store.run(GOOD.run_id).path, "test")
    assert do([GOOD], store) == 1
    assert set(StoredLogits.of_run(store.run(GOOD.run_id)).records()) == {"validation"}
    assert do([GOOD], store, retry=True) == 0


def test_a_polite_signal_counts_no_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    real = trainer_module.Trainer.train_epoch

    def interrupted(*arguments: object) -> object:
        signal.raise_signal(signal.SIGTERM)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer_module.Trainer, "train_epoch", interrupted)
    for _ in range(4):
        assert do([GOOD], store) == 75
    monkeypatch.undo()
    assert do([GOOD], store) == 0
    assert len(store.run(GOOD.run_id).sessions()) == 5


def test_a_gpu_that_is_not_there_is_a_clear_error() -> None:
    from bench.work.context import find_device

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="--device cuda"):
        find_device("cuda")


@pytest.mark.parametrize("full", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("own", [False, True])
def test_a_full_disk_ends_everything_with_one_message(
    full: int, own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.save says RuntimeError when a disk or quota is full; that no more can be written tells it apart."""
    fsync = os.fsync

    def save(_: object, path: Path) -> None:
        path.write_bytes(b"the first bytes")
        if not own:
            raise OSError(full, os.strerror(full))
        raise RuntimeError("[enforce fail] unexpected pos")

    def flush(number: int) -> None:
        if Path(f"/proc/self/fd/{number}").readlink().name.endswith("checkpoint.pt"):
            raise OSError(full, os.strerror(full))
        fsync(number)

    monkeypatch.setattr(torch, "save", save)
    monkeypatch.setattr(os, "fsync", flush)
    with pytest.raises(UserError, match="disk is full"):
        do([GOOD], Store(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_become_a_request_and_a_second_ctrl_c_acts_at_once(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        stop.check()
        signal.raise_signal(number)
        with pytest.raises(InterruptedRunError, match=number.name):
            stop.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(number) is before


# -- runs that start from others ---------------------------------------------------------------------------------------

CHILD = child_spec(prune_finetune(Setting(members=1, learning_rate=0.05), epochs=1, dense_epochs=3))
PARENT = with_parent(CHILD)[0]


def test_an_altered_parent_blocks_its_child_and_stops_no_other_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    assert do([PARENT], store) == 0
    alter(store.run(PARENT.run_id).tensor_file("tickets", 0))
    with caplog.at_level(logging.WARNING):
        assert do([CHILD, GOOD], store) == 1
    assert "blocked, its parent is damaged" in caplog.text
    assert store.run(CHILD.run_id).error() is None
    assert store.run(GOOD.run_id).status() == "done"


def test_a_child_of_a_failed_parent_is_blocked_and_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    store.run(PARENT.run_id).path.mkdir(parents=True)
    (store.run(PARENT.run_id).path / "error.json").write_text('{"type": "ValueError", "message": "no"}')
    with caplog.at_level(logging.INFO):
        assert do([PARENT, CHILD, GOOD], store) == 1
    assert store.run(GOOD.run_id).status() == "done"
    assert f"blocked: its parent {PARENT.run_id} failed (ValueError: no)" in caplog.text
    assert "3 runs: 1 failed, 1 blocked, 1 done" in caplog.text


def test_a_child_of_a_parent_made_again_otherwise_is_damaged_until_it_is_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert do([PARENT, CHILD], store) == 0
    before = outcome(tmp_path, CHILD)
    path = store.run(PARENT.run_id).path / "result.json"
    result = json.loads(path.read_text())
    result["files"]["tickets/0.safetensors"]["sha256"] = "0" * 64  # as of another machine's parent
    path.write_text(json.dumps({**result, "checksum": checksum_of(result)}))
    assert StoreView(store).run(CHILD).state == "damaged"
    assert store.run(CHILD.run_id).status() == "done"
    # --retry makes the parent again, since its ticket is not what it says, to the bits that the child started from
    assert do([PARENT, CHILD], store, retry=True) == 0
    assert StoreView(store).run(CHILD).state == "done"
    assert outcome(tmp_path, CHILD) == before


def test_logits_of_a_child_are_made_again_without_its_parent(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert do([PARENT, CHILD], store) == 0
    logits = store.run(CHILD.run_id).path / "logits/test.safetensors"
    before = logits.read_bytes()
    shutil.rmtree(store.run(PARENT.run_id).path)
    alter(logits)
    assert do([CHILD], store, retry=True) == 0
    assert logits.read_bytes() == before


def test_a_child_draws_other_images_than_its_parent_of_the_same_seed() -> None:
    assert CHILD.seed == PARENT.seed == PARENT.stream != CHILD.stream
