"""Tiny image folders and zips whose pixels say which file they came from, and a CIFAR-10 archive of 60 images."""

import hashlib
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from bench.data.catalog import class_names
from bench.data.sets.cifar import CIFAR10
from tests.data.images import TEST, TRAIN, ImageFolder, write_image


@pytest.fixture
def image_folder(tmp_path: Path) -> ImageFolder:
    """Return a function that writes an image folder; colour = (class number, number in the class, 1 for a test)."""

    def write(classes: Sequence[str] = class_names("cifar10"), *, name: str = "images") -> Path:
        for number, label in enumerate(classes):
            for part, count in (("train", TRAIN), ("test", TEST)):
                for index in range(count):
                    path = tmp_path / name / part / label / f"{index:04}.png"
                    write_image(path, (number, index, part == "test"))
        return tmp_path / name

    return write


def batch(count: int, seed: int) -> dict[str, object]:
    """Return what a batch file of CIFAR-10 holds: rows of 3072 bytes, channel by channel, and labels."""
    rng = np.random.default_rng(seed)
    return {
        "data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
        "labels": rng.integers(0, 10, count).tolist(),
    }


@pytest.fixture
def cifar_batches() -> list[dict[str, object]]:
    """Return the five training batches and the test batch of `cifar_archive`."""
    return [batch(10, seed) for seed in range(6)]


@pytest.fixture
def cifar_archive(tmp_path: Path, cifar_batches: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an archive in the format of CIFAR-10, whose MD5s torchvision takes for the official ones."""
    files = CIFAR10.source
    contents = [*cifar_batches, {"label_names": list(class_names("cifar10"))}]
    made = tmp_path / "made"
    folder = made / files.folder
    folder.mkdir(parents=True)
    md5 = []
    for name, content in zip(files.batches, contents, strict=True):
        (folder / name).write_bytes(pickle.dumps(content))
        md5.append([name, hashlib.md5((folder / name).read_bytes()).hexdigest()])
    archive = made / files.archive
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, files.folder)
    monkeypatch.setattr(datasets.CIFAR10, "train_list", md5[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", md5[5:6])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": md5[6][0], "key": "label_names", "md5": md5[6][1]})
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    return archive
