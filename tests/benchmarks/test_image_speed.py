"""Speed of streamed images, as CPU time over that of a stock loader, decoder and directory listing in the same call."""

import os
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, PILToTensor, RandomHorizontalFlip, RandomResizedCrop

from bench.data.augment import Normalise
from bench.data.streamed.crew import Crew
from bench.data.streamed.decode import augmented
from bench.data.streamed.images import FileImages
from bench.data.streamed.index import index_part
from bench.data.streamed.tars import tar_members
from bench.data.streamed.windows import uniforms
from bench.spec.run import ResizedCrop
from tests.data.streamed.photographs import encoded, photograph

CROP, SIZE, BATCH, IMAGES = ResizedCrop(), 224, 64, 256
ROUNDS = 5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write(root: Path, short: int, quality: int) -> Path:
    """Write parts of real photographs whose shorter side is `short`."""
    generator = np.random.default_rng(0)
    for number in range(IMAGES):
        left, top = (int(value) for value in generator.integers(0, (340, 140)))
        part = photograph(number, (left, top, left + 300, top + 287)).resize(
            (short * 300 // 287, short), Image.Resampling.BICUBIC
        )
        path = root / f"class{number % 4}" / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(part, quality=quality))
    return root


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the processor time of this process, all threads together."""
    before = time.process_time()
    work()
    return time.process_time() - before


def ratio(benchmark: Any, baseline: Callable[[], object], ours: Callable[[], object]) -> float:
    """Return the time of the baseline over ours: the median of rounds in turn."""
    baseline(), ours()
    ratios = [cpu_seconds(baseline) / cpu_seconds(ours) for _ in range(ROUNDS)]
    benchmark.pedantic(ours, rounds=1)
    benchmark.extra_info["over the baseline"] = [round(value, 2) for value in ratios]
    return median(ratios)


@pytest.mark.parametrize(("short", "quality", "promise"), [(256, 90, 1.5), (375, 97, 1.3)], ids=["27 KB", "115 KB"])
def test_an_epoch_over_a_stock_loader_of_uint8(
    benchmark: Any, short: int, quality: int, promise: float, tmp_path: Path
) -> None:
    """In one process each, so that what is counted is decoding, cropping and batching."""
    root = write(tmp_path / "train", short, quality)
    stock = ImageFolder(str(root), Compose([RandomResizedCrop(SIZE), RandomHorizontalFlip(), PILToTensor()]))
    part = index_part(root, tmp_path / "cache")
    normalise = Normalise((0, 0, 0), (1, 1, 1), (SIZE, SIZE), device="cpu", layout=torch.channels_last)
    parts = [slice(first, first + BATCH) for first in range(0, IMAGES, BATCH)]
    benchmark.extra_info["KB an image"] = round(
        sum(path.stat().st_size for path in root.rglob("*.jpg")) / IMAGES / 1000
    )
    with Crew(part.files, CROP, SIZE, 0) as crew:
        images = FileImages(crew, part.labels, True, normalise)

        def ours() -> None:
            with images.epoch(parts, 0, "train", 0) as batches:
                for _ in batches:
                    pass

        def theirs() -> None:
            for batch, _ in DataLoader(stock, BATCH, shuffle=True):
                normalise(batch)

        assert ratio(benchmark, theirs, ours) >= promise


def test_decoding_and_cropping_over_pillow(benchmark: Any, tmp_path: Path) -> None:
    root = write(tmp_path / "train", 256, 90)
    data = [path.read_bytes() for path in sorted(root.rglob("*.jpg"))]
    draws = uniforms(0, 0, len(data))
    crop = RandomResizedCrop(SIZE)

    def pillow() -> None:
        import io

        for content in data:
            np.asarray(crop(Image.open(io.BytesIO(content)).convert("RGB")))

    def ours() -> None:
        for content, drawn in zip(data, draws, strict=True):
            augmented(content, drawn, False, CROP, SIZE)

    assert ratio(benchmark, pillow, ours) >= 1.3


def test_a_listing_takes_little_more_than_the_names(benchmark: Any, tmp_path: Path) -> None:
    for label in range(100):
        folder = tmp_path / "train" / f"class{label:03}"
        folder.mkdir(parents=True)
        for number in range(1_000):
            (folder / f"{number:05}.jpg").touch()

    def names() -> None:
        for folder in (tmp_path / "train").iterdir():
            with os.scandir(folder) as entries:
                for entry in entries:
                    entry.is_dir()

    def index() -> None:
        for kept in (tmp_path / "cache").glob("*.npz"):
            kept.unlink()
        index_part(tmp_path / "train", tmp_path / "cache")

    assert ratio(benchmark, names, index) >= 0.4
    started = time.perf_counter()
    assert len(index_part(tmp_path / "train", tmp_path / "cache").labels) == 100_000
    benchmark.extra_info["seconds again"] = round(time.perf_counter() - started, 3)
    assert time.perf_counter() - started < 0.1


def test_a_tar_of_tars_is_listed_by_its_headers(benchmark: Any, tmp_path: Path) -> None:
    inner = tmp_path / "inner.tar"
    with tarfile.open(inner, "w") as tar:
        for number in range(2_000):
            tar.addfile(tarfile.TarInfo(f"{number:06}.JPEG"))
    outer = tmp_path / "outer.tar"
    with tarfile.open(outer, "w") as tar:
        for number in range(50):
            tar.add(inner, f"n{number:08}.tar")
    benchmark.pedantic(lambda: sum(1 for _ in tar_members(outer)), rounds=ROUNDS)
    assert sum(1 for _ in tar_members(outer)) == 100_000
    assert benchmark.stats.stats.min < 2
