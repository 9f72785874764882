"""Cells -> the distinct runs behind them, in the order to train them, with what the store has and what is to pay."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from bench.errors import UserError, did_you_mean
from bench.grid import Cell, Grid, Scale, scaled_cells
from bench.plan.cost import Hours, Speeds, parameters_ratio, prediction_ratio, reference_flops, training_flops
from bench.plan.evaluations import attacked_ensembles, check_evaluations, evaluated_runs
from bench.plan.records import CellPlan, Plan, RunPlan, method_of
from bench.recipes.fixed import step_decay
from bench.recipes.setting import Setting
from bench.spec.run import RunSpec, identities
from bench.store.folders import Store
from bench.work.readiness import MAY_START, StoreView


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
    cells = tuple(_with_variant(cell, variants) for cell in cells)
    asked = [_asked(cell) for cell in cells]
    _check_distinct(grid, scale, cells, [own[0] for own in asked])
    references = _reference_epochs(cells, overlay)
    speeds = Speeds(store.throughputs() if store else (), device or ("cuda" if overlay.needs_gpu else None), tflops)
    runs = _Runs(store, speeds, references)
    for cell, own in zip(cells, asked, strict=True):
        for replicate in own:
            runs.use(cell.name, replicate)
    # Replicate 0 of every cell comes first, so that a first table is there early.
    order = [own[r] for r in range(max(cell.replicates for cell in cells)) for own in asked if r < len(own)]
    planned = runs.planned(chain.from_iterable(order))
    rows = tuple(_row(cell, own, planned) for cell, own in zip(cells, asked, strict=True))
    plan = Plan(grid.name, grid.title, scale, overlay.needs_gpu, rows, tuple(planned.values()))
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


class _Asked(NamedTuple):
    """A run that a cell asks for; `like` is its spec but for the seed, where it has no parent."""

    id: str
    seed: int
    like: RunSpec
    parent: "_Asked | None"


def _asked(cell: Cell) -> list[list[_Asked]]:
    """Return the runs of each replicate of a cell, without their parents."""
    if cell.spec.parent is None:
        seeds = [cell.seeds(replicate) for replicate in range(cell.replicates)]
        ids = iter(identities(cell.spec, chain.from_iterable(seeds)))
        return [[_Asked(next(ids), seed, cell.spec, None) for seed in own] for own in seeds]
    return [
        [
            _Asked(spec.run_id, spec.seed, spec, _Asked(parent.run_id, parent.seed, parent, None))
            for spec in cell.specs(replicate)
            if (parent := spec.parent) is not None
        ]
        for replicate in range(cell.replicates)
    ]


class _Runs:
    """The distinct runs of a plan as cells ask for them."""

    def __init__(self, store: Store | None, speeds: Speeds, references: "_References") -> None:
        self._view = StoreView(store) if store else None
        self._speeds, self._references = speeds, references
        self._users: defaultdict[str, list[str]] = defaultdict(list)
        self._costs: dict[int, tuple[float, float, Hours]] = {}

    def use(self, cell: str, runs: Sequence[_Asked]) -> None:
        """Note that a replicate of a cell needs these runs, and their parents."""
        if runs[0].parent is not None:
            for run_id in dict.fromkeys([run.parent.id for run in runs if run.parent]):
                self._users[run_id].append(cell)
        for run in runs:
            self._users[run.id].append(cell)

    def planned(self, order: Iterable[_Asked]) -> dict[str, RunPlan]:
        """Return every run by its id, once, in this order, a parent before its first child."""
        planned: dict[str, RunPlan] = {}
        for run in order:
            if run.parent is not None and run.parent.id not in planned:
                planned[run.parent.id] = self._plan(run.parent, planned)
            if run.id not in planned:
                planned[run.id] = self._plan(run, planned)
        return planned

    def _plan(self, run: _Asked, planned: Mapping[str, RunPlan]) -> RunPlan:
        # Runs of a cell share one spec object, and its cost; held by them, it cannot be another's later.
        cost = self._costs.get(id(run.like))
        if cost is None:
            flops = training_flops(run.like)
            cost = self._costs[id(run.like)] = (
                flops,
                flops / self._references(run.like),
                self._speeds.estimate(run.like),
            )
        flops, ratio, hours = cost
        parent = planned[run.parent.id] if run.parent else None
        readiness = self._view.run(_spec(run)) if self._view else MAY_START
        return RunPlan(
            id=run.id,
            seed=run.seed,
            like=run.like,
            parent=parent.id if parent else None,
            status=readiness.state,
            reason=readiness.reason,
            train_flops=flops,
            train_flops_ratio=ratio,
            hours=hours.hours,
            hours_device=hours.device,
            hours_basis=hours.basis,
            cells=tuple(self._users[run.id]),
        )


def _spec(run: _Asked) -> RunSpec:
    return run.like if run.parent else run.like.model_copy(update={"seed": run.seed})


def _row(cell: Cell, runs: Sequence[Sequence[_Asked]], planned: Mapping[str, RunPlan]) -> CellPlan:
    spec = cell.spec
    parents: tuple[tuple[str, ...], ...] = ((),) * len(runs)
    if spec.parent is not None:
        parents = tuple(tuple(dict.fromkeys(run.parent.id for run in own if run.parent)) for own in runs)
    return CellPlan(
        name=cell.name,
        method=method_of(cell.method, spec.model),
        members=cell.members,
        sparsity=cell.sparsity,
        replicates=cell.replicates,
        runs=tuple(tuple([run.id for run in own]) for own in runs),
        parents=parents,
        train_flops_ratio=sum([planned[run].train_flops_ratio for run in (*parents[0], *(one.id for one in runs[0]))]),
        inference_flops_ratio=prediction_ratio(spec, cell.members),
        parameters_ratio=parameters_ratio(spec, cell.members),
        flops_assumed=spec.topology is not None and spec.topology.distribution == "global",
        data=spec.data,
        model=spec.model,
    )


_References = Callable[[RunSpec], float]


def _reference_epochs(cells: Sequence[Cell], scale: Scale) -> _References:
    """Return the training FLOPs of the one dense run that a run is compared with.

    That of the grid's first `dense` cell of the same data set and single network, whatever its share of the images;
    without one, the default of the dense recipe at this scale on the images of the run.
    """

    def key(spec: RunSpec) -> tuple[object, ...]:
        return spec.data.name, spec.data.variant, spec.model.name, tuple(spec.model.arguments.items())

    default = step_decay(Setting(members=1, learning_rate=0.1))
    default_epochs = float(sum(phase.epochs for phase in default) * scale.epochs)
    dense = {
        key(cell.spec): training_flops(cell.spec)
        for cell in reversed(cells)
        if cell.method == "dense" and cell.spec.model.ensemble is None
    }

    def reference(spec: RunSpec) -> float:
        known = dense.get(key(spec))
        return reference_flops(spec.model, spec.data, default_epochs) if known is None else known

    return reference


def _with_variant(cell: Cell, variants: Mapping[str, str]) -> Cell:
    variant = variants.get(cell.spec.data.name, cell.spec.data.variant)
    return cell if variant == cell.spec.data.variant else replace(cell, spec=_of_variant(cell.spec, variant))


def _of_variant(spec: RunSpec, variant: str) -> RunSpec:
    data = spec.data.model_copy(update={"variant": variant})
    parent = None if spec.parent is None else _of_variant(spec.parent, variant)
    return spec.model_copy(update={"data": data, "parent": parent})


def _check_distinct(grid: Grid, scale: str, cells: Sequence[Cell], runs: Sequence[Sequence[_Asked]]) -> None:
    names: dict[tuple[int, tuple[str, ...]], str] = {}
    for cell, own in zip(cells, runs, strict=True):
        same = names.setdefault((cell.members, tuple(run.id for run in own)), cell.name)
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
