"""The drop fraction over a run: constant, cosine-annealed to zero (Dettmers & Zettlemoyer 2019), or annealed anew."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import assert_never

from bench.spec.phases import Rewire, Schedule

# What the released ImageNet code anneals to (ImageNet/sparselearning/core.py, CosineDecay).
LEAST = 0.005


def drop_fraction(initial: float, schedule: Schedule, step: int, steps: int) -> float:
    """Return the share of active weights to drop after optimiser step `step` of `steps` (1-based).

    Of "cosine_restarts" they count from the last change of a large part of the topology to the next.
    """
    match schedule:
        case "constant":
            return initial
        case "cosine":
            return initial / 2 * (1 + math.cos(math.pi * step / steps))
        case "cosine_restarts":
            return LEAST + (initial - LEAST) / 2 * (1 + math.cos(math.pi * step / steps))
        case _:
            assert_never(schedule)


def fraction_after(rewire: Rewire, step: int, turns: Sequence[int]) -> float:
    """Return the share to drop after optimiser step `step` (1-based) of a run.

    turns   the steps after which the run starts (0), changes a large part of its topology, and ends
    """
    first, last = turns[0], turns[-1]
    if rewire.schedule == "cosine_restarts":
        place = bisect_left(turns, step, lo=1)
        first, last = turns[place - 1], turns[place]
    return drop_fraction(rewire.drop_fraction, rewire.schedule, step - first, last - first)
