"""Corrupted versions of test images made here (bench.data.corruptions), kept in the data folder once they were made.

For data that has no released corrupted set. Never called CIFAR-10-C: a regenerated set differs from the released one in
every pixel drawn. A file a type and severity, since a run reads all of them and another run reads them again.
"""

import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bench.data.alone import alone
from bench.data.corruptions.catalog import VERSION
from bench.data.dataset import Array, LabelledImages
from bench.data.lazy import EvaluationImages
from bench.errors import UserError
from bench.store.files import atomic_path

log = logging.getLogger(__name__)

SEED = 0
CHUNK = 500


class LocalCorruptions:
    """The corrupted test images of a data set, all types and severities, made when first read.

    test   the test images of the runs, uint8 [N, H, W, 3]
    root   the data folder; files go to cache/local-c/ there, 3 GB for 10,000 images of 32 x 32 pixels
    """

    def __init__(self, name: str, variant: str, test: LabelledImages, root: Path) -> None:
        self._test = test
        self._clean = _digest(test.images)
        # How many they are is in the name: a smaller scale of a grid leaves the images of the larger one as they are.
        self._folder = root / "cache" / "local-c" / f"{name}-{variant}-{len(test.labels)}-images-v{VERSION}"
        self.source = f"test images of {name} ({variant}), corrupted by this suite (version {VERSION}, seed {SEED})"

    def read(self, type: str, severity: int, images: int) -> EvaluationImages:
        """Return the first `images` test images corrupted; UserError if they are too few or cannot be kept."""
        if images > len(self._test.labels):
            raise UserError(f"local-c: {images:,} images asked for; there are {len(self._test.labels):,} test images")
        file = self._folder / f"{type}-{severity}.safetensors"
        found = _open(file, self._clean)
        if found is None:
            with alone(file.with_suffix(".lock"), f"images are corrupted: {type}, severity {severity}"):
                found = _open(file, self._clean, again=True)  # another process may have made them since
                if found is None:
                    try:
                        self._make(file, type, severity)
                    except (OSError, SafetensorError) as error:
                        raise UserError(f"{file}: corrupted images could not be written ({error})") from None
                    found = _open(file, self._clean)
        if found is None:
            raise UserError(f"{file}: corrupted images read back differ from what was written; check the disk")
        return EvaluationImages(found[:images], self._test.labels[:images], self.source)

    def _make(self, file: Path, type: str, severity: int) -> None:
        import torch

        from bench.data.corruptions.apply import corrupt

        images = self._test.images

        def part(start: int) -> Array:
            pixels = torch.from_numpy(images[start : start + CHUNK].copy())
            index = torch.arange(start, start + len(pixels))
            return corrupt(pixels, type, severity, index, SEED).numpy()

        # Always on the CPU, so that every machine evaluates on the same images.
        with ThreadPoolExecutor(cpu_count() or 1) as pool:
            result = np.concatenate(list(pool.map(part, range(0, len(images), CHUNK))))
        with atomic_path(file) as temporary:
            save_file({"images": result}, temporary, {"clean": self._clean, "corrupted": _digest(result)})


def _open(file: Path, clean: str, *, again: bool = False) -> Array | None:
    """Return the memory-mapped images of a file, None unless they are whole and made of images of this digest.

    again   damage was said before, and is not said now
    """
    level = logging.DEBUG if again else logging.WARNING
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="np") as content:
            metadata = content.metadata() or {}
            shape = tuple(content.get_slice("images").get_shape())
        images = _mapped(file, shape)
    except (SafetensorError, OSError, ValueError) as error:
        log.log(level, "%s: not usable (%s); the images are corrupted again", file, error)
        return None
    if metadata.get("clean") != clean:
        return None
    if metadata.get("corrupted") != _digest(images):
        log.log(level, "%s: truncated or altered; the images are corrupted again", file)
        return None
    return images


def _mapped(file: Path, shape: tuple[int, ...]) -> "np.memmap[Any, np.dtype[np.uint8]]":
    """Return the one tensor of a safetensors file, which its bytes end with, without reading it."""
    size = int(np.prod(shape))
    return np.memmap(file, np.uint8, "r", offset=file.stat().st_size - size, shape=shape)


def _digest(images: Array) -> str:
    digest = hashlib.sha256(str(images.shape).encode())
    for start in range(0, len(images), CHUNK):
        digest.update(np.ascontiguousarray(images[start : start + CHUNK]).data)
    return digest.hexdigest()
