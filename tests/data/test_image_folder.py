"""A data set of the user's own from an image folder: which images, in which order, how they are cut and normalised."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from bench.data import image_folder as module
from bench.data.catalog import remember_folder
from bench.data.image_folder import open_image_folder
from bench.data.loading import ImageLoader, record_folders
from bench.data.record import DataSet
from bench.errors import UserError
from bench.grid import load_grid
from bench.plan import make_plan, to_json
from bench.spec.run import RunSpec, canonical_json
from bench.store.store import Store
from tests.data.images import write_image, zip_of
from tests.grid_text import write_grid

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("robin", "wren", "owl")
GIVEN: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def write_birds(folder: Path, **counts: int) -> Path:
    """Write square images whose colour says which they are: (class, number in the class, part)."""
    for part, (name, count) in enumerate(counts.items()):
        for number, label in enumerate(sorted(CLASSES)):
            for index in range(count):
                write_image(folder / name / label / f"{index:03}.png", (number, index, part), (20, 20))
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def opened(folder: Path, root: Path, size: int = 16, **given: Any) -> DataSet:
    return open_image_folder(folder, size, root=root, **given)


def colours(images: Any) -> list[tuple[int, ...]]:
    return [tuple(image[0, 0].tolist()) for image in images]


@pytest.mark.parametrize("test", ["test", "val", "valid"])
def test_a_tenth_validates_and_the_other_folder_tests(tmp_path: Path, root: Path, test: str) -> None:
    data = opened(write_birds(tmp_path / "Our Birds", train=10, **{test: 4}), root, **GIVEN)
    assert (data.name, data.classes, data.class_names) == ("our_birds", 3, ("owl", "robin", "wren"))
    assert (data.train_images, data.validation_images, data.test_images) == (27, 3, 12)
    read = data.read(root)
    assert read.test_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert colours(read.test_images) == [(label, index, 1) for label in range(3) for index in range(4)]
    assert sorted(colours(read.train_images)) == [(label, index, 0) for label in range(3) for index in range(10)]
    assert (
        [colour[0] for colour in colours(read.train_images)] == read.train_labels.tolist() != sorted(read.train_labels)
    )


def test_val_beside_test_validates(tmp_path: Path, root: Path) -> None:
    data = opened(write_birds(tmp_path / "birds", train=5, val=2, test=3), root, **GIVEN)
    assert (data.train_images, data.validation_images, data.test_images) == (15, 6, 9)
    read = data.read(root)
    assert {colour[2] for colour in colours(read.train_images[:15])} == {0}
    assert {colour[2] for colour in colours(read.train_images[15:])} == {1}
    assert {colour[2] for colour in colours(read.test_images)} == {2}


def test_images_of_any_shape_and_mode_are_cut_as_torchvision_does(tmp_path: Path, root: Path) -> None:
    rng = np.random.default_rng(3)
    folder = tmp_path / "odd"
    for part in ("train", "test"):
        for index, (width, height) in enumerate([(40, 61), (93, 33), (12, 17), (24, 24)]):
            path = folder / part / "a" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
            image.convert(("RGB", "L", "RGBA", "P")[index]).save(path)
    oracle = transforms.Compose(
        [transforms.Resize(24, transforms.InterpolationMode.BILINEAR), transforms.CenterCrop(24)]
    )
    expected = [
        np.asarray(oracle(Image.open(folder / "test" / "a" / f"{index}.png").convert("RGB"))) for index in range(4)
    ]
    assert np.array_equal(opened(folder, root, 24, **GIVEN).read(root).test_images, np.stack(expected))


def test_a_zip_is_the_same_images(tmp_path: Path, root: Path) -> None:
    folder = write_birds(tmp_path / "birds", train=3, test=1)
    archive = zip_of(folder, tmp_path / "birds.zip", "around/")
    assert opened(archive, root, **GIVEN).version == opened(folder, root, **GIVEN).version
    read = [opened(place, tmp_path / place.name, **GIVEN).read(tmp_path / place.name) for place in (folder, archive)]
    assert np.array_equal(read[0].train_images, read[1].train_images)


# -- what is measured and kept -----------------------------------------------------------------------------------------


def test_normalisation_is_measured_on_the_images_to_train_on(tmp_path: Path, root: Path) -> None:
    data = opened(write_birds(tmp_path / "birds", train=20, val=3, test=9), root)
    train = data.read(root).train_images[:60].reshape(-1, 3) / 255
    assert data.mean == pytest.approx(train.mean(axis=0), abs=5e-5)
    # the last channel of these images is 0 everywhere, and nothing is divided by it
    assert data.std == pytest.approx((*train.std(axis=0)[:2], 1), abs=5e-5)


def test_a_folder_is_read_and_decoded_once(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_birds(tmp_path / "birds", train=4, test=2)
    first = opened(folder, root)
    monkeypatch.setattr(module, "open_images", None)
    monkeypatch.setattr(module, "mean_and_std", None)
    again = opened(folder, root)
    assert (again, len(again.read(root).train_images)) == (first, 12)


def test_a_changed_image_is_another_data_set(tmp_path: Path, root: Path) -> None:
    folder = write_birds(tmp_path / "birds", train=4, test=2)
    before = opened(folder, root)
    write_image(folder / "train" / "owl" / "000.png", (200, 100, 50))
    after = opened(folder, root)
    assert (after.version != before.version, after.mean != before.mean) == (True, True)
    assert opened(folder, root, 8).version == after.version.replace("16px", "8px")


def test_images_that_changed_after_planning_are_not_used(tmp_path: Path, root: Path) -> None:
    folder = write_birds(tmp_path / "birds", train=4, test=2)
    planned = opened(folder, root, **GIVEN)
    write_image(folder / "train" / "owl" / "000.png", (200, 100, 50))
    with pytest.raises(UserError, match=r"no longer folder-.*: plan again"):
        planned.read(root)


@pytest.mark.parametrize("text", ["", "{}", '{"version": 1, "listing": 3}'])
def test_a_damaged_index_is_made_again(tmp_path: Path, root: Path, text: str) -> None:
    folder = write_birds(tmp_path / "birds", train=4, test=2)
    first = opened(folder, root)
    (index,) = (root / "cache").glob("*.json")
    index.write_text(text)
    assert opened(folder, root) == first
    assert json.loads(index.read_text())["classes"] == ["owl", "robin", "wren"]


# -- refused -----------------------------------------------------------------------------------------------------------


def refused(folder: Path, root: Path, *words: str, **given: Any) -> None:
    with pytest.raises(UserError) as caught:
        opened(folder, root, **given)
    message = str(caught.value)
    assert message.startswith(f"{folder}: ")
    assert [word for word in words if word not in message] == [], message


def test_mistakes_of_layout_are_named_with_what_was_found(tmp_path: Path, root: Path) -> None:
    refused(tmp_path / "nowhere", root, "no such folder")
    folder = write_birds(tmp_path / "a", Train=2, Test=1)
    refused(folder, root, "found Train/ and Test/: rename to train/ and test/")
    refused(zip_of(folder, tmp_path / "a.zip"), root, "found Train/ and Test/: rename to train/ and test/")
    refused(folder / "Train", root, "not an image folder", "found owl/, robin/ and wren/")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/train.tar").write_bytes(b"")
    refused(tmp_path / "pack", root, "not an image folder", "tars are read with `storage: streamed` in the grid's data")
    refused(write_birds(tmp_path / "b", train=2), root, "no images in test/", "found train/")
    refused(write_birds(tmp_path / "c", train=2, Validation=2), root, "found Validation/: rename to val/")
    refused(write_birds(tmp_path / "d", train=2, val=2, valid=2), root, "found val/ and valid/; keep one")
    refused(write_birds(tmp_path / "é", train=2, test=2), root, "cannot be its name; give `name:`")


def test_classes_that_a_part_lacks_are_named(tmp_path: Path, root: Path) -> None:
    folder = write_birds(tmp_path / "birds", train=2, test=1)
    write_image(folder / "train" / "tit" / "0.png", (0, 0, 0))
    refused(folder, root, "test/ has no images of tit", "same classes")


def test_images_that_cannot_be_decoded_are_named(tmp_path: Path, root: Path) -> None:
    folder = write_birds(tmp_path / "birds", train=2, test=1)
    (folder / "test" / "owl" / "000.png").write_bytes(b"no image")
    refused(folder, root, "not all images are usable: test/owl/000.png cannot be decoded")


# -- in a grid ---------------------------------------------------------------------------------------------------------


def spec_of(folder: Path, data: str) -> RunSpec:
    grid = load_grid(write_grid(folder, f"cells: [{{name: a, method: dense, model: {{depth: 10}}, data: {data}}}]"))
    return make_plan(grid, "paper", None).runs[0].spec


@pytest.mark.usefixtures("root")
def test_all_that_changes_numbers_is_in_the_identity_and_no_path(tmp_path: Path) -> None:
    folder = write_birds(tmp_path / "birds", train=10, test=4)
    spec = spec_of(tmp_path, f"{{folder: {folder}, image_size: 16, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}")
    assert spec.data.facts is not None
    assert spec.data.facts.model_dump() == {"classes": 3, "image_size": 16, **GIVEN}
    assert (spec.augmentation.padding, spec.augmentation.padding_mode, spec.augmentation.flip) == (2, "zero", True)
    assert str(tmp_path) not in canonical_json(spec)
    elsewhere = folder.rename(tmp_path / "moved")
    moved = f"{{name: birds, folder: {elsewhere}, image_size: 16, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}"
    assert spec_of(tmp_path, moved).run_id == spec.run_id
    assert spec_of(tmp_path, moved.replace("0.25]", "0.3]")).run_id != spec.run_id


@pytest.mark.usefixtures("root")
def test_a_worker_finds_the_folder_by_what_the_store_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, store = write_birds(tmp_path / "birds", train=10, test=4), Store(tmp_path / "store")
    spec = spec_of(tmp_path, f"{{folder: {folder}, image_size: 16}}")
    monkeypatch.setattr("bench.data.catalog._FOLDERS", {})
    with pytest.raises(UserError, match="does not know where it is"):
        ImageLoader(store).load(spec.data)
    remember_folder(opened(folder, tmp_path / "data"))
    record_folders(store, [spec.data])
    monkeypatch.setattr("bench.data.catalog._FOLDERS", {})
    assert len(ImageLoader(store).load(spec.data).train.labels) == 27


@pytest.mark.long
def test_workers_in_other_processes_train_on_it(tmp_path: Path, root: Path) -> None:
    folder, store = write_birds(tmp_path / "birds", train=10, test=4), tmp_path / "store"
    cell = "name: a, method: dense, model: {depth: 10, width: 1}, recipe: {epochs: 4}"
    text = f"replicates: 2\ncells: [{{{cell}, data: {{folder: {folder}, image_size: 16}}}}]"
    command = [sys.executable, "-m", "bench", "run", str(write_grid(tmp_path, text)), "--store", str(store)]
    command += ["--device", "cpu", "--parallel", "2"]
    environment = {**os.environ, "FREETICKETS_DATA": str(root)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert len(list(store.glob("runs/*/result.json"))) == 2


@pytest.mark.usefixtures("root")
def test_a_plan_names_the_folder(tmp_path: Path) -> None:
    folder = write_birds(tmp_path / "birds", train=10, test=4)
    text = f"cells: [{{name: a, method: dense, model: {{depth: 10}}, data: {{folder: {folder}, image_size: 16}}}}]"
    (cell,) = json.loads(to_json(make_plan(load_grid(write_grid(tmp_path, text)), "paper", None)))["cells"]
    assert (cell["data"]["name"], cell["data"]["facts"]["classes"]) == ("birds", 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{folder: BIRDS}", "data: found a mapping; an image folder needs image_size"),
        ("{folder: BIRDS, image_size: 16, name: cifar10}", "data.folder: cifar10 is a data set of the suite"),
        ("{folder: BIRDS, image_size: 16, mean: [1, 2]}", "data.mean: found a list; allowed: a list of three numbers"),
        ("{folder: BIRDS, image_size: 16, std: [0.1, 0.1, 0]}", "data.std: found a list; allowed: numbers above 0"),
        ("{folder: BIRDSS, image_size: 16}", "data.folder: "),
        ("{name: cifar10, image_size: 64}", "the images of cifar10 have 32 pixels a side"),
        ("{train_images: 5}", "no data set; give a name, or the path of an image folder"),
        ("{folder: BIRDS, image_size: 16, train_images: 31}", "more than the 30 training images of birds"),
        ("{folder: BIRDS, image_size: 16, test_images: 13}", "birds has 12 test images"),
    ],
)
@pytest.mark.usefixtures("root")
def test_a_mistake_is_named_with_its_key(tmp_path: Path, data: str, message: str) -> None:
    folder = write_birds(tmp_path / "birds", train=10, test=4)
    with pytest.raises(UserError) as caught:
        spec_of(tmp_path, data.replace("BIRDS", str(folder)))
    assert "cells[0].data" in str(caught.value)
    assert message in str(caught.value)
