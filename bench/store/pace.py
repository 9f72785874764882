"""How far a run in training is by its history, how fast it is, and how long it still takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.store.records import EpochRecord

RECENT_EPOCHS = 5


@dataclass(frozen=True)
class Pace:
    """Epochs done; images a second of the last one and the seconds left are None before there is one."""

    epoch: int
    images_per_second: float | None
    seconds_left: float | None


def pace_of(history: Sequence[EpochRecord], epochs: int) -> Pace:
    """Return the pace of a run of so many epochs; those left take as long as the median of the last five."""
    if not history:
        return Pace(0, None, None)
    left = (epochs - len(history)) * median(line.seconds for line in history[-RECENT_EPOCHS:])
    return Pace(len(history), history[-1].images_per_second, left)
