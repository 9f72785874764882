"""Runs in a row: what happens when one fails, is locked, damaged, or was done before."""

import errno
import json
import logging
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.errors import UserError
from bench.recipes import Setting
from bench.recipes.pruning import prune_finetune
from bench.spec.run import RunSpec
from bench.store.folders import DataRecord, Store
from bench.store.lock import RunLock
from bench.training import trainer as trainer_module
from bench.work.executor import Executor
from bench.work.runner import run_plan
from bench.work.signals import InterruptedRunError, StopRequest
from tests.training.runs import Planned, child_spec, dense_spec, edst_spec, outcome, planned

GOOD = dense_spec(epochs=4)
BAD = dense_spec(epochs=4, learning_rate=1e4)


def test_a_failure_is_recorded_and_the_others_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, runs = Store(tmp_path), [Planned(BAD), Planned(GOOD)]
    assert run_plan(runs, store) == 1
    bad, good = store.run(BAD.run_id), store.run(GOOD.run_id)
    assert (bad.status(), good.status()) == ("failed", "done")
    error = bad.error()
    assert error is not None
    assert (error["type"], error["attempt"]) == ("DivergedError", 1)
    assert error["traceback"][-1].endswith(error["message"])

    written = (good.path / "result.json").stat().st_mtime_ns
    with caplog.at_level(logging.ERROR):
        assert run_plan(runs, store) == 1
    assert "--retry" in caplog.text
    assert (bad.error() or {})["attempt"] == 1
    assert run_plan(runs, store, retry=True) == 1
    assert (bad.error() or {})["attempt"] == 2
    assert (good.path / "result.json").stat().st_mtime_ns == written


def test_a_limit_leaves_the_rest_for_later(tmp_path: Path) -> None:
    other = dense_spec(epochs=4, seed=19)
    runs = [Planned(GOOD), Planned(other)]
    assert run_plan(runs, Store(tmp_path), limit=1) == 1
    assert [Store(tmp_path).run(run.spec.run_id).status() for run in runs] == ["done", "missing"]
    assert run_plan(runs, Store(tmp_path), limit=1) == 0


def test_stored_logits_are_those_of_the_stored_tickets(tmp_path: Path) -> None:
    spec = edst_spec()
    assert run_plan([Planned(spec)], Store(tmp_path)) == 0
    folder = Store(tmp_path).run(spec.run_id)
    result = folder.result()
    logits, labels = folder.logits("validation")
    assert logits.shape == (2, 60, 10)
    accuracies = (logits.argmax(axis=2) == labels).mean(axis=1)
    np.testing.assert_allclose(accuracies, [ticket["validation_accuracy"] for ticket in result["tickets"]])
    assert folder.logits("test")[0].shape == (2, 60, 10)
    for index, ticket in enumerate(result["tickets"]):
        masks = folder.masks(index)
        assert sum(m.sum() for m in masks.values()) / sum(m.size for m in masks.values()) == ticket["density"]
        assert not any(folder.ticket(index)[name][~mask].any() for name, mask in masks.items())
    assert not (folder.path / "checkpoint.pt").exists()
    assert not list(folder.path.rglob(".tmp-*"))


def test_damaged_logits_are_made_again_from_the_tickets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    assert run_plan([Planned(GOOD)], store) == 0
    before = outcome(tmp_path, GOOD)
    logits = store.run(GOOD.run_id).path / "logits/test.safetensors"
    logits.write_bytes(logits.read_bytes()[:100])
    assert store.run(GOOD.run_id).status() == "damaged"
    with caplog.at_level(logging.ERROR):
        assert run_plan([Planned(GOOD)], store) == 1
    assert str(logits) in caplog.text

    def no_training(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(trainer_module.Trainer, "train_epoch", no_training)
    assert run_plan([Planned(GOOD)], store, retry=True) == 0
    assert outcome(tmp_path, GOOD) == before


@pytest.mark.parametrize("name", ["logits/test.safetensors", "tickets/0.safetensors"])
def test_a_file_altered_within_its_size_is_found_by_retry(name: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert run_plan([Planned(GOOD)], store) == 0
    before = outcome(tmp_path, GOOD)
    file = store.run(GOOD.run_id).path / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert run_plan([Planned(GOOD)], store, retry=True) == 0
    assert outcome(tmp_path, GOOD) == before


def test_a_ticket_lost_before_the_run_was_done_starts_it_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)

    def failing(*_: object) -> None:
        raise RuntimeError("no evaluation today")

    with monkeypatch.context() as patch:
        patch.setattr(Executor, "_evaluate", failing)
        assert run_plan([Planned(GOOD)], store) == 1
    ticket = store.run(GOOD.run_id).path / "tickets/0.safetensors"
    ticket.write_bytes(b"something else")
    with caplog.at_level(logging.WARNING):
        assert run_plan([Planned(GOOD)], store, retry=True) == 0
    assert str(ticket) in caplog.text


def test_damaged_notes_of_one_run_do_not_stop_the_others(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert run_plan([Planned(BAD)], store) == 1
    for name in ("provenance.json", "error.json"):
        (store.run(BAD.run_id).path / name).write_text("[1")
    assert run_plan([Planned(BAD), Planned(GOOD)], store, retry=True) == 1
    assert store.run(GOOD.run_id).status() == "done"
    assert (store.run(BAD.run_id).error() or {})["type"] == "DivergedError"


def test_a_damaged_ticket_is_trained_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert run_plan([Planned(GOOD)], store) == 0
    before = outcome(tmp_path, GOOD)
    ticket = store.run(GOOD.run_id).path / "tickets/0.safetensors"
    ticket.unlink()
    assert run_plan([Planned(GOOD)], store, retry=True) == 0
    assert outcome(tmp_path, GOOD) == before


def test_a_locked_run_is_left_to_its_holder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = Store(tmp_path).run(GOOD.run_id)
    with RunLock(folder.path / "lock"), caplog.at_level(logging.WARNING):
        assert folder.status() == "running"
        with pytest.raises(Exception, match="held by process"):
            Executor(Store(tmp_path), device="cpu").execute(GOOD, "title")
        assert run_plan([Planned(GOOD)], Store(tmp_path)) == 1
    assert folder.status() == "missing"
    assert folder.error() is None


def test_other_images_than_the_store_was_made_from_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.record_data("digits", DataRecord("images-0123456789ab", None, "other digits"))
    with pytest.raises(UserError, match=r"images-0123456789ab.*--store"):
        run_plan([Planned(GOOD)], store)
    assert store.run(GOOD.run_id).status() == "missing"


def test_a_gpu_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="--device cuda"):
        run_plan([Planned(GOOD)], Store(tmp_path), device="cuda")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("[enforce fail] unexpected pos")]
)
def test_a_full_disk_ends_everything_with_one_message(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.save says RuntimeError when the disk is full; that nothing is free tells the two apart."""

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(UserError, match="disk is full"):
        run_plan([Planned(GOOD)], Store(tmp_path))


def test_result_lists_the_checksum_of_every_file(tmp_path: Path) -> None:
    import hashlib

    run_plan([Planned(GOOD)], Store(tmp_path))
    path = Store(tmp_path).run(GOOD.run_id).path
    listed = json.loads((path / "result.json").read_text())["files"]
    present = {str(f.relative_to(path)) for f in path.rglob("*") if f.is_file()} - {"result.json"}
    assert set(listed) == present
    for name, recorded in listed.items():
        assert recorded["sha256"] == hashlib.sha256((path / name).read_bytes()).hexdigest()


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
ALTERED_BYTE = -1


def train_family(store: Store) -> None:
    assert run_plan(planned(CHILD), store) == 0


def alter(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[ALTERED_BYTE] ^= 1
    file.write_bytes(content)


def test_an_altered_parent_blocks_its_child_and_stops_no_other_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    parent, child = planned(CHILD)
    assert run_plan([parent], store) == 0
    alter(store.run(parent.spec.run_id).tensor_file("tickets", 0))
    with caplog.at_level(logging.WARNING):
        assert run_plan([child, Planned(GOOD)], store) == 1
    assert "blocked, its parent is damaged" in caplog.text
    assert store.run(child.spec.run_id).error() is None
    assert store.run(GOOD.run_id).status() == "done"


def test_a_limit_is_not_used_up_by_blocked_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    parent, child = planned(CHILD)
    store.run(parent.spec.run_id).path.mkdir(parents=True)
    (store.run(parent.spec.run_id).path / "error.json").write_text('{"type": "ValueError", "message": "no"}')
    with caplog.at_level(logging.INFO):
        assert run_plan([parent, child, Planned(GOOD)], store, limit=1) == 1
    assert store.run(GOOD.run_id).status() == "done"
    assert f"blocked, its parent {parent.spec.run_id} failed (ValueError: no)" in caplog.text
    assert "3 runs: 1 failed, 1 blocked, 1 done" in caplog.text


def test_a_child_of_a_parent_made_again_otherwise_is_damaged_until_it_is_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    train_family(store)
    parent, child = (run.spec for run in planned(CHILD))
    before = outcome(tmp_path, child)
    result = store.run(parent.run_id).result()
    result["files"]["tickets/0.safetensors"]["sha256"] = "0" * 64  # as of another machine's parent
    (store.run(parent.run_id).path / "result.json").write_text(json.dumps(result))
    assert store.status(child) == "damaged"
    assert store.run(child.run_id).status() == "done"
    # --retry makes the parent again, since its ticket is not what it says, to the bits that the child started from
    assert run_plan(planned(CHILD), store, retry=True) == 0
    assert store.status(child) == "done"
    assert outcome(tmp_path, child) == before


def test_logits_of_a_child_are_repaired_without_its_parent(tmp_path: Path) -> None:
    store = Store(tmp_path)
    train_family(store)
    parent, child = (run.spec for run in planned(CHILD))
    before = outcome(tmp_path, child)
    shutil.rmtree(store.run(parent.run_id).path)
    alter(store.run(child.run_id).path / "logits/test.safetensors")
    assert run_plan([Planned(child)], store, retry=True) == 0
    assert all(before[name] == content for name, content in outcome_of_files(tmp_path, child).items())


def outcome_of_files(store: Path, spec: RunSpec) -> dict[str, bytes]:
    folder = Store(store).run(spec.run_id)
    files = [file for kind in ("tickets", "logits") for file in folder.tensors(kind)]
    return {str(file.relative_to(folder.path)): file.read_bytes() for file in files}


def test_a_child_draws_other_images_than_its_parent_of_the_same_seed() -> None:
    assert CHILD.parent is not None
    assert CHILD.seed == CHILD.parent.seed == CHILD.parent.stream != CHILD.stream
