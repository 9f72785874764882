"""The smaller sets of ImageNet's classes, in the layouts that their archives have."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data.sets.imagenet import IMAGENET
from bench.data.sets.imagenet_parts import IMAGENET100, IMAGENETTE, IMAGEWOOF, TINY_IMAGENET
from bench.data.streamed.files import ImageFiles
from bench.errors import UserError
from tests.data.streamed.photographs import encoded, photograph, write_classes


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def write(root: Path, classes: tuple[str, ...], train: int = 3, val: int = 2) -> None:
    for part, images in (("train", train), ("val", val)):
        write_classes(root / part, classes=len(classes), images=images, seed=images)
        for folder, wnid in zip(sorted((root / part).iterdir()), classes, strict=True):
            folder.rename(folder.with_name(wnid))


@pytest.mark.parametrize("data", [IMAGENETTE, IMAGEWOOF])
def test_imagenette_and_imagewoof_are_read_as_they_are_extracted(data, data_folder: Path) -> None:  # type: ignore[no-untyped-def]
    assert len(set(data.class_names) & set(IMAGENET.class_names)) == 10
    write(data_folder / data.source.names[1], data.class_names)
    found = data.read(data_folder)
    assert isinstance(found.train_images, ImageFiles)
    assert sorted(found.train_labels.tolist()) == sorted(list(range(10)) * 3)
    assert found.test_images[0:20].shape == (20, 128, 128, 3)
    assert set(found.test_labels[:8]) != {0}  # not sorted by class


def test_imagenet100_takes_its_classes_of_imagenet(data_folder: Path) -> None:
    mine, other = IMAGENET100.class_names[7], next(c for c in IMAGENET.class_names if c not in IMAGENET100.class_names)
    write(data_folder / "imagenet", tuple(sorted((mine, other))))
    found = IMAGENET100.read(data_folder)
    assert set(found.train_labels) == set(found.test_labels) == {7}
    assert (len(found.train_labels), len(found.test_labels)) == (3, 2)


def test_tiny_imagenet_is_read_as_it_is_extracted(data_folder: Path) -> None:
    root = data_folder / "tiny-imagenet-200"
    lines = []
    for label in range(200):
        wnid = f"n{label:08d}"
        folder = root / "train" / wnid / "images"
        folder.mkdir(parents=True)
        (folder / f"{wnid}_0.JPEG").write_bytes(encoded(photograph(0, (label, 9, label + 64, 73)), quality=95))
        (folder.parent / f"{wnid}_boxes.txt").write_text("")
        lines.append(f"val_{label}.JPEG\t{wnid}\t0\t0\t62\t62")
    (root / "val" / "images").mkdir(parents=True)
    for label in range(200):
        (root / "val" / "images" / f"val_{label}.JPEG").write_bytes(encoded(photograph(1, (label, 9, label + 64, 73))))
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines))
    (root / "test" / "images").mkdir(parents=True)
    found = TINY_IMAGENET.read(data_folder)
    assert (found.train_images.dtype, found.train_images.shape) == (np.uint8, (200, 64, 64, 3))
    assert sorted(found.train_labels.tolist()) == sorted(found.test_labels.tolist()) == list(range(200))
    place = found.train_labels.tolist().index(5)
    with Image.open(root / "train" / "n00000005" / "images" / "n00000005_0.JPEG") as image:
        np.testing.assert_array_equal(found.train_images[place], np.asarray(image))
    shutil.rmtree(root / "train" / "n00000003")
    with pytest.raises(UserError, match="found 199 classes; tiny_imagenet has 200"):
        TINY_IMAGENET.read(data_folder)


def test_a_data_folder_with_one_set_is_not_taken_for_another(data_folder: Path) -> None:
    write(data_folder / "imagenette2-320", IMAGENETTE.class_names)
    with pytest.raises(UserError, match="the images of imagenet are not in"):
        IMAGENET.read(data_folder)
