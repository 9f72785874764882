"""The results directory as a whole: one variant of each data set, speeds of what is done, nothing made by looking."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.store.store import DataRecord, Store
from tests.store.runs import RESULT, finished_run, run_spec

OFFICIAL = DataRecord("official", None, "CIFAR-10 as released")
SUBSTITUTE = DataRecord("images-1a2b3c", "/images.zip", "images supplied by the user")


class TestData:
    def test_records_come_back(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "new" / "store")
        assert store.data_records() == {}
        store.record_data("cifar10", SUBSTITUTE)
        store.record_data("digits", OFFICIAL)
        assert Store(store.root).data_records() == {"cifar10": SUBSTITUTE, "digits": OFFICIAL}

    @pytest.mark.parametrize(("first", "second"), [(OFFICIAL, SUBSTITUTE), (SUBSTITUTE, OFFICIAL)])
    def test_two_variants_of_one_data_set_are_refused(
        self, tmp_path: Path, first: DataRecord, second: DataRecord
    ) -> None:
        store = Store(tmp_path)
        store.record_data("cifar10", first)
        with pytest.raises(UserError) as refused:
            store.record_data("cifar10", second)
        assert all(word in str(refused.value) for word in ("cifar10", first.variant, second.variant, "--store"))
        assert store.data_records() == {"cifar10": first}

    def test_the_same_images_may_move(self, tmp_path: Path) -> None:
        store = Store(tmp_path)
        moved = replace(SUBSTITUTE, location="/elsewhere/images.zip")
        store.record_data("cifar10", SUBSTITUTE)
        store.record_data("cifar10", moved)
        assert store.data_records() == {"cifar10": moved}

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("[]", ""),
            ("{", "not a complete JSON document"),
            ('{"digits": 3}', "digits"),
            ('{"digits": {"variant": "official"}}', "digits.location: "),
        ],
    )
    def test_an_altered_file_is_named_and_the_specs_of_runs_say_which_images_they_saw(
        self, tmp_path: Path, content: str, said: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "data.json"
        path.write_text(content)
        store = Store(tmp_path)
        assert store.data_records() == {}
        [message] = [record.getMessage() for record in caplog.records]
        assert message.startswith(f"{path}: ")
        assert said in message
        spec = run_spec()
        store.run(spec.run_id).write_spec(spec)
        with pytest.raises(UserError, match="official images, not images-1a2b3c"):
            store.record_data(spec.data.name, SUBSTITUTE)
        store.record_data(spec.data.name, OFFICIAL)
        assert Store(tmp_path).data_records() == {spec.data.name: OFFICIAL}


def test_looking_creates_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.run("0123").status() == "missing"
    assert store.throughputs() == []
    assert store.data_records() == {}
    assert not store.root.exists()


def test_throughputs_are_those_of_runs_with_a_readable_result(tmp_path: Path) -> None:
    done, unfinished, *altered = (finished_run(tmp_path, seed=seed) for seed in range(5))
    (unfinished.path / "result.json").unlink()
    for folder, content in zip(altered, ('{"status": "done", "mod', '{"status": "done"}', "null"), strict=True):
        (folder.path / "result.json").write_text(content)
    assert done.status() == "done"
    (measured,) = Store(tmp_path).throughputs()
    assert (measured.device, measured.device_name, measured.images_per_second) == ("cpu", "a processor", 123.0)
    assert (measured.model, measured.execution) == (RESULT["model"].model_dump(), RESULT["execution"].model_dump())


def test_runs_are_folders_named_by_their_id(tmp_path: Path) -> None:
    first, second = finished_run(tmp_path, seed=1), finished_run(tmp_path, seed=2)
    assert first.path != second.path
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {run_spec(seed=1).run_id, run_spec(seed=2).run_id}
    assert Store(tmp_path).run(run_spec(seed=1).run_id).path == first.path
