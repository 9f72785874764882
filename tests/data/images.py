"""Image files whose pixels say which file they came from."""

import zipfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

# Images a class in what the fixture image_folder writes.
TRAIN, TEST = 6, 2
ImageFolder = Callable[..., Path]


def write_image(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (32, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def zip_of(folder: Path, path: Path, prefix: str = "") -> Path:
    """Write a zip of a folder, its members in an order of their own."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path
