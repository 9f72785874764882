"""The one module that reads the store: what members of replicates predict, and what runs recorded while they trained.

Files are read against their checksums. A file that cannot be used becomes a problem, a sentence that names it, and
everything else is read.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from bench import metrics
from bench.data.catalog import facts_of
from bench.errors import UserError, counted
from bench.evaluation.sets import AttackSet, TicketSet
from bench.metrics.probabilities import Doubles, Floats, Labels
from bench.plan import CellPlan, Plan, RunPlan
from bench.store.logits import Ensemble, StoredLogits, ensemble_logits
from bench.store.probe import decode
from bench.store.records import EpochRecord, Session, TicketRecord
from bench.store.run_folder import Array
from bench.store.samples import read_samples
from bench.store.store import Store

SetKind = TypeVar("SetKind", bound=TicketSet)


class ProbePrediction(NamedTuple):
    """What a run predicted on its probe images after an epoch: probabilities [images, classes]."""

    epoch: int
    phase: str
    probabilities: Floats


@dataclass(frozen=True)
class Replicate:
    """A replicate of a cell, counted from 1; all of its runs are done."""

    cell: CellPlan
    number: int
    store: "StoreView"

    @property
    def key(self) -> dict[str, Any]:
        """The columns that say which replicate a row of a frame is about."""
        return {"cell": self.cell.name, "replicate": self.number}

    @property
    def runs(self) -> tuple[str, ...]:
        """The ids of its runs."""
        return self.cell.runs[self.number - 1]

    def logits(self, name: str) -> tuple[Array, Labels]:
        """Return float32 logits [members, images, classes] and labels [images] of an evaluation set.

        UserError that names the file if one is damaged or absent, if it was made on other images than those of another
        run, or if no run left a ticket.
        """
        parts = [self.store.logits(run, name) for run in self.runs]
        labels = parts[0][1]
        for run, (_, others) in zip(self.runs[1:], parts[1:], strict=True):
            if not np.array_equal(others, labels):
                path = self.store.path(run)
                raise UserError(f"{path}: evaluated on other images than run {self.runs[0]} of the same ensemble")
        logits = np.concatenate([part for part, _ in parts])
        if not len(logits):
            raise UserError(f"{self.store.path(self.runs[0])}: left no ticket, so there is nothing to evaluate")
        # A cell may count the first ones of a network that draws samples.
        return logits[: self.cell.members], labels

    def label_pairs(self, name: str) -> Labels:
        """Return other labels of the test images, int64 [K, 2] of place and label; errors as of `logits`."""
        found = [self.store.label_pairs(run, name) for run in self.runs]  # of one source, which is checked
        pairs, truth = found[0]
        if not np.array_equal(truth, self.logits("test")[1]):
            path = self.store.path(self.runs[0])
            raise UserError(
                f"{path}: {name} is of other images than test; delete its file and `bench run` makes it again"
            )
        return pairs

    def members(self, name: str) -> tuple[Doubles, Labels]:
        """Return softmax probabilities [members, images, classes] and labels [images]; errors as of `logits`."""
        logits, labels = self.logits(name)
        return metrics.softmax(logits), labels

    def attacked_logits(self, name: str) -> tuple[Array, Labels]:
        """Return logits [crafted on, members, images, classes] under an attack, and labels; errors as of `logits`."""
        return self.store.attacked(self).logits(name)


class StoreView:
    """What a store holds of a plan; collects the problems that are met while it is read."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan = plan
        self._store = store
        self._runs = {run.id: run for run in plan.runs}
        self._attacks = {planned.ensemble: planned.evaluations for planned in plan.ensembles}
        self._stored_logits: dict[str, StoredLogits] = {}
        # Which images each set was found to show, and where: the same for all runs that are compared.
        self._images_seen: dict[tuple[str, str], tuple[str, Path]] = {}
        self._problems: dict[str, None] = {}

    @property
    def root(self) -> Path:
        """The folder of the store."""
        return self._store.root

    # -- problems ------------------------------------------------------------------------------------------------------

    @property
    def problems(self) -> tuple[str, ...]:
        """The sentences noted so far, each once."""
        return tuple(self._problems)

    def note(self, problem: str) -> None:
        """Add a sentence to the problems."""
        self._problems[problem] = None

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note the UserError that the block ends with, if any, and go on after it."""
        try:
            yield
        except UserError as error:
            self.note(str(error))

    # -- replicates ----------------------------------------------------------------------------------------------------

    def replicates(self) -> Iterator[Replicate]:
        """Yield the replicates whose runs are all done, or were and are damaged, cell by cell."""
        for cell in self.plan.cells:
            for number, runs in enumerate(cell.runs, start=1):
                if all(self._runs[run].status in ("done", "damaged") for run in runs):
                    yield Replicate(cell, number, self)

    def warnings(self, cell: CellPlan) -> list[str]:
        """Return what the finished runs of a cell say besides their numbers, as "run 0123abcd: no weight ..."."""
        found = []
        for run in dict.fromkeys(run for number in range(cell.replicates) for run in cell.all_runs(number)):
            if self._runs[run].status == "done":
                with self.noting():
                    warnings = self._store.run(run).result().warnings
                    found += [f"run {run[:8]}: {'; '.join(warnings)}"] if warnings else []
        return found

    def sets(self, replicate: Replicate, kind: type[SetKind]) -> Iterator[SetKind]:
        """Yield the sets of a kind that the plan asks for and that every run of a replicate was evaluated on."""
        asked = [found for found in self._runs[replicate.runs[0]].evaluations if isinstance(found, kind)]
        with self.noting():
            stored = [self._of(run).records() for run in replicate.runs] if asked else []
            yield from [found for found in asked if all(found.name in names for names in stored)]

    def attacks(self, replicate: Replicate) -> Iterator[AttackSet]:
        """Yield the attacks that the plan asks for and that were made on a replicate's ensemble."""
        asked = self._attacks.get(Ensemble(replicate.runs, replicate.cell.members), ())
        with self.noting():
            stored = self.attacked(replicate).records() if asked else {}
            yield from [found for found in asked if found.name in stored]

    def attacked(self, replicate: Replicate) -> StoredLogits:
        """Return what a replicate's ensemble as a whole was evaluated on; UserError if one of its runs is not done."""
        ensemble = Ensemble(replicate.runs, replicate.cell.members)
        if ensemble.id not in self._stored_logits:
            self._stored_logits[ensemble.id] = ensemble_logits(self._store, ensemble)
        return self._stored_logits[ensemble.id]

    def logits(self, run: str, name: str) -> tuple[Array, Labels]:
        """Return logits [members, images, classes] and labels of a run on a set; UserError if they cannot be used."""
        stored = self._of(run)
        logits, labels = stored.logits(name)
        self._check_images(run, name)
        return logits, labels

    def label_pairs(self, run: str, name: str) -> tuple[Labels, Labels]:
        """Return other labels of a run's test images, [K, 2], and their own; UserError if they cannot be used."""
        pairs, labels = self._of(run).label_pairs(name)
        self._check_images(run, name)
        return pairs, labels

    def _check_images(self, run: str, name: str) -> None:
        """UserError if a set of a run shows other images than that of another run."""
        stored = self._of(run)
        images = stored.records()[name].images
        if images is None:  # listed by a result of schema 1: images of the run's own data
            return
        key = (self._runs[run].spec.data.name, name)
        first, where = self._images_seen.setdefault(key, (images, stored.path))
        if images != first:
            raise UserError(
                f"{stored.path}: {name} shows other images ({images}) than in {where} ({first}); delete its file "
                "and `bench run` makes it again"
            )

    def _of(self, run: str) -> StoredLogits:
        if run not in self._stored_logits:
            self._stored_logits[run] = StoredLogits.of_run(self._store.run(run))
        return self._stored_logits[run]

    # -- runs ----------------------------------------------------------------------------------------------------------

    def path(self, run: str) -> Path:
        """Return the folder of a run."""
        return self._store.run(run).path

    def history(self, run: str) -> list[EpochRecord]:
        """Return what a run recorded of each epoch so far; UserError if it was altered."""
        return self._store.run(run).history()

    def sessions(self, run: str) -> tuple[Session, ...]:
        """Return the sessions of work on a run; UserError if their record was altered."""
        return self._store.run(run).sessions()

    def tickets(self, run: str) -> tuple[TicketRecord, ...]:
        """Return what a finished run recorded of its tickets; UserError if it was altered."""
        return self._store.run(run).result().tickets

    def device(self, run: str) -> tuple[str, int]:
        """Return the name of the device that a finished run was trained on, and how many processes did."""
        result = self._store.run(run).result()
        return result.device_name, result.processes

    def has_weights(self, run: str) -> bool:
        """Whether the weights of a finished run came with it; UserError if the record of that was altered."""
        return not self._store.run(run).absent_weights()

    def not_exported(self) -> tuple[str, ...]:
        """Return sentences on what was left out when finished runs were exported; none for a store of one's own."""
        done = [run.id for run in self.plan.runs if run.status == "done"]
        without = sum(not self.has_weights(run) for run in done)
        families = Counter(family for run in done for family in self._store.run(run).not_exported().families)
        weights = (
            f"Not exported: the weights of {counted(without, 'run')}, so their rows of the table of distances between "
            "tickets in weight space, and of the figures of mask overlap, are left out."
        )
        sets = [
            f"Not exported: the evaluation sets {family} of {counted(count, 'run')}."
            for family, count in sorted(families.items())
        ]
        return (*([weights] if without else []), *sets)

    def tensors(self, run: str, index: int) -> dict[str, Array]:
        """Return weights and masks of a ticket by name; UserError that names the file if it is damaged."""
        return self._store.run(run).ticket(index)

    def probe_predictions(self, run: RunPlan) -> list[ProbePrediction]:
        """Return what a run predicted on its probe images after each epoch; none if it did not record it.

        UserError if the history was altered since.
        """
        classes = facts_of(run.spec.data).classes
        history = self.history(run.id)
        try:
            return [
                ProbePrediction(epoch.epoch, epoch.phase, decode(epoch.predictions, classes))
                for epoch in history
                if epoch.predictions is not None
            ]
        except ValueError as error:
            path = self.path(run.id) / "history.jsonl"
            raise UserError(f"{path}: altered, its predictions do not fit ({error})") from None

    # -- data ----------------------------------------------------------------------------------------------------------

    def data_notes(self) -> dict[tuple[str, str], str]:
        """Return what was recorded about the images by (data set, variant)."""
        records = {}
        with self.noting():
            records = self._store.written_data_records()
        return {(name, record.variant): record.note for name, record in records.items()}

    def samples(self, dataset: str, family: str) -> dict[str, Array] | None:
        """Return what shows a test image under each corruption; None if it is absent, or damaged, which is noted."""
        with self.noting():
            return read_samples(self._store, dataset, family)
        return None


def tidy(rows: Sequence[Mapping[str, Any]], columns: str) -> pd.DataFrame:
    """Return rows as a DataFrame with these columns, also where there is no row."""
    return pd.DataFrame(rows, columns=columns.split())
