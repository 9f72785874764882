"""Speed of the local corruptions: 32x32 images on one core, averaged over all types and severities."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from bench.data.corruptions.apply import corrupt
from bench.data.corruptions.catalog import CORRUPTIONS, SEVERITIES

IMAGES = 128
FLOOR = 2_000  # images a second and core
# The best of several rounds: what this machine can do while its neighbours are quiet.
ROUNDS = 3


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_corruptions_on_one_core(benchmark: Any) -> None:
    # Noise is no easy case: it has the most edges and the longest JPEG.
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8))
    index = torch.arange(IMAGES)
    seconds: dict[str, float] = {}

    def all_sets() -> None:
        for type in CORRUPTIONS:
            start = time.perf_counter()
            for severity in SEVERITIES:
                corrupt(images, type, severity, index, 0)
            seconds[type] = min(time.perf_counter() - start, seconds.get(type, np.inf))

    benchmark.pedantic(all_sets, rounds=ROUNDS, warmup_rounds=1)
    done = IMAGES * len(SEVERITIES)
    benchmark.extra_info["images_per_second"] = {type: round(done / spent) for type, spent in seconds.items()}
    assert done * len(CORRUPTIONS) / benchmark.stats.stats.min >= FLOOR
