"""Cells -> the distinct runs behind them, in the order to train them, with what the store has and what is to pay."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Literal

from bench.cost import Speeds, dense_training_flops, forward_flops, training_flops
from bench.errors import UserError, did_you_mean
from bench.grid import Cell, Grid, Scale, scaled_cells
from bench.recipes import METHODS, Setting
from bench.spec import DataSpec, ModelSpec, RunSpec, identities
from bench.store import Status, Store


@dataclass(frozen=True)
class CellPlan:
    """A row of a table and the runs it is made of.

    runs                    run ids of each replicate; its members are all tickets of these runs, in order
    train_flops_ratio       training FLOPs of one replicate over those of one dense run
    inference_flops_ratio   FLOPs of predicting with all members over those of one dense network
    """

    name: str
    method: str
    members: int
    sparsity: float
    replicates: int
    runs: tuple[tuple[str, ...], ...]
    train_flops_ratio: float
    inference_flops_ratio: float
    data: DataSpec
    model: ModelSpec


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run to train once for all the cells that ask for it; hours are of the whole run, done or not."""

    id: str
    seed: int
    like: RunSpec
    status: Status
    train_flops: float
    train_flops_ratio: float
    hours: float
    hours_device: Literal["GPU", "CPU"]
    hours_basis: str
    cells: tuple[str, ...]

    @property
    def spec(self) -> RunSpec:
        """The spec of the run: that of the first run of its cell, under its own seed."""
        return self.like.model_copy(update={"seed": self.seed})


@dataclass(frozen=True)
class Plan:
    """The cells of a grid at a scale and their distinct runs, in the order in which they are executed."""

    grid: str
    title: str
    scale: str
    needs_gpu: bool
    cells: tuple[CellPlan, ...]
    runs: tuple[RunPlan, ...]

    def counts(self) -> Counter[str]:
        """Return the number of runs by status."""
        return Counter(run.status for run in self.runs)

    @property
    def unshared_runs(self) -> int:
        """Number of runs if no two cells shared one."""
        return sum(len(replicate) for cell in self.cells for replicate in cell.runs)

    @property
    def hours_left(self) -> float:
        """Estimated hours of the runs that are not done."""
        return sum(run.hours for run in self.runs if run.status != "done")


def make_plan(
    grid: Grid,
    scale: str,
    store: Store | None,
    variants: Mapping[str, str] | None = None,
    *,
    device: str | None = None,
    tflops: float | None = None,
) -> Plan:
    """Return the plan of a grid; UserError for an unknown scale, or one at which a cell makes no sense.

    variants   data set -> variant of its images; default: what the store's runs saw, else "official"
    device     "cpu" or "cuda", of which to estimate the hours; default: a GPU if the scale needs one or the store has
               measured one
    tflops     speed to assume where none was measured; default: bench.cost.ASSUMED_TFLOPS
    """
    overlay = find_scale(grid, scale)
    try:
        cells = scaled_cells(grid.cells, overlay, scale)
    except UserError as error:
        raise UserError(f"{grid.path}: {error}") from None
    if variants is None:
        variants = {name: record.variant for name, record in store.data_records().items()} if store else {}
    cells = tuple(_with_variant(cell, variants) for cell in cells)
    ids = [_ids(cell) for cell in cells]
    _check_distinct(grid, scale, cells, [replicates[0] for replicates in ids])
    users: defaultdict[str, list[str]] = defaultdict(list)
    for cell, replicates in zip(cells, ids, strict=True):
        for run_id in chain.from_iterable(replicates):
            users[run_id].append(cell.name)

    references = _reference_epochs(cells, overlay)
    costs = [_cost(cell, references) for cell in cells]
    speeds = Speeds(store.throughputs() if store else (), device or ("cuda" if overlay.needs_gpu else None), tflops)
    estimates = [speeds.estimate(cell.spec) for cell in cells]
    status = _statuses(store)
    runs: dict[str, RunPlan] = {}
    # Replicate 0 of every cell comes first, so that a first table is there early.
    for replicate in range(max(cell.replicates for cell in cells)):
        for cell, replicates, cost, estimate in zip(cells, ids, costs, estimates, strict=True):
            if replicate >= cell.replicates:
                continue
            for run_id, seed in zip(replicates[replicate], cell.seeds(replicate), strict=True):
                if run_id not in runs:
                    runs[run_id] = RunPlan(
                        id=run_id,
                        seed=seed,
                        like=cell.spec,
                        status=status(run_id),
                        train_flops=cost.train_flops,
                        train_flops_ratio=cost.train_ratio,
                        hours=estimate.hours,
                        hours_device=estimate.device,
                        hours_basis=estimate.basis,
                        cells=tuple(users[run_id]),
                    )
    rows = tuple(
        CellPlan(
            name=cell.name,
            method=cell.method,
            members=cell.members,
            sparsity=cell.sparsity,
            replicates=cell.replicates,
            runs=tuple(replicates),
            train_flops_ratio=cell.runs_a_replicate * cost.train_ratio,
            inference_flops_ratio=cell.members * cost.forward_ratio,
            data=cell.spec.data,
            model=cell.spec.model,
        )
        for cell, replicates, cost in zip(cells, ids, costs, strict=True)
    )
    return Plan(grid.name, grid.title, scale, overlay.needs_gpu, rows, tuple(runs.values()))


def _ids(cell: Cell) -> list[tuple[str, ...]]:
    """Return the run ids of each replicate."""
    seeds = [cell.seeds(replicate) for replicate in range(cell.replicates)]
    ids = iter(identities(cell.spec, chain.from_iterable(seeds)))
    return [tuple(islice(ids, len(replicate))) for replicate in seeds]


@dataclass(frozen=True)
class _Cost:
    train_flops: float
    train_ratio: float
    forward_ratio: float


def _cost(cell: Cell, references: Callable[[RunSpec], float]) -> _Cost:
    spec = cell.spec
    flops = training_flops(spec)
    forward_ratio = forward_flops(spec.model, spec.data, spec.topology) / forward_flops(spec.model, spec.data)
    return _Cost(flops, flops / dense_training_flops(spec, references(spec)), forward_ratio)


def _reference_epochs(cells: Sequence[Cell], scale: Scale) -> Callable[[RunSpec], float]:
    """Return the epochs of the one dense run that a run is compared with.

    Those of the grid's first `dense` cell of the same data and network; without one, the default of the dense recipe
    at this scale.
    """

    def key(spec: RunSpec) -> tuple[object, ...]:
        return spec.data, spec.model.name, tuple(spec.model.arguments.items())

    default = METHODS["dense"].recipe(Setting(members=1, learning_rate=0.1))
    default_epochs = float(sum(phase.epochs for phase in default) * scale.epochs)
    epochs = {key(cell.spec): cell.spec.epochs for cell in reversed(cells) if cell.method == "dense"}
    return lambda spec: epochs.get(key(spec), default_epochs)


def _with_variant(cell: Cell, variants: Mapping[str, str]) -> Cell:
    data = cell.spec.data
    variant = variants.get(data.name, data.variant)
    if variant == data.variant:
        return cell
    spec = cell.spec.model_copy(update={"data": data.model_copy(update={"variant": variant})})
    return replace(cell, spec=spec)


def _check_distinct(grid: Grid, scale: str, cells: Sequence[Cell], runs: Sequence[tuple[str, ...]]) -> None:
    names: dict[tuple[int, tuple[str, ...]], str] = {}
    for cell, ids in zip(cells, runs, strict=True):
        same = names.setdefault((cell.members, ids), cell.name)
        if same != cell.name:
            raise UserError(
                f"{grid.path}: cells {same!r} and {cell.name!r} are the same at scale {scale}: the same runs, so the "
                "same ensemble; keep one of them"
            )


def _statuses(store: Store | None) -> Callable[[str], Status]:
    """Return the status of a run by its id, looking only at the runs of which the store has a folder."""
    folder = store.root / "runs" if store else None
    present = {path.name for path in folder.iterdir()} if folder is not None and folder.is_dir() else set()
    return lambda run_id: store.run(run_id).status() if store and run_id in present else "missing"


def find_scale(grid: Grid, scale: str) -> Scale:
    """Return a scale of a grid by name."""
    if scale not in grid.scales:
        raise UserError(f"{grid.path}: scales: no scale {scale!r}{did_you_mean(scale, grid.scales)}")
    return grid.scales[scale]
