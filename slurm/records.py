"""What is written down of a submission: its units, each a task on the cluster, whole enough to run without the grid.

A batch is what one call of sbatch submits: an array, whose elements are its units in order. Nothing in it refers to a
grid file, so that editing one never changes what was submitted.
"""

from typing import Literal

from pydantic import Field

from bench.evaluation.sets import AttackSet, TicketSet
from bench.spec.record import Record
from bench.spec.run import RunSpec
from bench.store.logits import Ensemble

Scheduler = Literal["slurm", "local"]


class RunItem(Record):
    """A run as a unit knows it; hours are those of training it, evaluation_hours those of all its sets.

    grid      name and scale of the grid that asked for it, for people: "cifar10 paper"
    parent    id of the run it starts from
    """

    id: str
    grid: str
    cells: tuple[str, ...]
    spec: RunSpec
    parent: str | None
    evaluations: tuple[TicketSet, ...]
    hours: float
    evaluation_hours: float


class EnsembleItem(Record):
    """A replicate of cells that is attacked as a whole, by whichever of its runs is done last."""

    runs: tuple[str, ...]
    members: int
    specs: tuple[RunSpec, ...]
    evaluations: tuple[AttackSet, ...]
    cells: tuple[str, ...]
    hours: float

    @property
    def ensemble(self) -> Ensemble:
        """The runs and members that name it."""
        return Ensemble(self.runs, self.members)


class Unit(Record):
    """What one task does: train runs in this order, then evaluate runs; ids are of `runs`."""

    train: tuple[str, ...]
    evaluate: tuple[str, ...]
    runs: tuple[RunItem, ...]
    ensembles: tuple[EnsembleItem, ...] = ()

    @property
    def hours(self) -> float:
        """Estimated hours, as if every ensemble were left to this unit."""
        trained, evaluated = set(self.train), set(self.evaluate)
        hours = sum(run.hours for run in self.runs if run.id in trained)
        hours += sum(run.evaluation_hours for run in self.runs if run.id in evaluated)
        return hours + sum(one.hours for one in self.ensembles)


class Resources(Record):
    """What every unit of a batch asks for: of the node, for this many minutes.

    gpus, cpus   a process; memory_gb is a process's too
    """

    processes: int = Field(ge=1)
    nodes: int = Field(ge=1)
    gpus: int = Field(ge=0)
    gpu_type: str | None
    cpus: int = Field(ge=1)
    memory_gb: int = Field(ge=1)
    minutes: int = Field(ge=1)


class Batch(Record):
    """What is common to the units of a batch.

    name      unique; also the job's name in SLURM, by which it is found again if this process dies after sbatch
    grids     names and scales, for people
    created   UTC, ISO 8601
    after     the array element, such as "123_4", that has to succeed first
    data, device, deterministic, checkpoint_seconds   as the options of `bench run`
    data_folder, scratch          of the site, as the node is to find them
    """

    name: str
    grids: tuple[str, ...]
    site: str
    scheduler: Scheduler
    created: str
    resources: Resources
    after: str | None
    data: str | None
    device: str
    data_folder: str | None
    scratch: str | None
    requeue: bool
    deterministic: bool
    checkpoint_seconds: float = 120.0
    units: int = Field(ge=1)


class Submitted(Record):
    """How SLURM (or the local executor) names the units of a batch, in order: "123_0" or, of a single one, "123"."""

    elements: tuple[str, ...]


class Mark(Record):
    """What an element itself writes down; times are UTC, ISO 8601.

    attempt     how often it was started
    stalls      how many starts in a row found nothing further than the one before
    progress    what it found at this start, to be compared with at the next
    code        exit code, None while it works, or after it was killed
    message     what the user has to know: a mistake that stops all its runs
    """

    job: str
    attempt: int = Field(ge=1)
    stalls: int = Field(ge=0)
    progress: str
    node: str
    started: str
    ended: str | None = None
    code: int | None = None
    message: str | None = None
