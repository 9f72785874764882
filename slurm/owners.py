"""Which unit each submitted run is in, and what elements that wait or run are still going to do."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench.store.folders import Store
from bench.store.logits import Ensemble
from slurm.ledger import BatchFolder
from slurm.records import Batch
from slurm.scheduler import Answer, Known
from slurm.todo import UnderWay


@dataclass(frozen=True)
class Owner:
    """The last unit that was to train or evaluate a run, or to attack an ensemble; `run` is its record of that."""

    folder: BatchFolder
    index: int
    run: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, int]:
        """What scheduler.ask() answers by."""
        return self.folder.batch.name, self.index


@dataclass(frozen=True)
class Owners:
    """Who is to train and who to evaluate each run, by run id, in the order of submission."""

    train: Mapping[str, Owner]
    evaluate: Mapping[str, Owner]
    ensembles: Mapping[Ensemble, Owner]

    @classmethod
    def of(cls, batches: Iterable[BatchFolder]) -> "Owners":
        """Return the last of each in the batches, oldest first."""
        train: dict[str, Owner] = {}
        evaluate: dict[str, Owner] = {}
        ensembles: dict[Ensemble, Owner] = {}
        for folder in batches:
            for index, unit in enumerate(folder.raw_units()):
                runs = {run["id"]: run for run in unit["runs"]}
                train |= {run: Owner(folder, index, runs[run]) for run in unit["train"]}
                evaluate |= {run: Owner(folder, index, runs[run]) for run in unit["evaluate"]}
                for one in unit["ensembles"]:
                    ensembles[Ensemble(tuple(one["runs"]), one["members"])] = Owner(folder, index, one)
        return cls(train, evaluate, ensembles)

    @cached_property
    def last(self) -> Mapping[str, Owner]:
        """Who matters most for the state of each run."""
        return {**self.evaluate, **self.train}

    @cached_property
    def attacks(self) -> Mapping[str, list[Ensemble]]:
        """The ensembles that count with each run: the last of their runs that was submitted."""
        by_run: defaultdict[str, list[Ensemble]] = defaultdict(list)
        for one in self.ensembles:
            if own := [run for run in one.runs if run in self.last]:
                by_run[own[-1]].append(one)
        return by_run


def under_way(store: Store, batches: Iterable[BatchFolder], answer: Answer) -> UnderWay:
    """Return what active elements are still going to do: not the runs that failed or were done in them already."""
    train: dict[str, str] = {}
    evaluate: dict[str, str] = {}
    elements: defaultdict[str, dict[int, Known]] = defaultdict(dict)
    for (name, index), one in answer.items():
        if one.active:
            elements[name][index] = one
    for folder in batches:
        active = elements[folder.batch.name]
        for index, unit in enumerate(folder.raw_units() if active else ()):
            if index not in active:
                continue
            for run in unit["train"]:
                there = store.run(run)
                error = there.error()
                failed = error is not None and is_final(error, folder.batch, active[index])
                if not failed and there.status() != "done":
                    train[run] = active[index].element
            evaluate |= dict.fromkeys(unit["evaluate"], active[index].element)
    return UnderWay(train, evaluate)


def is_final(error: Mapping[str, Any], batch: Batch, known: Known | None) -> bool:
    """Whether a failure is of this submission, and no attempt of it will try the run again.

    An element takes up no run that failed in it before, but where several processes train it: there a failure may be
    that of a node, after which SLURM starts the element again.
    """
    again = batch.resources.processes > 1 and known is not None and known.active
    return not again and error.get("time", "") >= batch.created
