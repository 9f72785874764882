"""What a plan holds: its cells, the distinct runs behind them, and what they add up to."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from bench.evaluation.sets import AttackSet, TicketSet
from bench.plan.cost import Basis
from bench.recipes.recognise import method_of_spec
from bench.spec.run import DataSpec, ModelSpec, RunSpec
from bench.store.logits import Ensemble
from bench.work.readiness import State


def method_of(method: str, model: ModelSpec) -> str:
    """Return what a reader calls a method: "dst", "mimo" (a plain recipe on such a network), "dst tree_net"."""
    if model.ensemble is None:
        return method
    return model.ensemble.kind if method == "dense" else f"{method} {model.ensemble.kind}"


def method_of_run(spec: RunSpec) -> str:
    """Return what a reader calls the method of a run; "other" for a recipe that the suite does not have."""
    return method_of(method_of_spec(spec) or "other", spec.model)


@dataclass(frozen=True)
class CellPlan:
    """A row of a table and the runs it is made of.

    method                  as method_of says
    runs                    run ids of each replicate; its members are all tickets of these runs, in order
    parents                 ids of the runs that those start from, each once; empty for most methods
    train_flops_ratio       training FLOPs of one replicate, parents included, over those of one dense run
    inference_flops_ratio   FLOPs of predicting with all members over those of one dense network
    parameters_ratio        weights of all members over those of one dense network
    flops_assumed           those of networks pruned by global magnitude are: what is left in a layer is known later
    assumed_epochs          length of the dense run that train_flops_ratio is relative to, where the grid has none
    flops_uncounted         parameters and operations of the network that no FLOPs are counted of
    """

    name: str
    method: str
    members: int
    sparsity: float
    replicates: int
    runs: tuple[tuple[str, ...], ...]
    parents: tuple[tuple[str, ...], ...]
    train_flops_ratio: float
    inference_flops_ratio: float
    parameters_ratio: float
    flops_assumed: bool
    data: DataSpec
    model: ModelSpec
    flops_uncounted: tuple[str, ...] = ()
    assumed_epochs: float | None = None

    def all_runs(self, replicate: int) -> tuple[str, ...]:
        """Return the ids of every run that a replicate needs, parents first."""
        return self.parents[replicate] + self.runs[replicate]


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run to train once for all the cells that ask for it; hours are of the whole run, done or not.

    status    what bench.work.readiness says of training it; reason says why it may not start,
              or that its weights were not exported
    evaluations, lacking   sets that its tickets are evaluated on, and those of them that are not made
    host_bytes, device_bytes   the most memory beside its images that a check measured (bench.plan.cost.Hours)
    """

    spec: RunSpec
    status: State
    reason: str
    train_flops: float
    train_flops_ratio: float
    hours: float
    hours_device: Literal["GPU", "CPU"]
    hours_basis: Basis
    cells: tuple[str, ...]
    evaluations: tuple[TicketSet, ...] = ()
    lacking: tuple[TicketSet, ...] = ()
    host_bytes: int | None = None
    device_bytes: int | None = None

    @property
    def id(self) -> str:
        """Name of the run in the store: 16 hex digits."""
        return self.spec.run_id

    @property
    def parent(self) -> str | None:
        """Id of the run that it starts from, None of most."""
        return self.spec.parent.run_id if self.spec.parent else None

    @property
    def evaluated(self) -> int:
        """Number of its sets that are made."""
        return len(self.evaluations) - len(self.lacking)


@dataclass(frozen=True)
class EnsemblePlan:
    """A replicate of cells that is attacked as a whole; `specs` are those of its runs, `lacking` as of a run."""

    ensemble: Ensemble
    specs: tuple[RunSpec, ...]
    evaluations: tuple[AttackSet, ...]
    lacking: tuple[AttackSet, ...]
    cells: tuple[str, ...]

    @property
    def evaluated(self) -> int:
        """Number of its attacks that are made."""
        return len(self.evaluations) - len(self.lacking)


@dataclass(frozen=True)
class Plan:
    """The cells of a grid at a scale and their distinct runs, in the order in which they are executed.

    `ensembles` are the distinct replicates of cells, in that order, where the grid asks for attacks.
    """

    grid: str
    title: str
    scale: str
    needs_gpu: bool
    cells: tuple[CellPlan, ...]
    runs: tuple[RunPlan, ...]
    ensembles: tuple[EnsemblePlan, ...] = ()

    def references(self) -> dict[str, str]:
        """Return by cell the one that it is measured against: the single dense network of the same kind, if any."""

        def kind(cell: CellPlan) -> tuple[object, ...]:
            return cell.data.name, cell.model.name, tuple(sorted(cell.model.arguments.items()))

        dense: dict[tuple[object, ...], str] = {}
        for cell in self.cells:
            if cell.method == "dense" and cell.members == 1:
                dense.setdefault(kind(cell), cell.name)
        return {cell.name: dense[kind(cell)] for cell in self.cells if kind(cell) in dense}

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train or to evaluate."""
        return all(run.status == "done" for run in self.runs) and self.sets_left == 0

    @property
    def sets(self) -> int:
        """Number of evaluation sets of all runs and ensembles together."""
        return sum(len(run.evaluations) for run in self.runs) + sum(
            len(attacked.evaluations) for attacked in self.ensembles
        )

    @property
    def sets_left(self) -> int:
        """Number of sets that are not stored."""
        return sum(len(run.lacking) for run in self.runs) + sum(len(attacked.lacking) for attacked in self.ensembles)

    def counts(self) -> Counter[str]:
        """Return the number of runs by status."""
        return Counter(run.status for run in self.runs)

    @property
    def unshared_runs(self) -> int:
        """Number of runs if no two cells shared one."""
        return sum(len(cell.all_runs(replicate)) for cell in self.cells for replicate in range(cell.replicates))

    @property
    def hours(self) -> float:
        """Estimated hours of all runs, each once."""
        return sum(run.hours for run in self.runs)

    @property
    def unshared_hours(self) -> float:
        """Estimated hours if no two cells shared a run."""
        hours = {run.id: run.hours for run in self.runs}
        return sum(hours[run] for cell in self.cells for r in range(cell.replicates) for run in cell.all_runs(r))

    @property
    def hours_left(self) -> float:
        """Estimated hours of the runs that are not done."""
        return sum(run.hours for run in self.runs if run.status != "done")
