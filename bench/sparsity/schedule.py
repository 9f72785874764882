"""The drop fraction over a run: constant, cosine-annealed to zero (Dettmers & Zettlemoyer 2019), or annealed anew."""

import math
from typing import assert_never

from bench.spec.phases import Schedule

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
