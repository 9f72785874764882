"""The drop fraction over a run: constant as released, or cosine-annealed to zero (Dettmers & Zettlemoyer 2019)."""

import math
from typing import Literal, assert_never


def drop_fraction(initial: float, schedule: Literal["constant", "cosine"], step: int, steps: int) -> float:
    """Return the share of active weights to drop after optimiser step `step` of `steps` (1-based)."""
    match schedule:
        case "constant":
            return initial
        case "cosine":
            return initial / 2 * (1 + math.cos(math.pi * step / steps))
        case _:
            assert_never(schedule)
