"""Mean and interval over replicates: Student's t, which covers 95% also for the three seeds that papers can afford.

A percentile bootstrap over three seeds covers about 75%; with one replicate there is no interval, and none is shown.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# More than anyone will train, and the end of what enough_replicates looks at.
MOST_REPLICATES = 1_000
# Values that differ by less, relative to the largest, are alike.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """Mean over n replicates and half the width of its interval; NaN where n is too small for either.

    Nor is there an interval where all replicates are alike: counts of few images can be by chance, and tell no spread.
    """

    mean: float
    half_width: float
    n: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half_width

    @property
    def error_bar(self) -> float | None:
        """Half the width, None where there is no interval."""
        return None if math.isnan(self.half_width) else self.half_width


def estimate(values: Iterable[float], confidence: float = 0.95) -> Estimate:
    """Return mean and Student-t interval of independent replicates; NaN values (no such quantity) are left out."""
    from scipy.stats import t

    sample, mean, error = _moments(values)
    n = len(sample)
    return Estimate(mean, float(t.ppf((1 + confidence) / 2, df=n - 1)) * error if n > 1 else math.nan, n)


def p_of_difference(differences: Iterable[float], margin: float, *, level: bool = False) -> float | None:
    """Return the p-value of the t-test that decides whether a mean difference is on one side of a margin.

    Two-sided against `margin`. With `level`: two one-sided tests that the mean lies within the margin on both sides of
    zero, or two-sided against its nearer end if the mean lies outside. None without two values that differ.
    """
    from scipy.stats import t

    sample, mean, error = _moments(differences)
    if math.isnan(error):
        return None
    distance, sides = (mean - margin, 2) if not level else (abs(mean) - margin, 1 if abs(mean) < margin else 2)
    return min(1.0, sides * float(t.sf(abs(distance) / error, df=len(sample) - 1)))


def enough_replicates(differences: Iterable[float], margin: float, *, level: bool = False) -> int | None:
    """Return how many replicates would decide if mean and spread stayed as they are; MOST_REPLICATES + 1: even more.

    Decided as by p_of_difference at 0.05. None without two values that differ: their spread is not known.
    """
    from scipy.stats import t

    sample, mean, error = _moments(differences)
    if math.isnan(error):
        return None
    within = level and abs(mean) < margin
    distance = abs(abs(mean) - margin if level else mean - margin)
    counts = np.arange(2, MOST_REPLICATES + 1)
    errors = error * math.sqrt(len(sample)) / np.sqrt(counts)
    enough = t.ppf(0.95 if within else 0.975, df=counts - 1) * errors < distance
    return int(counts[enough.argmax()]) if enough.any() else MOST_REPLICATES + 1


def holm(p_values: Iterable[float]) -> list[float]:
    """Return p-values adjusted for being many (Holm 1979): below alpha, they keep the family-wise error below alpha."""
    found = list(p_values)
    adjusted = [0.0] * len(found)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(found)), key=found.__getitem__)):
        highest = max(highest, min(1.0, (len(found) - rank) * found[index]))
        adjusted[index] = highest
    return adjusted


def _moments(values: Iterable[float]) -> "tuple[np.ndarray[tuple[int], np.dtype[np.float64]], float, float]":
    """Return the values, their mean and its standard error; NaN where there are too few, or none differ."""
    sample = np.array([value for value in values if not math.isnan(value)], dtype=np.float64)
    if not len(sample):
        return sample, math.nan, math.nan
    alike = np.ptp(sample) <= ROUNDING * np.abs(sample).max()
    error = math.nan if alike else float(sample.std(ddof=1)) / math.sqrt(len(sample))
    return sample, float(sample.mean()), error
