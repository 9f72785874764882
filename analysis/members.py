"""What the members of finished replicates predict on an evaluation set, read from the store against its checksums."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import metrics
from bench.errors import UserError
from bench.metrics.probabilities import Doubles, Labels
from bench.plan import Plan
from bench.store.folders import Array, Store
from bench.store.logits import Ensemble, Evaluated, evaluated_ensemble

OWN_SETS = ("test", "validation")


@dataclass(frozen=True)
class Replicate:
    """A replicate of a cell whose runs are all done; `count` members, of those that its runs' tickets make."""

    cell: str
    number: int
    runs: tuple[str, ...]
    count: int
    store: Store
    dataset: str
    # Which images each set was found to show, and where: one record for all replicates that are compared.
    shown: dict[tuple[str, str], tuple[str, Path]]

    def logits(self, name: str) -> tuple[Array, Labels]:
        """Return float32 logits [members, images, classes] and labels [images] of an evaluation set.

        UserError that names the file if one is damaged or absent, if it was made on other images than those of another
        run, or if no run left a ticket.
        """
        parts = [self._read(run, name) for run in self.runs]
        labels = parts[0][1]
        for run, (_, other) in zip(self.runs[1:], parts[1:], strict=True):
            if not np.array_equal(other, labels):
                path = self.store.run(run).path
                raise UserError(f"{path}: evaluated on other images than run {self.runs[0]} of the same ensemble")
        logits = np.concatenate([part for part, _ in parts])
        if not len(logits):
            raise UserError(f"{self.store.run(self.runs[0]).path}: left no ticket, so there is nothing to evaluate")
        # Of a network that draws samples, a cell may count the first ones.
        return logits[: self.count], labels

    def members(self, name: str) -> tuple[Doubles, Labels]:
        """Return the softmax probabilities of the same; errors likewise."""
        logits, labels = self.logits(name)
        return metrics.softmax(logits), labels

    def has(self, name: str) -> bool:
        """Whether every run was evaluated on a set that is not its own; `logits` says if a file was damaged since."""
        return all(name in evaluated.receipts() for evaluated in self._evaluated)

    @cached_property
    def attacked(self) -> Evaluated:
        """What the ensemble as a whole was evaluated on."""
        return evaluated_ensemble(self.store, Ensemble(self.runs, self.count))

    @cached_property
    def _evaluated(self) -> Sequence[Evaluated]:
        return [Evaluated.of_run(self.store.run(run)) for run in self.runs]

    def _read(self, run: str, name: str) -> tuple[Array, Labels]:
        if name in OWN_SETS:
            return self.store.run(run).logits(name)
        evaluated = self._evaluated[self.runs.index(run)]
        logits, labels = evaluated.logits(name)
        images = evaluated.receipts()[name].images
        first, where = self.shown.setdefault((self.dataset, name), (images, evaluated.path))
        if images != first:
            raise UserError(
                f"{evaluated.path}: {name} shows other images ({images}) than in {where} ({first}); delete its file "
                "and `bench run` makes it again"
            )
        return logits, labels


def replicates_of(plan: Plan, store: Store) -> Iterator[Replicate]:
    """Yield the replicates of all cells whose runs are done, or were and are damaged, cell by cell."""
    statuses = {run.id: run.status for run in plan.runs}
    shown: dict[tuple[str, str], tuple[str, Path]] = {}
    for cell in plan.cells:
        for number, runs in enumerate(cell.runs, start=1):
            if all(statuses[run] in ("done", "damaged") for run in runs):
                yield Replicate(cell.name, number, runs, cell.members, store, cell.data.name, shown)


def tidy(rows: list[dict[str, Any]], columns: str) -> pd.DataFrame:
    """Return rows as a DataFrame with these columns, also where there is no row."""
    return pd.DataFrame(rows, columns=columns.split())
