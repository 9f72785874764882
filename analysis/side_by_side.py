"""Two sets of results of one grid beside each other: yours and the expected ones, two machines, two versions.

A score is identical if that of every replicate is the same to 12 digits. It is within the spread if the means differ by
no more than chance explains, from the spread of replicates pooled over cells, with Bonferroni's correction for all that
is compared. Else it is off. A cell is what the worst of its scores is.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.columns import Metric
from analysis.kept import Scores
from analysis.loading import Loaded
from analysis.statistics import estimate
from analysis.table import shown_estimate
from bench.errors import counted
from bench.store.store import Store

Word = Literal["identical", "within the spread", "undecided", "off", "not run", "damaged"]
# From best to worst.
WORDS: tuple[Word, ...] = ("identical", "within the spread", "undecided", "off", "not run", "damaged")
EXPECTED: tuple[Word, ...] = ("identical", "within the spread")
SAME = 1e-12
ALPHA = 0.05


@dataclass(frozen=True)
class Comparison:
    """A score of a cell in two sets of results."""

    cell: str
    metric: Metric
    left: tuple[float, ...]
    right: tuple[float, ...]
    word: Word

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """The metric, both means with their intervals, and the word."""
        left, right = (shown_estimate(estimate(values), self.metric.digits) for values in (self.left, self.right))
        return self.metric.head, left, right, self.word


@dataclass(frozen=True)
class SideBySide:
    """The scores that two sets of results have of one grid, and what each cell comes to."""

    comparisons: tuple[Comparison, ...]
    words: Mapping[str, Word]

    @property
    def sentence(self) -> str:
        """How many cells are as expected, and how."""
        counts = Counter(self.words.values())
        good = sum(counts[word] for word in EXPECTED)
        said = ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])
        return f"{good} of {counted(len(self.words), 'cell')} as expected: {said}."

    @property
    def as_expected(self) -> bool:
        """Whether every cell is identical or within the spread."""
        return all(word in EXPECTED for word in self.words.values())

    @property
    def others(self) -> list[Comparison]:
        """The scores that are not as expected."""
        return [comparison for comparison in self.comparisons if comparison.word not in EXPECTED]


def damaged_cells(loaded: Loaded, store: Store) -> set[str]:
    """Return the cells of which a finished run has a file that was altered, by its checksum, whatever its scores."""
    damaged = {
        run.id
        for run in loaded.plan.runs
        if run.status in ("done", "damaged") and store.run(run.id).damaged_files(deep=True)
    }
    return {cell.name for cell in loaded.plan.cells for runs in cell.runs if damaged & set(runs)}


def compare(left: Scores, right: Scores, metrics: Mapping[str, Metric], damaged: set[str]) -> SideBySide:
    """Return every score of the cells of `right`, and a word a cell; those `damaged` on the left are said to be so."""
    pairs = list(_pairs(left, right, metrics))
    spreads = {key: _spread([sides for _, metric, *sides in pairs if metric.key == key]) for key in metrics}
    comparisons = tuple(
        Comparison(cell, metric, one, other, _word(one, other, *spreads[metric.key], len(pairs)))
        for cell, metric, one, other in pairs
    )
    words: dict[str, Word] = {}
    for cell in right.cells:
        found = [comparison.word for comparison in comparisons if comparison.cell == cell]
        words[cell] = "damaged" if cell in damaged else max(found, key=WORDS.index, default="not run")
    return SideBySide(comparisons, words)


def _pairs(
    left: Scores, right: Scores, metrics: Mapping[str, Metric]
) -> Iterator[tuple[str, Metric, tuple[float, ...], tuple[float, ...]]]:
    """Yield cell, metric and the values of both by replicate, in the units of the tables."""
    for cell, theirs in right.cells.items():
        for key, metric in metrics.items():
            one, other = (
                tuple(scores[key] * metric.factor for scores in replicates.values() if key in scores)
                for replicates in (left.cells.get(cell, {}), theirs)
            )
            if other:
                yield cell, metric, one, other


def _spread(groups: Sequence[Sequence[tuple[float, ...]]]) -> tuple[float, int]:
    """Return the standard deviation of replicates, pooled over all cells of both, and its degrees of freedom."""
    samples = [np.array(values) for sides in groups for values in sides if len(values) > 1]
    freedom = sum(len(sample) - 1 for sample in samples)
    squares = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples)
    return (math.sqrt(squares / freedom) if freedom else math.nan), freedom


def _word(left: tuple[float, ...], right: tuple[float, ...], spread: float, freedom: int, tests: int) -> Word:
    from scipy.stats import t

    if not left:
        return "not run"
    if len(left) == len(right) and np.allclose(left, right, rtol=SAME, atol=0):
        return "identical"
    if not freedom:
        return "undecided"
    error = spread * math.sqrt(1 / len(left) + 1 / len(right))
    limit = float(t.ppf(1 - ALPHA / (2 * tests), df=freedom)) * error
    return "within the spread" if abs(np.mean(left) - np.mean(right)) <= limit else "off"
