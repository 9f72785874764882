"""Real photographs, scikit-learn's two, cut and encoded in the ways that people's files are."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from bench.data.sets.imagenet import IMAGENET


def photograph(number: int = 0, box: tuple[int, int, int, int] | None = None) -> Image.Image:
    image = Image.fromarray(load_sample_images().images[number % 2])
    return image if box is None else image.crop(box)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def write_classes(root: Path, classes: int, images: int, seed: int = 0) -> None:
    """Write <class>/<number>.JPEG: parts of the photographs, of different sizes."""
    generator = np.random.default_rng(seed)
    for label in range(classes):
        folder = root / f"n{label:08d}"
        folder.mkdir(parents=True)
        for number in range(images):
            left, top = (int(value) for value in generator.integers(0, 200, 2))
            width, height = (int(value) for value in generator.integers(60, 200, 2))
            part = photograph(label + number, (left, top, left + width, top + height))
            (folder / f"{folder.name}_{number}.JPEG").write_bytes(encoded(part, quality=90))


def write_imagenet(root: Path, train: int = 40, val: int = 4) -> None:
    """Write train/<wnid>/ and val/<wnid>/ of three classes of ImageNet."""
    for part, images in (("train", train), ("val", val)):
        write_classes(root / part, classes=3, images=images, seed=images)
        for number, folder in enumerate(sorted((root / part).iterdir())):
            folder.rename(folder.with_name(IMAGENET.class_names[5 * number]))
