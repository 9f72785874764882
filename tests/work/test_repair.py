"""`--retry` mends what is damaged, and that alone: nothing intact is removed, made again or trained again."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.errors import UserError
from bench.store.logits import StoredLogits
from bench.store.run_folder import REPLACED_RESULT, RunFolder
from bench.store.store import Store
from bench.training import trainer as trainer_module
from bench.work.readiness import StoreView
from tests.training.runs import dense_spec, do, outcome

SPEC = dense_spec(epochs=4)
# What has to be made again for each damaged file; an empty tuple: nothing but the file itself.
MADE_AGAIN = {
    "spec.yaml": (),
    "provenance.json": (),
    "history.jsonl": (),
    "logits/test.safetensors": ("logits/test.safetensors",),
    "evaluations.json": ("logits/test.safetensors", "logits/validation.safetensors"),
    "tickets/0.safetensors": ("tickets/0.safetensors",),
    "result.json": ("tickets/0.safetensors",),
}


def flipped(content: bytes) -> bytes:
    """Return content with one bit of its middle changed."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": lambda path: path.write_bytes(flipped(path.read_bytes())),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "deep": lambda path: path.write_text("[" * 100_000),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    assert do([SPEC], Store(root)) == 0
    return root


@pytest.fixture
def store(tmp_path: Path, finished: Path) -> Store:
    shutil.copytree(finished, tmp_path / "store")
    return Store(tmp_path / "store")


def tensors(folder: RunFolder) -> dict[str, tuple[int, bytes]]:
    """Return when each file of tensors was written, and its bytes."""
    files = folder.path.rglob("*.safetensors")
    return {str(file.relative_to(folder.path)): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", MADE_AGAIN)
def test_what_is_damaged_is_mended_alone(
    name: str, damage: str, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = store.run(SPEC.run_id)
    before = tensors(folder)
    DAMAGE[damage](folder.path / name)
    if name not in ("tickets/0.safetensors", "result.json"):

        def no_training(*_: object) -> None:
            raise AssertionError("trained again")

        monkeypatch.setattr(trainer_module.Trainer, "train_epoch", no_training)
    with caplog.at_level(logging.WARNING):
        assert do([SPEC], store, retry=True) == 0
    assert str(folder.path) in caplog.text
    after = tensors(folder)
    assert {key: content for key, (_, content) in after.items()} == {
        key: content for key, (_, content) in before.items()
    }
    made_again = {key for key in before if after[key][0] != before[key][0]}
    if (name, damage) == ("evaluations.json", "flipped"):  # one of the two records
        assert made_again < set(MADE_AGAIN[name])
    else:
        assert made_again == set(MADE_AGAIN[name])
    assert folder.status() == "done"
    assert folder.damaged_files(deep=True) == []
    assert not (folder.path / REPLACED_RESULT).exists()


def test_a_run_trained_again_in_vain_keeps_what_it_had(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.run(SPEC.run_id)
    before = tensors(folder)
    result = (folder.path / "result.json").read_bytes()
    damaged = folder.path / "tickets/0.safetensors"
    damaged.write_bytes(b"")

    def fails(*_: object) -> None:
        raise RuntimeError("no training today")

    monkeypatch.setattr(trainer_module.Trainer, "train_epoch", fails)
    assert do([SPEC], store, retry=True) == 1
    assert (folder.path / REPLACED_RESULT).read_bytes() == result
    after = tensors(folder)
    assert {key: after[key] for key in after if key.startswith("logits")} == {
        key: before[key] for key in before if key.startswith("logits")
    }


def test_a_lost_history_is_said_where_it_is_read(store: Store) -> None:
    folder = store.run(SPEC.run_id)
    text = (folder.path / "history.jsonl").read_text()
    (folder.path / "history.jsonl").write_text(text.replace('"epoch": 1', '"epoch": 3'))
    with pytest.raises(UserError, match=r"history\.jsonl: gone, truncated or altered"):
        folder.history()
    assert do([SPEC], store, retry=True) == 0
    assert (folder.path / "history.jsonl.damaged").read_text().startswith('{"schema_version": 1, "epoch": 3')
    with pytest.raises(UserError, match=r"history\.jsonl: empty, since it was damaged once"):
        folder.history()


@pytest.mark.parametrize("name", ["../../0", "/etc/x", "a/../../../b"])
def test_a_record_that_leads_out_of_its_folder_is_refused(name: str, store: Store) -> None:
    path = store.run(SPEC.run_id).path / "evaluations.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, name: {**content["test"], "checksum": None}}))
    with pytest.raises(UserError, match=r"evaluations\.json: .* is no name of a set"):
        StoredLogits.of_run(store.run(SPEC.run_id)).records()


@pytest.mark.parametrize("field", ["seconds", "images_per_second", "device_name"])
def test_a_number_altered_in_a_result_is_found(field: str, store: Store) -> None:
    folder = store.run(SPEC.run_id)
    path = folder.path / "result.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, field: "another" if field == "device_name" else 1.0}))
    with pytest.raises(UserError, match=r"result\.json: its checksum is not that of its content"):
        folder.result()
    assert folder.status() == "damaged"


def test_a_result_without_a_checksum_was_written_before_there_was_one(store: Store) -> None:
    folder = store.run(SPEC.run_id)
    path = folder.path / "result.json"
    content = json.loads(path.read_text())
    del content["checksum"]
    path.write_text(json.dumps(content))
    assert folder.status() == "done"
    assert outcome(store.root, SPEC)["tickets"] == folder.result().tickets


def test_logits_that_are_not_finite_are_stored_counted_and_used_for_nothing(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    logits = StoredLogits.of_run(store.run(SPEC.run_id))
    values, labels = logits.logits("test")
    values = values.copy()
    values[0, 3, 1], values[0, 4, 2] = np.nan, np.inf
    logits.write("test", values, labels)
    assert logits.records()["test"].nonfinite == 2
    with pytest.raises(UserError, match=r"test\.safetensors: not finite: 2 of its 600 logits"):
        logits.logits("test")
    assert StoreView(store).run(SPEC).state == "done"
    with caplog.at_level(logging.ERROR):
        assert do([SPEC], store) == 1
    assert "test: logits not finite: 2" in caplog.text
    assert logits.records()["test"].nonfinite == 2, "the same network says the same again"


GOOD_LOGITS = np.zeros((1, 5, 3), np.float32)
GOOD_LABELS = np.arange(5) % 3


@pytest.mark.parametrize(
    ("logits", "labels", "said"),
    [
        (GOOD_LOGITS[0], GOOD_LABELS, r"logits are float32 \[5, 3\]"),
        (GOOD_LOGITS, GOOD_LABELS.reshape(5, 1), r"labels are int64 \[5, 1\]"),
        (GOOD_LOGITS, GOOD_LABELS[:4], r"labels are int64 \[4\]; allowed: whole numbers \[5\]"),
        (GOOD_LOGITS, GOOD_LABELS.astype(np.float32), "labels are float32"),
        (GOOD_LOGITS, GOOD_LABELS + 1, "labels run from 1 to 3; allowed: -1 to 2"),
        (GOOD_LOGITS, GOOD_LABELS - 2, "labels run from -2 to 0"),
    ],
)
def test_what_is_no_set_of_logits_is_not_written(
    logits: np.ndarray, labels: np.ndarray, said: str, tmp_path: Path
) -> None:
    stored = StoredLogits(tmp_path, {})
    with pytest.raises(ValueError, match=said):
        stored.write("a", logits, labels)
    assert list(tmp_path.iterdir()) == []
