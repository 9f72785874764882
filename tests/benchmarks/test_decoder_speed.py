"""Decoders beside each other, beside a training step, and beside a forward pass: wall time on two idle cores.

What is compared takes turns. On busy cores, or on one, these numbers mean nothing.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from torch import nn

from bench.data.augment import Normalise
from bench.data.dataset import LabelledImages, at_once
from bench.data.stream import StreamedImages
from bench.data.streamed.crew import Crew
from bench.data.streamed.index import index_part
from bench.data.streamed.source import shown
from bench.data.streamed.tasks import PIECE, Task
from bench.evaluation.predict import predict_all
from tests.benchmarks.test_image_speed import CROP, SIZE, one_thread, write

__all__ = ["one_thread"]
ROUNDS = 5
NORMALISE = Normalise((0, 0, 0), (1, 1, 1), (SIZE, SIZE), device="cpu", layout=torch.channels_last)

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core cannot do two things")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("images") / "train", 256, 90)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(benchmark: Any, one: Callable[[], float], other: Callable[[], float], promise: str) -> float:
    """Return the seconds of one over those of the other, the median of rounds in turn."""
    one(), other()
    ratios = [one() / other() for _ in range(ROUNDS)]
    benchmark.pedantic(other, rounds=1)
    benchmark.extra_info |= {"ratios": [round(value, 3) for value in ratios], "promise": promise}
    return median(ratios)


def tasks(count: int, images: int) -> list[Task]:
    return [Task((PIECE * place + torch.arange(PIECE).numpy()) % images, 0, PIECE * place) for place in range(count)]


def test_two_decoders_over_one(benchmark: Any, root: Path, tmp_path: Path) -> None:
    files = index_part(root, tmp_path / "cache").files

    def epoch(crew: Crew) -> float:
        return seconds(lambda: [None for _ in crew.decoded(tasks(16, len(files)))])

    with Crew(files, CROP, SIZE, 1) as one, Crew(files, CROP, SIZE, 2) as two:
        assert in_turn(benchmark, lambda: epoch(one), lambda: epoch(two), "at least 1.7") >= 1.7


@contextmanager
def decoding(crew: Crew, images: int) -> Iterator[Callable[[], object]]:
    """Keep a crew at work; what is given takes the next piece."""
    pieces = crew.decoded(tasks(10_000, images))
    try:
        yield lambda: next(pieces)
    finally:
        pieces.close()


def test_a_training_step_beside_a_decoder(benchmark: Any, root: Path, tmp_path: Path) -> None:
    """One decoder on the other core; a step takes as long as it decodes a piece, so that it never pauses."""
    files = index_part(root, tmp_path / "cache").files
    network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3))
    optimizer = torch.optim.SGD(network.parameters(), 0.0)
    batch = torch.rand(16, 3, 64, 64)

    def step() -> None:
        optimizer.zero_grad()
        network(batch).square().mean().backward()
        optimizer.step()

    def alone() -> float:
        return median(seconds(step) for _ in range(20))

    with Crew(files, CROP, SIZE, 1) as crew:

        def beside() -> float:
            with decoding(crew, len(files)) as take:
                found = []
                for _ in range(20):
                    found.append(seconds(step))
                    take()
                return median(found)

        assert in_turn(benchmark, beside, alone, "at most 1.05") <= 1.05


def test_evaluation_over_bare_forward_passes(benchmark: Any, root: Path, tmp_path: Path) -> None:
    """Images of 224 pixels from files, as of ImageNet-C, and a network that takes a little longer than its decoding."""
    files = index_part(root, tmp_path / "cache").files
    images = StreamedImages(LabelledImages(shown(files.as_array(), SIZE), torch.zeros(len(files)).numpy()), NORMALISE)
    network = nn.Sequential(nn.Conv2d(3, 32, 5, stride=2), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten(2))
    size = at_once(SIZE)
    batches = [images.plain(start, min(start + size, len(files))) for start in range(0, len(files), size)]

    class Member:
        def logits(self, batch: torch.Tensor, name: str, first: int) -> torch.Tensor:  # noqa: ARG002
            return network(batch).mean(2).unsqueeze(0)

    @torch.inference_mode()
    def bare() -> float:
        return seconds(lambda: [network(batch).mean(2) for batch in batches])

    def ours() -> float:
        return seconds(lambda: predict_all([Member()], images, "set"))  # type: ignore[list-item]

    assert in_turn(benchmark, bare, ours, "at least 0.85") >= 0.85
