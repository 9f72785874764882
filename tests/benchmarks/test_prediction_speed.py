"""Predicting with three tickets of a WRN-16-2, one after the other and stacked, against one of them.

`python -m bench latency` measures the same of finished cells. The promise here: members cost what they cost one by one,
and nothing is added around them.
"""

import statistics
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.evaluation.latency import one_after_the_other, stacked
from bench.spec.run import ModelSpec
from bench.store.latency import MANY, ONE
from tests.evaluation.stored import networks_of
from tests.training.runs import dense_spec

MEMBERS, ROUNDS = 3, 9
LIMIT = 1.08 * MEMBERS  # of many images, one after the other


@pytest.mark.parametrize("images", [ONE, MANY])
@pytest.mark.parametrize("way", ["one after the other", "stacked"])
def test_prediction(way: str, images: int, benchmark: Any, tmp_path: Path) -> None:
    spec = dense_spec(model=ModelSpec(name="wide_resnet", arguments={"depth": 16, "width": 2}))
    networks = networks_of(tmp_path, spec) * MEMBERS
    batch = torch.randn(images, 3, 32, 32)
    single = one_after_the_other(networks[:1])
    ours = one_after_the_other(networks) if way == "one after the other" else stacked(networks, batch, "fp32")
    calls = 1 if images == MANY else 20
    seconds: list[float] = []

    @torch.no_grad()
    def baseline() -> None:
        started = time.perf_counter()
        for _ in range(calls):
            single(batch)
        seconds.append(time.perf_counter() - started)

    @torch.no_grad()
    def predict() -> None:
        for _ in range(calls):
            ours(batch)

    benchmark.group = f"prediction of {images} images, WRN-16-2, M={MEMBERS}"
    benchmark.pedantic(predict, setup=baseline, rounds=ROUNDS, warmup_rounds=2)
    ratio = benchmark.stats.stats.median / statistics.median(seconds[-ROUNDS:])
    benchmark.extra_info |= {"baseline": "one network", "ratio": round(ratio, 3)}
    print(f"\n{way}, {images} images: {ratio:.3f} of one network")
    if (way, images) == ("one after the other", MANY):
        assert ratio <= LIMIT
