"""A set in the format of CIFAR-10-C, of twenty images a file, and the JPEG folders of an ImageNet-C."""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data.sets import cifar_c
from tests.data.images import write_image

RELEASE = cifar_c.CIFAR10_C
TYPES = ("fog", "frost", "snow")
PER_SEVERITY = 4
IMAGES = 5 * PER_SEVERITY


def array_of(type: str) -> Any:
    """Return the images of a type."""
    return np.random.default_rng(TYPES.index(type)).integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)


def labels() -> Any:
    return np.tile(np.array([3, 8, 8, 0], dtype=np.uint8), 5)


def write_release(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Write the files as a folder and as an archive, and publish their MD5s; return folder and archive."""
    folder, archive = root / RELEASE.folder, root / RELEASE.archive
    folder.mkdir(parents=True)
    for type in TYPES:
        np.save(folder / f"{type}.npy", array_of(type))
    np.save(folder / "labels.npy", labels())
    with tarfile.open(archive, "w") as tar:
        for name in ("labels", *TYPES):  # a fixed order: the last type is what a truncated archive lacks
            tar.add(folder / f"{name}.npy", f"{RELEASE.folder}/{name}.npy")
    publish(folder, archive, monkeypatch)
    return folder, archive


def publish(folder: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the MD5s of these files, and of the archive if there is one, the published ones."""
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    if archive.exists():
        md5["_archive"] = hashlib.md5(archive.read_bytes()).hexdigest()
    checksums = archive.with_name("checksums.json")
    checksums.write_text(json.dumps({RELEASE.folder: md5, "CIFAR-100-C": md5}))
    monkeypatch.setattr(cifar_c, "CHECKSUMS", checksums)


def flip_byte(path: Path, position: int) -> None:
    """Alter one byte of a file; a negative position counts from its end."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def write_imagenet_c(
    folder: Path, types: tuple[str, ...], severities: tuple[int, ...], images: dict[str, int], group: str = ""
) -> None:
    """Write JPEG files; images: how many of each class. The colour says type, severity and number of the image."""
    for number, type in enumerate(types):
        for severity in severities:
            for wnid, count in images.items():
                for index in range(count):
                    path = folder / group / type / str(severity) / wnid / f"ILSVRC2012_val_{index:08}.JPEG"
                    write_image(path, (40 * number, 40 * severity, 40 * index), (224, 224))
