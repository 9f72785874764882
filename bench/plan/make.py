"""Cells -> the distinct runs behind them, in the order to train them, with what the store has and what is to pay."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import NamedTuple

from bench.errors import UserError, did_you_mean
from bench.grid import Cell, Grid, Scale, scaled_cells
from bench.models.layers import rest_of
from bench.plan.cost import Hours, Speeds, parameters_ratio, prediction_ratio, reference_flops, training_flops
from bench.plan.evaluations import attacked_ensembles, check_evaluations, evaluated_runs
from bench.plan.records import CellPlan, Plan, RunPlan, method_of
from bench.recipes.fixed import step_decay
from bench.recipes.setting import Setting
from bench.spec.run import RunSpec
from bench.store.store import Store
from bench.work.readiness import MAY_START, StoreView

# A plan holds each of them; the cells of a grid, which is divided into several beyond that, share many.
MOST_RUNS = 100_000


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
    tflops     speed to assume where none was measured; default: bench.plan.cost.ASSUMED_TFLOPS
    """
    overlay = find_scale(grid, scale)
    try:
        cells = scaled_cells(grid.cells, overlay, scale)
    except UserError as error:
        raise UserError(f"{grid.path}: {error}") from None
    if variants is None:
        variants = {name: record.variant for name, record in store.data_records().items()} if store else {}
    count = sum(cell.replicates * cell.runs_a_replicate for cell in cells)
    if count > MOST_RUNS:
        raise UserError(f"{grid.path}: its cells have {count:,} runs; allowed: at most {MOST_RUNS:,}")
    cells = tuple(_with_variant(cell, variants) for cell in cells)
    asked = [[list(cell.specs(replicate)) for replicate in range(cell.replicates)] for cell in cells]
    _check_distinct(grid, scale, cells, [replicates[0] for replicates in asked])
    speeds = Speeds(store.throughputs() if store else (), device or ("cuda" if overlay.needs_gpu else None), tflops)
    runs = _Runs(store, speeds, _reference_epochs(cells, overlay))
    for cell, replicates in zip(cells, asked, strict=True):
        runs.use(cell, replicates)
    # Replicate 0 of every cell comes first, so that a first table is there early.
    by_replicate = zip_longest(*asked, fillvalue=())
    planned = runs.planned(spec for replicate in by_replicate for specs in replicate for spec in specs)
    rows = [_row(cell, replicates, planned) for cell, replicates in zip(cells, asked, strict=True)]
    alone, epochs = _without_dense(cells), _default_epochs(overlay)
    rows = [replace(row, assumed_epochs=epochs) if row.name in alone else row for row in rows]
    plan = Plan(grid.name, grid.title, scale, overlay.needs_gpu, tuple(rows), tuple(planned.values()))
    return _with_evaluations(plan, grid, overlay, store)


def _with_evaluations(plan: Plan, grid: Grid, scale: Scale, store: Store | None) -> Plan:
    evaluations, where = grid.evaluations, "evaluations"
    if evaluations is not None and scale.evaluations is not None:
        evaluations, where = scale.evaluations, f"scales.{plan.scale}.evaluations"
    if evaluations is not None:
        check_evaluations(evaluations, plan.cells, f"{grid.path}: {where}")
    runs, ensembles = evaluated_runs(plan.runs, plan.cells, evaluations, store), plan.ensembles
    if evaluations is not None and evaluations.of_ensembles:
        ensembles = attacked_ensembles({run.id: run for run in runs}, plan.cells, evaluations, store)
    return replace(plan, runs=runs, ensembles=ensembles)


class _Cost(NamedTuple):
    flops: float
    ratio: float
    hours: Hours


class _Runs:
    """The distinct runs of a plan as cells ask for them."""

    def __init__(self, store: Store | None, speeds: Speeds, references: "_References") -> None:
        self._view = StoreView(store) if store else None
        self._speeds, self._references = speeds, references
        self._users: defaultdict[str, list[str]] = defaultdict(list)
        self._costs: dict[str, _Cost] = {}

    def use(self, cell: Cell, replicates: Sequence[Sequence[RunSpec]]) -> None:
        """Note that a cell needs these runs and their parents; they differ in their seeds and cost the same."""
        cost = self._cost(cell.spec)
        parent_cost = self._cost(cell.spec.parent) if cell.spec.parent else None
        for replicate in replicates:
            for parent in _parents(replicate):
                self._users[parent].append(cell.name)
                if parent_cost:
                    self._costs[parent] = parent_cost
            for spec in replicate:
                self._users[spec.run_id].append(cell.name)
                self._costs[spec.run_id] = cost

    def planned(self, order: Iterable[RunSpec]) -> dict[str, RunPlan]:
        """Return every run by its id, once, in this order, a parent before its first child."""
        planned: dict[str, RunPlan] = {}
        for child in order:
            for spec in (child.parent, child):
                if spec is not None and spec.run_id not in planned:
                    planned[spec.run_id] = self._plan(spec)
        return planned

    def _cost(self, spec: RunSpec) -> _Cost:
        flops = training_flops(spec)
        return _Cost(flops, flops / self._references(spec), self._speeds.estimate(spec))

    def _plan(self, spec: RunSpec) -> RunPlan:
        cost = self._costs[spec.run_id]
        readiness = self._view.run(spec) if self._view else MAY_START
        return RunPlan(
            spec=spec,
            status=readiness.state,
            reason=readiness.reason,
            train_flops=cost.flops,
            train_flops_ratio=cost.ratio,
            hours=cost.hours.hours,
            hours_device=cost.hours.device,
            hours_basis=cost.hours.basis,
            cells=tuple(self._users[spec.run_id]),
            host_bytes=cost.hours.host_bytes,
            device_bytes=cost.hours.device_bytes,
        )


def _parents(replicate: Sequence[RunSpec]) -> tuple[str, ...]:
    """Return the ids of the runs that a replicate's runs start from, each once."""
    return tuple(dict.fromkeys(spec.parent.run_id for spec in replicate if spec.parent))


def _row(cell: Cell, replicates: Sequence[Sequence[RunSpec]], planned: Mapping[str, RunPlan]) -> CellPlan:
    spec = cell.spec
    runs = tuple(tuple(run.run_id for run in replicate) for replicate in replicates)
    parents = tuple(_parents(replicate) for replicate in replicates)
    return CellPlan(
        name=cell.name,
        method=method_of(cell.method, spec.model),
        members=cell.members,
        sparsity=cell.sparsity,
        replicates=cell.replicates,
        runs=runs,
        parents=parents,
        train_flops_ratio=sum(planned[run].train_flops_ratio for run in (*parents[0], *runs[0])),
        inference_flops_ratio=prediction_ratio(spec, cell.members),
        parameters_ratio=parameters_ratio(spec, cell.members),
        flops_assumed=spec.topology is not None and spec.topology.distribution == "global",
        data=spec.data,
        model=spec.model,
        flops_uncounted=rest_of(spec.model, spec.data).uncounted,
    )


_References = Callable[[RunSpec], float]


def _reference_epochs(cells: Sequence[Cell], scale: Scale) -> _References:
    """Return the training FLOPs of the one dense run that a run is compared with.

    That of the grid's first `dense` cell of the same data set and single network, whatever its share of the images;
    without one, the default of the dense recipe at this scale on the images of the run.
    """

    epochs = _default_epochs(scale)
    dense = {
        _network(cell.spec): training_flops(cell.spec)
        for cell in reversed(cells)
        if cell.method == "dense" and cell.spec.model.ensemble is None
    }

    def reference(spec: RunSpec) -> float:
        known = dense.get(_network(spec))
        return reference_flops(spec.model, spec.data, epochs) if known is None else known

    return reference


def _network(spec: RunSpec) -> tuple[object, ...]:
    """Return what two runs share that are compared by their cost."""
    return spec.data.name, spec.data.variant, spec.model.name, tuple(spec.model.arguments.items())


def _default_epochs(scale: Scale) -> float:
    """Return the length of the dense recipe, if nothing is said, at a scale."""
    return float(sum(phase.epochs for phase in step_decay(Setting(members=1, learning_rate=0.1))) * scale.epochs)


def _without_dense(cells: Sequence[Cell]) -> set[str]:
    """Return the cells of whose data set and network the grid has no single dense network."""
    dense = {_network(cell.spec) for cell in cells if cell.method == "dense" and cell.spec.model.ensemble is None}
    return {cell.name for cell in cells if _network(cell.spec) not in dense}


def _with_variant(cell: Cell, variants: Mapping[str, str]) -> Cell:
    variant = variants.get(cell.spec.data.name, cell.spec.data.variant)
    return cell if variant == cell.spec.data.variant else replace(cell, spec=_of_variant(cell.spec, variant))


def _of_variant(spec: RunSpec, variant: str) -> RunSpec:
    data = spec.data.model_copy(update={"variant": variant})
    parent = None if spec.parent is None else _of_variant(spec.parent, variant)
    return spec.model_copy(update={"data": data, "parent": parent})


def _check_distinct(grid: Grid, scale: str, cells: Sequence[Cell], first: Sequence[Sequence[RunSpec]]) -> None:
    names: dict[tuple[int, tuple[str, ...]], str] = {}
    for cell, replicate in zip(cells, first, strict=True):
        same = names.setdefault((cell.members, tuple(spec.run_id for spec in replicate)), cell.name)
        if same != cell.name:
            raise UserError(
                f"{grid.path}: cells {same!r} and {cell.name!r} are the same at scale {scale}: the same runs, so the "
                "same ensemble; keep one of them"
            )


def find_scale(grid: Grid, scale: str) -> Scale:
    """Return a scale of a grid by name."""
    if scale not in grid.scales:
        raise UserError(f"{grid.path}: scales: no scale {scale!r}{did_you_mean(scale, grid.scales)}")
    return grid.scales[scale]
