"""Work items: what a worker can take. Train a run, evaluate a run on a set, attack an ensemble.

A plan says what work there is; `Work` is that, resolved: it refers to no grid, so that a copy of it in a file still
means the same when the grid was edited.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import model_validator

from bench.evaluation.sets import AttackSet, OwnSet, TicketSet
from bench.spec.record import Record
from bench.spec.run import RunSpec
from bench.store.logits import Ensemble


class RunWork(Record):
    """A run to train, and the sets to evaluate its tickets on.

    cell    the first cell that asks for it, for log lines
    hours   estimated hours of training
    """

    spec: RunSpec
    cell: str
    evaluations: tuple[TicketSet, ...] = ()
    hours: float = 0.0

    @property
    def id(self) -> str:
        """The run id."""
        return self.spec.run_id


class EnsembleWork(Record):
    """An ensemble to attack as a whole: the first `members` members of these runs."""

    runs: tuple[str, ...]
    members: int
    cell: str
    attacks: tuple[AttackSet, ...]

    @property
    def ensemble(self) -> Ensemble:
        """The runs and members that name it."""
        return Ensemble(self.runs, self.members)


class Work(Record):
    """All work of a plan, in its order; ensembles are of its runs."""

    runs: tuple[RunWork, ...]
    ensembles: tuple[EnsembleWork, ...] = ()

    @model_validator(mode="after")
    def _ensembles_of_its_runs(self) -> "Work":
        known = {run.id for run in self.runs} if self.ensembles else set()
        for run in (run for ensemble in self.ensembles for run in ensemble.runs):
            if run not in known:
                raise ValueError(f"an ensemble of run {run}, which is none of its runs")
        return self

    def items(self) -> Iterator["Item"]:
        """Yield the items in the order to take them.

        A run's test and validation logits follow its training, so that a first table is there early. The other sets
        follow when everything is trained, then the attacks.
        """
        for run in self.runs:
            yield TrainRun(run)
            yield from (EvaluateRun(run, asked) for asked in run.evaluations if isinstance(asked, OwnSet))
        for run in self.runs:
            yield from (EvaluateRun(run, asked) for asked in run.evaluations if not isinstance(asked, OwnSet))
        specs = {run.id: run.spec for run in self.runs}
        for ensemble in self.ensembles:
            members = tuple(specs[run] for run in ensemble.runs)
            yield from (AttackEnsemble(ensemble, members, attack) for attack in ensemble.attacks)


@dataclass(frozen=True, eq=False)
class TrainRun:
    """Train a run to its tickets."""

    run: RunWork

    @property
    def name(self) -> str:
        """What the item is called among those of its folder."""
        return "train"


@dataclass(frozen=True, eq=False)
class EvaluateRun:
    """Store the logits of a run's tickets on one set."""

    run: RunWork
    asked: TicketSet

    @property
    def name(self) -> str:
        """What the item is called among those of its folder."""
        return self.asked.name


@dataclass(frozen=True, eq=False)
class AttackEnsemble:
    """Store the logits of an ensemble on images crafted against it; `specs` are those of its runs."""

    ensemble: EnsembleWork
    specs: tuple[RunSpec, ...]
    attack: AttackSet

    @property
    def name(self) -> str:
        """What the item is called among those of its folder."""
        return self.attack.name


Item = TrainRun | EvaluateRun | AttackEnsemble
