"""Predictions timed in turn, round after round, so that what else the machine does meets all of them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor

ROUNDS = 5
MOST_CALLS = 10_000
N = TypeVar("N", bound=str)
Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Timing:
    """Seconds of one prediction, the median over rounds, and the median of its ratios to the reference's."""

    seconds: float
    over_reference: float


def compare_times(calls: Mapping[N, Predict], reference: Predict, images: Tensor, seconds: float) -> dict[N, Timing]:
    """Return the time of each call on these images; in a round each takes `seconds` / ROUNDS, or predicts once."""
    timed = {name: (call, _repeats(call, images, seconds / ROUNDS)) for name, call in calls.items()}
    against = reference, _repeats(reference, images, seconds / ROUNDS)
    found: dict[N, list[float]] = {name: [] for name in calls}
    ratios: dict[N, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        before = _timed(*against, images)
        for name, call in timed.items():
            found[name].append(_timed(*call, images))
            ratios[name].append(found[name][-1] / before)
    return {name: Timing(median(found[name]), median(ratios[name])) for name in calls}


def _repeats(predict: Predict, images: Tensor, seconds: float) -> int:
    """Return how many predictions fill some seconds, one at least; the first ones, which warm up, do not count."""
    _timed(predict, 1, images)
    return max(1, min(MOST_CALLS, int(seconds / _timed(predict, 1, images))))


def _timed(predict: Predict, repeats: int, images: Tensor) -> float:
    """Return the seconds of one prediction, of so many in a row."""
    wait(images.device)
    started = time.perf_counter()
    for _ in range(repeats):
        predict(images)
    wait(images.device)
    return (time.perf_counter() - started) / repeats


def wait(device: torch.device) -> None:
    """Let a GPU finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
