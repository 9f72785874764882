"""Evaluating finished runs: what is missing and nothing else, set by set, around damage and interruptions."""

import errno
import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from bench.__main__ import main
from bench.data.loading import ImageLoader
from bench.data.sources import variant_of
from bench.data.streamed.source import test_order as order_of_tests
from bench.errors import UserError
from bench.models.build import build_model
from bench.plan import Plan, make_plan, work_of
from bench.spec.run import RunSpec
from bench.store.lock import LockLostError, RunLock
from bench.store.logits import StoredLogits, ensemble_logits
from bench.store.records import Failure
from bench.store.samples import samples_file
from bench.store.store import Store
from bench.work import evaluate as module
from bench.work import worker
from bench.work.signals import EXIT_INTERRUPTED
from tests.data.cifar_c import flip_byte, write_release
from tests.data.shifts import write_openood, write_shift
from tests.data.streamed.photographs import write_imagenet
from tests.grid_text import load_text, write_grid
from tests.store.runs import result_facts, ticket
from tests.training.runs import do

TEXT = """
base:
  data: {name: digits, train_images: 60, validation_images: 30, test_images: 30}
  model: {name: wide_resnet, depth: 10, width: 1}
replicates: 1
cells:
  - {name: dense, method: dense, recipe: {epochs: 3}}
  - {name: three, method: dense, members: 3, recipe: {epochs: 3}}
  - {name: snapshots, method: snapshot, members: 2, recipe: {cycle_epochs: 2}}
"""
ASKED = """
evaluations:
  local_c: {types: [fog, contrast], severities: [1, 3]}
  ood: {sets: [uniform], images: 20}
  fgsm: {budgets: [8], images: 10}
  pgd: {budgets: [8], images: 10, steps: 2}
"""


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def plan_of(folder: Path, store: Store, evaluations: str = ASKED, text: str = TEXT) -> Plan:
    return make_plan(load_text(folder, text + evaluations), "paper", store)


def finish(store: Store, spec: RunSpec, classes: int = 10) -> None:
    """Write a finished run without training it: each ticket has initial weights of its own."""
    folder = store.run(spec.run_id)
    folder.write_spec(spec)
    folder.write_history([])
    folder.write_provenance(())
    tickets = []
    for index in range(spec.tickets):
        weights = build_model(spec.model, classes, spec.seed + 1000 * index).state_dict()
        checksum = folder.write_ticket(index, {name: t.numpy() for name, t in weights.items()}, {})
        tickets.append(ticket(index, sha256=checksum))
    folder.finish(**result_facts(tickets, run=spec.run_id))
    logits = StoredLogits.of_run(folder)
    for name in ("test", "validation") if classes == 10 else ():
        logits.write(name, np.zeros((spec.tickets, 30, 10), np.float32), np.zeros(30, np.int64))


def finished(folder: Path, store: Store, evaluations: str = ASKED, text: str = TEXT) -> Plan:
    for run in plan_of(folder, store, evaluations, text).runs:
        finish(store, run.spec)
    return plan_of(folder, store, evaluations, text)


def evaluate(plan: Plan, store: Store, **options: bool) -> int:
    return do(work_of(plan, plan.runs), store, **options)


def logits_files(store: Store) -> dict[str, int]:
    """Return every file of an evaluation set with the time it was written."""
    files = [*store.root.rglob("logits/*/**/*.safetensors")]
    return {str(file.relative_to(store.root)): file.stat().st_mtime_ns for file in files}


def no_passes(*_: object, **__: object) -> None:
    raise AssertionError("evaluated again")


# -- what is made ------------------------------------------------------------------------------------------------------


def test_every_run_and_ensemble_gets_the_sets_it_lacks(tmp_path: Path, store: Store) -> None:
    plan = finished(tmp_path, store)
    assert (plan.sets, plan.sets_left) == (4 * 7 + 3 * 2, 4 * 5 + 3 * 2)
    assert evaluate(plan, store) == 0
    assert plan_of(tmp_path, store).sets_left == 0
    snapshots = StoredLogits.of_run(store.run(plan.cells[2].runs[0][0]))
    logits, labels = snapshots.logits("local-c/fog/3")
    assert (logits.shape, labels.shape) == ((2, 30, 10), (30,))
    assert snapshots.logits("ood-20-images/uniform")[1].tolist() == [-1] * 20
    of_three = ensemble_logits(store, plan.ensembles[1].ensemble)
    assert of_three.logits("pgd-2-10-images/8")[0].shape == (4, 3, 10, 10)
    assert ensemble_logits(store, plan.ensembles[0].ensemble).logits("fgsm-10-images/8")[0].shape == (1, 1, 10, 10)


def test_finished_sets_are_never_made_twice(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = finished(tmp_path, store)
    evaluate(plan, store)
    before = logits_files(store)
    monkeypatch.setattr(module, "predict_together", no_passes)
    monkeypatch.setattr(module, "attack_ensemble", no_passes)
    assert evaluate(plan, store) == 0
    assert logits_files(store) == before


def test_a_set_that_is_added_later_is_made_alone_and_trains_nothing(tmp_path: Path, store: Store) -> None:
    evaluate(finished(tmp_path, store, "evaluations: {local_c: {types: [fog], severities: [1]}}"), store)
    before = logits_files(store)
    more = plan_of(tmp_path, store, "evaluations: {local_c: {types: [fog], severities: [1, 2]}, fgsm: {images: 5}}")
    assert (more.sets, more.sets_left) == (4 * 4 + 3, 4 + 3)
    assert evaluate(more, store) == 0
    after = logits_files(store)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 4 + 3


def test_runs_that_failed_are_left_and_so_are_their_ensembles(tmp_path: Path, store: Store) -> None:
    plan = plan_of(tmp_path, store)
    finish(store, plan.runs[0].spec)
    for run in plan.runs[1:]:
        store.run(run.id).write_failure(Failure(type="ValueError", message="no"))
    assert evaluate(plan_of(tmp_path, store), store) == 1
    left = plan_of(tmp_path, store)
    assert [run.evaluated for run in left.runs] == [7, 0, 0, 0]
    assert [attacked.evaluated for attacked in left.ensembles] == [2, 0, 0]


def test_the_first_test_image_is_kept_under_every_corruption(tmp_path: Path, store: Store) -> None:
    evaluate(finished(tmp_path, store), store)
    samples = load_file(samples_file(store, "digits", "local-c"))
    assert samples["severities"].tolist() == [1, 3]
    assert samples["fog"].shape == samples["contrast"].shape == (3, 32, 32, 3)
    assert not np.array_equal(samples["fog"][0], samples["fog"][1])
    assert np.array_equal(samples["fog"][0], samples["contrast"][0])


def test_a_finished_store_whose_samples_are_gone_gets_them_again(tmp_path: Path, store: Store) -> None:
    evaluate(finished(tmp_path, store), store)
    file = samples_file(store, "digits", "local-c")
    before = file.read_bytes()
    file.unlink()
    with pytest.raises(SystemExit) as ended:
        main(["run", str(write_grid(tmp_path, TEXT + ASKED)), "--store", str(store.root)])
    assert ended.value.code == 0
    assert file.read_bytes() == before


def test_a_finished_store_needs_no_images(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = finished(tmp_path, store)
    assert evaluate(plan, store) == 0

    def no_images(*_: object) -> None:
        raise AssertionError("images were opened")

    monkeypatch.setattr(ImageLoader, "load", no_images)
    monkeypatch.setattr(module.EvaluationSets, "open", no_images)
    assert evaluate(plan, store) == 0


def test_a_process_that_lost_its_lock_writes_nothing(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plan = finished(tmp_path, store)
    real = module.predict_together

    def lose_the_lock(self: RunLock) -> None:
        raise LockLostError(f"{self.path} now belongs to another process")

    def pass_and_lose(*arguments: object, **options: object) -> object:
        result = real(*arguments, **options)  # type: ignore[arg-type]
        monkeypatch.setattr(RunLock, "check", lose_the_lock)
        return result

    monkeypatch.setattr(module, "predict_together", pass_and_lose)
    with caplog.at_level(logging.WARNING):
        assert evaluate(plan, store) == 1
    assert "left to another process" in caplog.text
    assert logits_files(store) == {}


def test_an_attack_on_tickets_that_are_no_longer_there_is_not_kept(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plan = finished(tmp_path, store)
    ensemble, attack = plan.ensembles[0].ensemble, module.attack_ensemble

    def made_again_meanwhile(*arguments: Any, **options: Any) -> object:
        monkeypatch.setattr(module, "attack_ensemble", attack)
        made = attack(*arguments, **options)
        folder = store.run(ensemble.runs[0])
        weights = folder.ticket(0)
        folder.write_ticket(0, {name: tensor + 1 for name, tensor in weights.items()}, {})
        folder.record_again("tickets/0.safetensors")
        return made

    monkeypatch.setattr(module, "attack_ensemble", made_again_meanwhile)
    with caplog.at_level(logging.ERROR):
        assert evaluate(plan, store) == 1
    assert "a run of it was made again meanwhile" in caplog.text
    assert ensemble_logits(store, ensemble).records() == {}


# -- damage ------------------------------------------------------------------------------------------------------------


def one_set(store: Store, plan: Plan) -> Path:
    return store.run(plan.runs[0].id).path / "logits/local-c/fog/3.safetensors"


def test_a_set_that_was_lost_or_cut_is_made_again(tmp_path: Path, store: Store) -> None:
    plan = finished(tmp_path, store)
    evaluate(plan, store)
    file = one_set(store, plan)
    content = file.read_bytes()
    for damaged in (None, content[:100]):
        file.unlink()
        if damaged is not None:
            file.write_bytes(damaged)
        assert plan_of(tmp_path, store).sets_left == 1
        assert evaluate(plan, store) == 0
        assert file.read_bytes() == content


def test_a_byte_that_was_altered_is_found_by_readers_and_mended_by_retry(tmp_path: Path, store: Store) -> None:
    plan = finished(tmp_path, store)
    evaluate(plan, store)
    file = one_set(store, plan)
    content = file.read_bytes()
    flip_byte(file, -1)
    with pytest.raises(UserError, match=r"fog/3\.safetensors: gone, truncated or altered.*--retry"):
        StoredLogits.of_run(store.run(plan.runs[0].id)).logits("local-c/fog/3")
    evaluate(plan, store)
    assert file.read_bytes() != content  # a hash of everything at every call would take minutes
    assert evaluate(plan, store, retry=True) == 0
    assert file.read_bytes() == content


def test_sets_made_with_other_tickets_do_not_count(tmp_path: Path, store: Store) -> None:
    plan = finished(tmp_path, store)
    evaluate(plan, store)
    spec = plan.runs[0].spec
    folder = store.run(spec.run_id)
    weights = build_model(spec.model, 10, 77).state_dict()
    folder.write_ticket(0, {name: t.numpy() for name, t in weights.items()}, {})
    folder.finish(**result_facts([ticket(0)]))
    again = plan_of(tmp_path, store)
    assert again.runs[0].evaluated == 0
    # its own ensemble, and the ensemble of three that it is a member of
    assert [one.evaluated for one in again.ensembles] == [0, 0, 2]
    assert evaluate(again, store) == 0
    assert plan_of(tmp_path, store).sets_left == 0


def test_a_damaged_ticket_costs_its_own_sets_alone(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    plan = finished(tmp_path, store)
    ticket = store.run(plan.runs[0].id).path / "tickets/0.safetensors"
    flip_byte(ticket, -1)
    with caplog.at_level(logging.ERROR):
        assert evaluate(plan, store) == 1
    assert f"{ticket}: its SHA-256 is not the one in result.json" in caplog.text
    assert [run.evaluated for run in plan_of(tmp_path, store).runs] == [2, 7, 7, 7]


def test_altered_records_are_named_and_the_rest_goes_on(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    plan = finished(tmp_path, store)
    evaluate(plan, store)
    records = store.run(plan.runs[0].id).path / "evaluations.json"
    records.write_text('{"local-c/fog/1": {"bytes": "many"}}')
    assert [run.evaluated for run in plan_of(tmp_path, store).runs] == [0, 7, 7, 7]
    with caplog.at_level(logging.ERROR):
        assert evaluate(plan, store) == 1
    assert f"{records}: not records of evaluations" in caplog.text
    records.unlink()
    assert evaluate(plan, store) == 0


def test_a_failure_costs_its_run_alone(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plan = finished(tmp_path, store)
    real = module.load_networks

    def fail_once(spec: RunSpec, *arguments: object, **options: object) -> object:
        if spec.run_id == plan.runs[0].id:
            raise RuntimeError("CUDA out of memory")
        return real(spec, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "load_networks", fail_once)
    with caplog.at_level(logging.ERROR):
        assert evaluate(plan, store) == 1
    assert "evaluation failed: RuntimeError: CUDA out of memory" in caplog.text
    assert [run.evaluated for run in plan_of(tmp_path, store).runs] == [2, 7, 7, 7]


def test_a_full_disk_ends_the_call_with_what_to_do(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = finished(tmp_path, store)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(StoredLogits, "write", full)
    with pytest.raises(UserError, match="the disk is full; free some space, then run the same command"):
        evaluate(plan, store)


# -- images that are not to be had -------------------------------------------------------------------------------------

CIFAR = TEXT.replace(
    "{name: digits, train_images: 60, validation_images: 30, test_images: 30}", "{name: cifar10, test_images: 4}"
)
RELEASED = "evaluations: {cifar_c: {types: [fog, frost, snow], severities: [1, 5]}}"


@pytest.fixture
def release(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setattr(module.Evaluator, "write_samples", lambda *_: None)  # would need the clean images
    return write_release(data_folder, monkeypatch)


def counts(plan: Plan) -> list[int]:
    return [run.evaluated for run in plan.runs]


def test_released_arrays_are_evaluated_with_their_own_labels(
    tmp_path: Path, store: Store, release: tuple[Path, Path]
) -> None:
    del release
    plan = finished(tmp_path, store, RELEASED, CIFAR)
    assert evaluate(plan, store) == 0
    logits, labels = StoredLogits.of_run(store.run(plan.runs[0].id)).logits("cifar-10-c/snow/5")
    assert (logits.shape, labels.tolist()) == ((1, 4, 10), [3, 8, 8, 0])


@pytest.mark.parametrize("damage", ["altered", "removed"])
def test_a_bad_array_is_one_clear_error_and_the_rest_is_evaluated(
    damage: str, tmp_path: Path, store: Store, release: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder, archive = release
    archive.unlink()
    array = folder / "frost.npy"
    if damage == "altered":
        flip_byte(array, -1)
    else:
        array.unlink()
    plan = finished(tmp_path, store, RELEASED, CIFAR)
    with caplog.at_level(logging.ERROR):
        assert evaluate(plan, store) == 1
    assert counts(plan_of(tmp_path, store, RELEASED, CIFAR)) == [6, 6, 6, 6]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1, "an error for a file, not for each run and severity"
    assert str(array) in errors[0]


def test_a_cut_archive_gives_what_is_left_of_it(
    tmp_path: Path, store: Store, release: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder, archive = release
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * 0.7)])
    plan = finished(tmp_path, store, RELEASED, CIFAR)
    with caplog.at_level(logging.ERROR):
        assert evaluate(plan, store) == 1
    assert counts(plan_of(tmp_path, store, RELEASED, CIFAR)) == [6, 6, 6, 6]
    assert str(archive) in caplog.text


def test_a_set_that_is_nowhere_leaves_the_others_alone(
    tmp_path: Path,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts = []

    def refuse(*_: object, **__: object) -> None:
        attempts.append(1)
        raise UserError("data/CIFAR-10-C.tar: could not be downloaded")

    monkeypatch.setattr("bench.data.sets.cifar_c.Release.open", refuse)
    monkeypatch.setattr(module.Evaluator, "write_samples", lambda *_: None)
    both = "evaluations: {cifar_c: {types: [fog, snow]}, ood: {sets: [gaussian], images: 5}}"
    plan = finished(tmp_path, store, both, CIFAR)
    with caplog.at_level(logging.ERROR):
        assert evaluate(plan, store) == 1
    assert counts(plan_of(tmp_path, store, both, CIFAR)) == [3, 3, 3, 3]
    assert len(attempts) == 1
    assert caplog.text.count("could not be downloaded") == 1


def test_images_that_cannot_be_read_cost_their_set_alone(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = module.predict_together

    def fail_on_fog(*arguments: object, **options: object) -> object:
        if str(arguments[2]).startswith("local-c/fog/"):
            raise OSError(errno.EIO, "Input/output error", "fog.safetensors")
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "predict_together", fail_on_fog)
    plan = finished(tmp_path, store)
    with caplog.at_level(logging.ERROR):
        assert evaluate(plan, store) == 1
    assert counts(plan_of(tmp_path, store)) == [5, 5, 5, 5]
    assert "local-c/fog/1 is left out: [Errno 5] Input/output error: 'fog.safetensors'" in caplog.text


# -- interruptions and other processes ---------------------------------------------------------------------------------


def test_after_a_signal_the_same_call_continues_with_the_next_set(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = finished(tmp_path, store)
    real, made = module.predict_together, []

    def pass_then_signal(*arguments: object, **options: object) -> object:
        made.append(arguments[2])
        result = real(*arguments, **options)  # type: ignore[arg-type]
        if len(made) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(module, "predict_together", pass_then_signal)
    assert evaluate(plan, store) == EXIT_INTERRUPTED
    before = logits_files(store)
    assert len(before) == 3 * 4
    assert evaluate(plan, store) == 0
    after = logits_files(store)
    assert {name: after[name] for name in before} == before
    assert len(made) == 5 + 1  # the set during which the signal was noticed is begun again


def test_a_run_that_another_process_holds_comes_last(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = finished(tmp_path, store)
    lock = RunLock(store.run(plan.runs[0].id).path / "lock")
    lock.__enter__()

    def release(_: float) -> None:
        assert [run.evaluated for run in plan_of(tmp_path, store).runs] == [2, 7, 7, 7]
        lock.__exit__()

    monkeypatch.setattr(worker.time, "sleep", release)
    assert evaluate(plan, store) == 0


# -- ImageNet under natural shift --------------------------------------------------------------------------------------

SMALL_IMAGENET = """
base:
  data: {name: imagenet, image_size: 32, train_images: 60, validation_images: 30, test_images: 10}
  model: {name: resnet_imagenet, depth: 18}
replicates: 1
cells:
  - {name: dense, method: dense, recipe: {epochs: 3}}
evaluations:
  shift: {sets: [imagenet_v2, imagenet_a, imagenet_real]}
  ood: {sets: [ninco]}
"""


def test_natural_shift_is_stored_once_and_other_labels_without_members(
    data_folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_imagenet(data_folder / "imagenet")
    for number, path in enumerate(sorted((data_folder / "imagenet" / "val").rglob("*.JPEG")), start=1):
        path.rename(path.with_name(f"ILSVRC2012_val_{number:08d}.JPEG"))
    write_shift(data_folder, "imagenet_v2", monkeypatch)
    write_openood(data_folder, "ninco")
    (data_folder / "real.json").write_text(json.dumps([[number, 999] for number in range(12)] + [[]] * 49_988))
    variant = variant_of("imagenet", data_folder / "imagenet")

    def planned() -> Plan:
        return make_plan(load_text(tmp_path, SMALL_IMAGENET), "paper", store, {"imagenet": variant})

    (run,) = planned().runs
    finish(store, run.spec, 1000)
    assert evaluate(planned(), store) == 1
    assert "shift/imagenet_a is left out: " in caplog.text
    write_shift(data_folder, "imagenet_a", monkeypatch)
    before = files_of(store.run(run.id).path)
    assert evaluate(planned(), store) == 0
    stored = StoredLogits.of_run(store.run(run.id))
    logits, labels = stored.logits("shift/imagenet_v2")
    assert (logits.shape, sorted(labels.tolist())) == ((1, 4, 1000), [2, 10, 100, 100])
    assert stored.records()["shift/imagenet_v2"].images.startswith("names-")  # type: ignore[union-attr]
    assert stored.logits("ood/ninco")[1].tolist() == [-1, -1, -1]
    # Twelve validation images, sorted by class and number, in the order of tests; the first ten of them test.
    numbers = order_of_tests("imagenet", 12)[:10]
    pairs, truth = stored.label_pairs("labels/imagenet_real")
    assert pairs.tolist() == [[place, label] for place, number in enumerate(numbers) for label in (number, 999)]
    assert truth.tolist() == [5 * (number // 4) for number in numbers] == stored.logits("test")[1].tolist()
    assert stored.logits("labels/imagenet_real")[0].shape == (0, 10, 1000)
    now = files_of(store.run(run.id).path)
    assert {name: now[name] for name in before if name.endswith("safetensors")} == {
        name: content for name, content in before.items() if name.endswith("safetensors")
    }
    assert planned().finished
    labels_file = store.run(run.id).path / "logits/labels/imagenet_real.safetensors"
    flip_byte(labels_file, labels_file.stat().st_size - 9)
    assert evaluate(planned(), store, retry=True) == 0
    assert labels_file.read_bytes() == now["logits/labels/imagenet_real.safetensors"]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
