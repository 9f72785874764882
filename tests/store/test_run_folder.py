"""One run's folder: done only when result.json says so, and what was truncated, altered or lost is named."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UserError
from bench.spec.phases import LearningRate, Phase, TicketPolicy
from bench.spec.run import ModelSpec, RunSpec
from bench.store.files import write_json
from bench.store.lock import RunLock
from bench.store.records import Failure
from bench.store.run_folder import RunFolder
from bench.store.store import Store
from tests.store.runs import MASK, RESULT, WEIGHT, epoch, finished_run, run_spec

LISTED = [
    "history.jsonl",
    "provenance.json",
    "spec.yaml",
    "tickets/0.safetensors",
    "tickets/1.safetensors",
]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return finished_run(tmp_path_factory.mktemp("store"))


@pytest.fixture
def folder(pristine: RunFolder, tmp_path: Path) -> RunFolder:
    """Return a copy of a finished run, free to be damaged."""
    return RunFolder(Path(shutil.copytree(pristine.path, tmp_path / "run")))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


class TestReading:
    def test_what_was_written_comes_back(self, pristine: RunFolder) -> None:
        assert pristine.ticket(1).keys() == {"layer.weight", "mask/layer.weight"}
        assert np.array_equal(pristine.ticket(1)["layer.weight"], WEIGHT * 2)
        masks = pristine.masks(0)
        assert masks.keys() == {"layer.weight"}
        assert masks["layer.weight"].dtype == bool
        assert np.array_equal(masks["layer.weight"], MASK)
        assert [line.train_loss for line in pristine.history()] == [2.5, 1.25]
        assert pristine.result().tickets_expected == 2
        assert pristine.result().images_per_second == 123.0
        assert pristine.error() is None

    def test_the_spec_that_was_written_comes_back_and_another_is_refused(self, tmp_path: Path) -> None:
        folder, spec = unfinished(tmp_path), run_spec()
        with pytest.raises(UserError, match=r"spec\.yaml: missing, so this is no folder of a run"):
            RunFolder(tmp_path).spec()
        folder.write_spec(spec)
        assert folder.spec() == spec
        for text in ("seed: [", "seed: 18", "- 18"):
            (folder.path / "spec.yaml").write_text(text)
            with pytest.raises(UserError, match=r"spec\.yaml: not the spec of a run"):
                folder.spec()

    def test_a_dense_ticket_has_no_masks(self, tmp_path: Path) -> None:
        folder = unfinished(tmp_path)
        folder.write_ticket(0, {"layer.weight": WEIGHT}, {})
        folder.finish(**RESULT)
        assert folder.masks(0) == {}

    def test_arrays_in_another_memory_order_are_stored_by_value(self, tmp_path: Path) -> None:
        folder = unfinished(tmp_path)
        folder.write_ticket(0, {"layer.weight": WEIGHT.T}, {})
        folder.finish(**RESULT)
        assert np.array_equal(folder.ticket(0)["layer.weight"], WEIGHT.T)

    def test_equal_runs_are_equal_bytes(self, pristine: RunFolder, tmp_path: Path) -> None:
        again = finished_run(tmp_path)
        assert all((again.path / name).read_bytes() == (pristine.path / name).read_bytes() for name in LISTED)


def unfinished(root: Path) -> RunFolder:
    folder = Store(root).run("0123456789abcdef")
    folder.write_spec(run_spec())
    folder.write_provenance(())
    folder.write_history([])
    return folder


class TestStatus:
    def test_a_run_with_everything_is_done(self, pristine: RunFolder) -> None:
        assert pristine.status() == "done"
        assert pristine.damaged_files(deep=True) == []
        assert sorted(pristine.result().files) == LISTED
        assert pristine.result().status == "done"

    def test_a_run_without_result_json_is_not_done_whatever_else_is_there(self, folder: RunFolder) -> None:
        (folder.path / "result.json").rename(folder.path / ".tmp-1-result.json")
        assert folder.status() == "missing"
        with pytest.raises((UserError, FileNotFoundError), match=r"result\.json"):
            folder.ticket(0)

    def test_a_folder_that_is_not_there_is_missing_and_looking_makes_none(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path / "runs" / "0")
        assert folder.status() == "missing"
        assert folder.history() == []
        assert folder.error() is None
        assert list(tmp_path.iterdir()) == []

    def test_an_error_is_failed_until_the_run_is_locked_again_and_gone_when_it_is_done(self, tmp_path: Path) -> None:
        folder = unfinished(tmp_path)
        report = {"status": "failed", "type": "DivergedError", "message": "loss is nan", "host": "a", "attempt": 1}
        write_json(folder.path / "error.json", report)
        (folder.path / "checkpoint.pt").touch()
        assert folder.status() == "failed"
        assert (folder.error() or Failure(type="", message="")).type == "DivergedError"
        with RunLock(folder.path / "lock"):
            assert folder.status() == "running"
        assert folder.status() == "failed"
        folder.finish(**RESULT)
        assert folder.status() == "done"
        assert folder.error() is None
        assert not (folder.path / "checkpoint.pt").exists()


class TestDamage:
    @pytest.mark.parametrize("name", LISTED)
    @pytest.mark.parametrize("damage", [truncate, Path.unlink])
    def test_a_lost_or_truncated_file_is_seen_without_hashing_and_named(
        self, folder: RunFolder, name: str, damage: Callable[[Path], None]
    ) -> None:
        damage(folder.path / name)
        assert folder.status() == "damaged"
        assert folder.damaged_files(deep=False) == [folder.path / name]

    @pytest.mark.parametrize("name", LISTED)
    def test_a_file_altered_within_its_size_is_found_by_its_checksum(self, folder: RunFolder, name: str) -> None:
        flip_last_bit(folder.path / name)
        assert folder.damaged_files(deep=True) == [folder.path / name]

    @pytest.mark.parametrize("damage", [truncate, flip_last_bit, Path.unlink])
    def test_damaged_tickets_and_masks_are_refused_by_name(
        self, folder: RunFolder, damage: Callable[[Path], None]
    ) -> None:
        damage(folder.path / "tickets/1.safetensors")
        for read in (folder.ticket, folder.masks):
            with pytest.raises(UserError, match=r"tickets/1\.safetensors"):
                read(1)
        assert np.array_equal(folder.ticket(0)["layer.weight"], WEIGHT)

    def test_logits_are_no_part_of_what_training_leaves(self, folder: RunFolder) -> None:
        (folder.path / "logits/test.safetensors").unlink()
        assert folder.status() == "done"

    def test_a_file_slipped_in_later_is_not_read(self, folder: RunFolder) -> None:
        shutil.copy(folder.path / "tickets/0.safetensors", folder.path / "tickets/2.safetensors")
        with pytest.raises(UserError, match=r"tickets/2\.safetensors"):
            folder.ticket(2)

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
    def test_a_truncated_result_json_is_damage(self, folder: RunFolder, share: float) -> None:
        path = folder.path / "result.json"
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        assert folder.status() == "damaged"
        assert folder.damaged_files(deep=False) == [path]
        with pytest.raises(UserError, match=r"result\.json"):
            folder.ticket(0)

    @pytest.mark.parametrize(
        "content", ["{}", "[]", "null", "7", '{"files": {}}', '{"files": null}', '{"files": {"spec.yaml": {}}}']
    )
    def test_a_result_json_that_says_something_else_is_damage(self, folder: RunFolder, content: str) -> None:
        (folder.path / "result.json").write_text(content)
        assert folder.status() == "damaged"


class TestHistory:
    @pytest.mark.parametrize("cut", [1, 2, 10])
    def test_half_a_last_line_of_an_unfinished_run_is_ignored(self, folder: RunFolder, cut: int) -> None:
        (folder.path / "result.json").unlink()
        path = folder.path / "history.jsonl"
        whole = path.read_bytes()
        path.write_bytes(whole + whole.splitlines()[-1][:-cut])
        assert [line.epoch for line in folder.history()] == [1, 2]

    def test_epochs_are_appended_and_a_resumed_run_replaces_them(self, tmp_path: Path) -> None:
        folder = unfinished(tmp_path)
        assert folder.history() == []
        for number in range(1, 4):
            folder.append_history(epoch(number, updates=[UPDATE], phase="line\nbreak"))
        assert [line.epoch for line in folder.history()] == [1, 2, 3]
        assert folder.history()[2].phase == "line\nbreak"
        assert folder.history()[2].updates[0].dropped == 5
        folder.write_history([epoch(1), epoch(2)])
        assert [line.epoch for line in folder.history()] == [1, 2]

    @pytest.mark.parametrize("content", ["7", '{"epoch": 3}', '{"epoch": "three"}'])
    def test_a_line_that_is_no_epoch_is_named(self, folder: RunFolder, content: str) -> None:
        (folder.path / "result.json").unlink()
        path = folder.path / "history.jsonl"
        path.write_text(path.read_text() + content + "\n")
        with pytest.raises(UserError, match=r"history\.jsonl: line 3: "):
            folder.history()

    @pytest.mark.parametrize(("old", "new"), [('"epoch": 1', '"epoch": 4'), ("\n", "\n\n"), ("train", "trein")])
    def test_what_was_altered_in_the_history_of_a_finished_run_is_found(
        self, folder: RunFolder, old: str, new: str
    ) -> None:
        path = folder.path / "history.jsonl"
        path.write_text(path.read_text().replace(old, new))
        with pytest.raises(UserError, match=r"history\.jsonl: gone, truncated or altered since it was written"):
            folder.history()


UPDATE = {"kind": "rewire", "step": 9, "fraction": 0.5, "dropped": 5, "grown": 5, "density": 0.2}


finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ("1e-3", "on", "null", "2026-01-01", "~", "")
)


def spec_in(folder: RunFolder) -> RunSpec:
    """Read spec.yaml as another program would."""
    return RunSpec.model_validate_json(json.dumps(yaml.safe_load((folder.path / "spec.yaml").read_text())))


class TestSpec:
    @given(
        seed=st.integers(0, 2**63),
        rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
        arguments=st.dictionaries(texts, st.integers() | finite | st.booleans() | texts, max_size=4),
    )
    def test_the_stored_spec_reads_back_as_the_same_run(
        self, tmp_path_factory: pytest.TempPathFactory, seed: int, rate: float, arguments: dict[str, Any]
    ) -> None:
        phase = Phase(name="train", epochs=7, lr=LearningRate(values=(rate,)), ticket=TicketPolicy())
        spec = run_spec(seed=seed, model=ModelSpec(name="any", arguments=arguments), topology=None, phases=(phase,))
        folder = RunFolder(tmp_path_factory.mktemp("run"))
        folder.write_spec(spec)
        assert spec_in(folder) == spec
        assert spec_in(folder).run_id == spec.run_id

    def test_every_field_is_written_out_and_the_file_names_the_run(self, pristine: RunFolder) -> None:
        spec, text = spec_in(pristine), (pristine.path / "spec.yaml").read_text()
        assert spec == run_spec()
        assert pristine.path.name == spec.run_id
        assert spec.run_id in text.splitlines()[0]
        assert all(f"\n{field}:" in text for field in RunSpec.model_fields)


def test_a_crash_while_the_result_is_written_leaves_the_run_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = unfinished(tmp_path)
    write_json(folder.path / "error.json", {"attempt": 1})
    (folder.path / "checkpoint.pt").touch()

    def crash(self: Path, target: Path) -> Path:
        assert self.read_text().endswith("}\n"), "all of it is on disk, under another name"
        raise KeyboardInterrupt(target.name)

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt, match=r"result\.json"):
        folder.finish(**RESULT)
    assert folder.status() == "failed"
    assert (folder.path / "checkpoint.pt").exists(), "what a resumed run needs"


def test_result_json_lists_sizes_and_checksums(pristine: RunFolder) -> None:
    for name, recorded in pristine.result().files.items():
        content = (pristine.path / name).read_bytes()
        assert (recorded.bytes, recorded.sha256) == (len(content), hashlib.sha256(content).hexdigest())
