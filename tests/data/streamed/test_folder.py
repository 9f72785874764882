"""A user's own folder, streamed: from a grid of ten lines to logits, and again from the store alone."""

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml

import bench.__main__
from bench.data.streamed.folder import open_file_folder
from bench.errors import UserError
from bench.store.logits import StoredLogits
from bench.store.store import Store
from tests.data.streamed.photographs import write_classes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path / "data"))
    root = tmp_path / "Birds of 5 kinds"
    write_classes(root / "train", classes=5, images=8, seed=1)
    write_classes(root / "test", classes=5, images=3, seed=2)
    return root


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        bench.__main__.main(arguments)
    return int(ended.value.code or 0)


def test_a_folder_is_trained_from_a_grid_of_ten_lines(folder: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        f"""
replicates: 1
base:
  data: {{folder: "{folder}", image_size: 32, storage: streamed}}
  model: {{name: wide_resnet, depth: 10, width: 1}}
  batch_size: 16
cells:
  - {{name: dense, method: dense, recipe: {{epochs: 3}}}}
  - {{name: dst, method: dst, sparsity: 0.8, recipe: {{epochs: 3, update_every: 3}}}}
"""
    )
    store = tmp_path / "store"
    assert call("run", str(grid), "--store", str(store), "--device", "cpu", "--decoders", "0") == 0
    folders = list((store / "runs").iterdir())
    assert len(folders) == 2
    for run in folders:
        data = yaml.safe_load((run / "spec.yaml").read_text())["data"]
        assert (data["name"], data["train_images"], data["validation_images"]) == ("birds_of_5_kinds", 36, 4)
        assert data["variant"].startswith("files-")
        logits, labels = StoredLogits.of_run(Store(store).run(run.name)).logits("test")
        assert logits.shape == (1, 15, 5)
        assert sorted(labels.tolist()) == sorted(list(range(5)) * 3)


def test_a_part_that_validates_comes_last(folder: Path) -> None:
    write_classes(folder / "val", classes=5, images=2, seed=3)
    data = open_file_folder(folder, 32)
    assert (data.train_images, data.validation_images, data.test_images) == (40, 10, 15)
    found = data.read(folder)
    paths = [found.train_images.path(place) for place in range(50)]  # type: ignore[attr-defined]
    assert all("/train/" in path for path in paths[:40])
    assert all("/val/" in path for path in paths[40:])
    assert found.train_labels[40:].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    shutil.rmtree(folder / "test")
    assert open_file_folder(folder, 32).test_images == 10


def test_normalisation_is_measured_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_file_folder(folder, 32)
    assert all(0.1 < value < 0.9 for value in first.mean)
    monkeypatch.setattr("bench.data.streamed.folder.mean_and_std", lambda _: pytest.fail("measured again"))
    again = open_file_folder(folder, 32)
    assert (again.mean, again.std) == (first.mean, first.std)
    given = open_file_folder(folder, 32, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    assert (given.mean, given.std) == ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def test_other_images_of_the_same_names_are_measured_anew(folder: Path, tmp_path: Path) -> None:
    first = open_file_folder(folder, 32)
    other = tmp_path / "other" / folder.name
    write_classes(other / "train", classes=5, images=8, seed=7)
    write_classes(other / "test", classes=5, images=3, seed=8)
    again = open_file_folder(other, 32)
    assert again.version == first.version  # the names are the same
    assert again.mean != first.mean


def test_tars_are_the_same_images(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tars").mkdir()
    for part in ("train", "test"):
        with tarfile.open(tmp_path / "tars" / f"{part}.tar", "w") as tar:
            tar.add(folder / part, part)
    plain, tarred = open_file_folder(folder, 32, name="birds"), open_file_folder(tmp_path / "tars", 32, name="birds")
    assert (plain.version, plain.class_names, plain.mean) == (tarred.version, tarred.class_names, tarred.mean)
    images = [data.read(tmp_path).test_images[0:15] for data in (plain, tarred)]
    assert np.array_equal(*images)


def test_images_that_changed_since_the_plan_are_named(folder: Path) -> None:
    data = open_file_folder(folder, 32)
    (next((folder / "train" / "n00000001").iterdir())).unlink()
    with pytest.raises(UserError, match=r"its images are files-.*, no longer files-.*: plan again"):
        data.read(folder)


def test_a_folder_without_a_part_to_test_on_is_explained(folder: Path) -> None:
    shutil.rmtree(folder / "test")
    with pytest.raises(UserError, match="found train, no test; expected train/<class>/<image> and test/"):
        open_file_folder(folder, 32)
