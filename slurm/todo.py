"""From plans to what is left to submit: runs to train, finished ones to evaluate, ensembles to attack.

Left out is what is under way already, in a job or in somebody's own process, and, unless asked for, what failed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from bench.plan import EnsemblePlan, Plan, RunPlan, ensembles_of
from bench.plan.evaluations import attack_hours, run_evaluation_hours
from bench.store.logits import Ensemble
from slurm.records import EnsembleItem, RunItem, Unit

Evaluable = TypeVar("Evaluable", RunPlan, EnsemblePlan)


@dataclass(frozen=True)
class UnderWay:
    """What pending and running elements are still going to do: run id -> element, as SLURM calls it."""

    train: Mapping[str, str] = field(default_factory=dict)
    evaluate: Mapping[str, str] = field(default_factory=dict)

    def joined(self, units: Iterable[tuple[Unit, str]]) -> "UnderWay":
        """Return this with what units, each with its element, will do."""
        train, evaluate = dict(self.train), dict(self.evaluate)
        for unit, element in units:
            train |= dict.fromkeys(unit.train, element)
            evaluate |= dict.fromkeys(unit.evaluate, element)
        return UnderWay(train, evaluate)


@dataclass(frozen=True)
class Todo:
    """What is left to submit, in the order of the plans, parents before children; `left` counts what is left out.

    finished   the runs of ensembles with nothing else to do, by id
    """

    train: tuple[RunItem, ...]
    evaluate: tuple[RunItem, ...]
    ensembles: tuple[EnsembleItem, ...]
    left: Mapping[str, int]
    finished: Mapping[str, RunItem] = field(default_factory=dict)


def what_is_left(
    chosen: Sequence[tuple[Plan, Sequence[RunPlan]]], under_way: UnderWay, *, retry: bool, waits: bool
) -> Todo:
    """Return what is to be submitted of the chosen runs of each plan, parents of chosen runs among them.

    retry   failed and damaged runs too, and those that wait for them
    waits   whether a run can wait for a parent that is under way (a scheduler can make it)
    """
    grids, runs = _united_runs(chosen)
    train: dict[str, RunItem] = {}
    evaluate: dict[str, RunItem] = {}
    left: Counter[str] = Counter()
    for run in runs.values():
        reason = _left_out(run, runs, train, under_way, retry=retry, waits=waits)
        if reason is None:
            train[run.id] = _item(grids[run.id], run)
        elif run.status == "done" and run.evaluated < len(run.evaluations) and run.id not in under_way.evaluate:
            evaluate[run.id] = _item(grids[run.id], run)
        else:
            left[reason] += 1
    new, busy = {*train, *evaluate}, {*under_way.train, *under_way.evaluate}
    ensembles = [one for one in _united_ensembles(chosen) if _to_attack(one, runs, new, busy)]
    finished = [run for one in ensembles if new.isdisjoint(one.ensemble.runs) for run in one.ensemble.runs]
    return Todo(
        train=tuple(train.values()),
        evaluate=tuple(evaluate.values()),
        ensembles=tuple(_ensemble_item(runs, one) for one in ensembles),
        left=dict(left),
        finished={run: _item(grids[run], runs[run]) for run in finished},
    )


def _left_out(
    run: RunPlan,
    runs: Mapping[str, RunPlan],
    train: Mapping[str, RunItem],
    under_way: UnderWay,
    *,
    retry: bool,
    waits: bool,
) -> str | None:
    """Return why a run is not to be trained, None if it is."""
    if run.status == "done":
        return "done"
    if run.id in under_way.train:
        return "under way"
    if run.status == "running":
        return "being trained by a process outside of SLURM"
    if run.status in ("failed", "damaged") and not retry:
        return f"{run.status} (--retry makes it again)"
    if run.parent is None or run.parent in train or runs[run.parent].status == "done":
        return None
    if run.parent in under_way.train:
        return None if waits else "waiting for a parent under way (submit again when it is done)"
    if runs[run.parent].status == "running":
        return "waiting for a parent that a process outside of SLURM trains (submit again when it is done)"
    return "blocked by a parent that failed (--retry makes both again)"


def _to_attack(one: EnsemblePlan, runs: Mapping[str, RunPlan], new: set[str], busy: set[str]) -> bool:
    """Return whether an ensemble is to be submitted: no job under way sees to it, and nothing stands in its way."""
    if one.evaluated == len(one.evaluations):
        return False
    members = set(one.ensemble.runs)
    if members.isdisjoint(new) and not members.isdisjoint(busy):
        return False  # a job under way that works on one of its runs has it on its list, unless a run is new
    return all(run in new or run in busy or runs[run].status == "done" for run in members)


# -- several grids -----------------------------------------------------------------------------------------------------


def _united_runs(chosen: Sequence[tuple[Plan, Sequence[RunPlan]]]) -> tuple[dict[str, str], dict[str, RunPlan]]:
    """Return, by run id, the first grid that asks for a run, and the run with what all of them ask for."""
    grids: dict[str, str] = {}
    united: dict[str, RunPlan] = {}
    for plan, runs in chosen:
        for run in runs:
            grids.setdefault(run.id, f"{plan.grid} {plan.scale}")
            united[run.id] = _unite(united[run.id], run) if run.id in united else run
    return grids, united


def _united_ensembles(chosen: Sequence[tuple[Plan, Sequence[RunPlan]]]) -> list[EnsemblePlan]:
    """Return the ensembles of chosen runs alone, each once, with the attacks that all grids ask for."""
    united: dict[Ensemble, EnsemblePlan] = {}
    for plan, runs in chosen:
        for one in ensembles_of(plan, runs):
            united[one.ensemble] = _unite(united[one.ensemble], one) if one.ensemble in united else one
    return list(united.values())


def _unite(first: Evaluable, second: Evaluable) -> Evaluable:
    """Return what two grids ask for of the same; of sets that both ask for it is not known which are there."""
    sets = tuple(dict.fromkeys((*first.evaluations, *second.evaluations)))
    lacking = sum(len(one.evaluations) - one.evaluated for one in (first, second))
    there = max(first.evaluated, second.evaluated, len(sets) - lacking)
    cells = tuple(dict.fromkeys((*first.cells, *second.cells)))
    return replace(first, cells=cells, evaluations=sets, evaluated=there)


# -- what is written down ----------------------------------------------------------------------------------------------


def _item(grid: str, run: RunPlan) -> RunItem:
    # Validated where it was made: of thousands of runs, validation would take most of the time.
    return RunItem.model_construct(
        id=run.id,
        grid=grid,
        cells=tuple(dict.fromkeys(run.cells)),
        spec=run.spec,
        parent=run.parent,
        evaluations=run.evaluations,
        hours=run.hours,
        evaluation_hours=run_evaluation_hours(run),
    )


def _ensemble_item(runs: Mapping[str, RunPlan], one: EnsemblePlan) -> EnsembleItem:
    return EnsembleItem.model_construct(
        runs=one.ensemble.runs,
        members=one.ensemble.members,
        specs=one.specs,
        evaluations=one.evaluations,
        cells=one.cells,
        hours=attack_hours(runs, one),
    )
