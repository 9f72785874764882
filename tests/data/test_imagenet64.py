"""ImageNet at 64 pixels, from made-up files of its release: what is read, kept and refused."""

import io
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data import copies
from bench.data.dataset import Array, Dataset
from bench.data.record import DataSet, StoredSource
from bench.data.sets.imagenet64 import FILES, IMAGENET64
from bench.errors import UserError

EACH, TESTS = 5, 7
DATA: DataSet = replace(IMAGENET64, train_images=10 * EACH - 8, validation_images=8, test_images=TESTS)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "imagenet64").mkdir(parents=True)
    return tmp_path / "data"


def contents() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    counts = [EACH] * 10 + [TESTS]
    return [
        {"data": rng.integers(0, 256, (n, 12288), dtype=np.uint8), "labels": rng.integers(1, 1001, n).tolist()}
        for n in counts
    ]


def write(root: Path) -> list[dict[str, Any]]:
    made = contents()
    for name, content in zip(FILES, made, strict=True):
        np.savez(root / "imagenet64" / name, **content)
    return made


def pixels(content: dict[str, Any]) -> Array:
    """Return the images, by one reshape for each: channel planes of rows."""
    return np.stack([np.dstack(row.reshape(3, 64, 64)) for row in content["data"]])


def pairs(images: Array, labels: Array) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}


def same(first: Dataset, second: Dataset) -> bool:
    arrays = ("train_images", "train_labels", "test_images", "test_labels")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in arrays)


def test_the_one_array_is_read_from_a_copy_on_the_node(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_copies", {})
    write(root)
    assert isinstance(DATA.source, StoredSource)
    paths = DATA.source.stored(DATA, root)
    before = DATA.read(root)
    expected = replace(before, train_images=before.train_images.copy(), test_images=before.test_images.copy())
    copies.use_copy("imagenet64", paths, tmp_path / "disk", lambda: None)
    for path in paths:
        path.write_bytes(b"not read")
    assert same(DATA.read(root), expected)


def test_images_and_labels_from_zero_are_those_of_the_files(root: Path) -> None:
    made = write(root)
    read = DATA.read(root)
    assert isinstance(read.train_images, np.memmap)
    assert np.array_equal(read.test_images, pixels(made[10]))
    assert read.test_labels.tolist() == [label - 1 for label in made[10]["labels"]]
    images = np.concatenate([pixels(content) for content in made[:10]])
    labels = np.concatenate([content["labels"] for content in made[:10]]) - 1
    assert pairs(read.train_images, read.train_labels) == pairs(images, labels)
    # what validates is drawn from all files; the others keep their order
    kept = [image.tobytes() for image in read.train_images[: DATA.train_images]]
    assert kept == [image.tobytes() for image in images if image.tobytes() in set(kept)]
    assert kept != [image.tobytes() for image in images[: DATA.train_images]]


def test_the_array_is_written_once_and_anew_when_a_file_changes(root: Path) -> None:
    write(root)
    first = DATA.read(root)
    (kept,) = root.glob("cache/imagenet64-????????????.npy")
    before = kept.stat().st_mtime_ns
    assert same(DATA.read(root), first)
    assert kept.stat().st_mtime_ns == before
    assert DATA.source.verified(DATA, root).state == "intact"
    half = kept.read_bytes()[:-9]
    kept.unlink()  # its pages are in use
    kept.write_bytes(half)
    assert same(DATA.read(root), first)
    os.utime(root / "imagenet64" / FILES[3], ns=(1, 1))
    assert same(DATA.read(root), first)
    assert len([*root.glob("cache/imagenet64-????????????.npy")]) == 2


def test_a_changed_byte_of_the_array_is_found(root: Path) -> None:
    write(root)
    DATA.read(root)
    (kept,) = root.glob("cache/imagenet64-????????????.npy")
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    row = DATA.source.verified(DATA, root)
    assert (row.state, row.where) == ("damaged", kept)


class Evil:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("made",)


def objects() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, data=np.array([Evil()], dtype=object), labels=np.array([1]))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": np.zeros((5, 3072), np.uint8), "labels": [1] * 5}, r"uint8 \[5, 3072\]; allowed: uint8 \[N, 12288\]"),
        ({"data": np.zeros((5, 12288)), "labels": [1] * 5}, "its data are float64"),
        ({"data": np.zeros((5, 12288), np.uint8), "labels": [0, 1, 1, 1, 1]}, "labels from 0 to 1; allowed: 1 to 1000"),
        ({"data": np.zeros((5, 12288), np.uint8), "labels": [1] * 4}, r"5 images, but labels int64 \[4\]"),
        ({"data": np.zeros((80, 12288), np.uint8), "labels": [1] * 80}, "the release has 50 to train on"),
        ({"data": np.zeros((4, 12288), np.uint8), "labels": [1] * 4}, "there are 56; the release has 50"),
        ({"labels": [1]}, "not a file of the release .KeyError: 'data"),
    ],
)
def test_a_file_that_is_not_of_the_release_is_named(root: Path, content: Any, message: str) -> None:
    write(root)
    np.savez(root / "imagenet64" / FILES[1], **content)
    with pytest.raises(UserError, match=message):
        DATA.read(root)


@pytest.mark.parametrize("raw", [objects(), pickle.dumps(Evil()), b"PK\3\4", b""])
def test_objects_pickles_and_half_a_file_are_refused_and_nothing_of_them_runs(
    root: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes
) -> None:
    monkeypatch.chdir(root)
    write(root)
    (root / "imagenet64" / FILES[0]).write_bytes(raw)
    with pytest.raises(UserError, match=rf"{FILES[0]}: not a file of the release"):
        DATA.read(root)
    assert not (root / "made").exists()


def test_missing_files_are_named(root: Path) -> None:
    assert DATA.source.listed(DATA, root).state == "absent"
    write(root)
    assert DATA.source.listed(DATA, root / "imagenet64").state == "ready"
    for number in (3, 10):
        (root / "imagenet64" / FILES[number]).unlink()
    row = DATA.source.listed(DATA, root)
    assert (row.state, row.note) == ("damaged", "missing: train_data_batch_4.npz, val_data.npz")
    with pytest.raises(UserError, match=r"missing in .*: train_data_batch_4\.npz, val_data\.npz\. By hand"):
        DATA.read(root)
