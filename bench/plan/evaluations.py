"""What is left to evaluate of a plan: the sets its grid asks for on every run, the attacks on every ensemble."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from bench.data.catalog import facts_of
from bench.errors import UserError
from bench.evaluation.sets import AttackSet, OwnSet, TicketSet, own_sets
from bench.grid.evaluations import Evaluations
from bench.plan.records import CellPlan, EnsemblePlan, Plan, RunPlan
from bench.spec.run import DataSpec
from bench.store.logits import MOST_FLOAT32, Ensemble, StoredLogits, ensemble_logits
from bench.store.store import Store

Asked = TypeVar("Asked", TicketSet, AttackSet)


def check_evaluations(evaluations: Evaluations, cells: Sequence[CellPlan], where: str) -> None:
    """Refuse sets that there cannot be for the data of a cell; `where` is the path of the evaluations in the grid."""
    for data in {cell.data.name: cell.data for cell in cells}.values():
        problem = evaluations.problem(data)
        if problem is not None:
            raise UserError(f"{where}.{problem[0]}: {problem[1]}")


def evaluated_runs(
    runs: Sequence[RunPlan], cells: Sequence[CellPlan], evaluations: Evaluations | None, store: Store | None
) -> tuple[RunPlan, ...]:
    """Return the runs with the sets of each, and which are not stored; a mere parent of other runs has none."""
    of_cells = {run for cell in cells for replicate in cell.runs for run in replicate}
    sets = {
        _key(cell.data): (*own_sets(cell.data), *(evaluations.ticket_sets(cell.data) if evaluations else ()))
        for cell in cells
    }
    result = []
    for run in runs:
        asked = sets[_key(run.spec.data)] if run.id in of_cells else ()
        lacking = asked
        if asked and run.status == "done" and store is not None:
            lacking = _lacking(asked, StoredLogits.of_run(store.run(run.id)))
        result.append(replace(run, evaluations=asked, lacking=lacking))
    return tuple(result)


def attacked_ensembles(
    runs: Mapping[str, RunPlan], cells: Sequence[CellPlan], evaluations: Evaluations, store: Store | None
) -> tuple[EnsemblePlan, ...]:
    """Return the distinct replicates of cells, first ones first, with the attacks on each and which are not stored."""
    sets = {_key(cell.data): evaluations.attack_sets(cell.data) for cell in cells}
    users: defaultdict[Ensemble, list[CellPlan]] = defaultdict(list)
    for number in range(max((cell.replicates for cell in cells), default=0)):
        for cell in cells:
            if number < cell.replicates:
                users[Ensemble(cell.runs[number], cell.members)].append(cell)
    result = []
    for ensemble, using in users.items():
        asked = sets[_key(using[0].data)]
        done = store is not None and all(runs[run].status == "done" for run in ensemble.runs)
        lacking = _lacking(asked, ensemble_logits(store, ensemble)) if done and store else asked
        specs = tuple(runs[run].spec for run in ensemble.runs)
        result.append(EnsemblePlan(ensemble, specs, asked, lacking, tuple(cell.name for cell in using)))
    return tuple(result)


def evaluation_bytes(plan: Plan) -> float:
    """Return the size of the logits of all sets."""
    size = 0.0
    for run in plan.runs:
        spec = run.spec
        classes = facts_of(spec.data).classes
        for asked in run.evaluations:
            width = 4 if classes <= MOST_FLOAT32 or isinstance(asked, OwnSet) else 2
            size += asked.count(spec.data) * spec.tickets * spec.model.members * classes * width
    for attacked in plan.ensembles:
        data, members = attacked.specs[0].data, attacked.ensemble.members
        images = sum(asked.count(data) for asked in attacked.evaluations)
        size += images * (members + 1) * members * facts_of(data).classes * 4
    return size


def ensembles_of(plan: Plan, runs: Iterable[RunPlan]) -> tuple[EnsemblePlan, ...]:
    """Return the ensembles of a plan that are made of these runs alone."""
    ids = {run.id for run in runs}
    return tuple(attacked for attacked in plan.ensembles if ids.issuperset(attacked.ensemble.runs))


def _lacking(sets: tuple[Asked, ...], stored: StoredLogits) -> tuple[Asked, ...]:
    """Return the sets that are not made; all where their records were altered, which `run` says."""
    try:
        missing = set(stored.missing(asked.name for asked in sets))
    except UserError:
        return sets
    return tuple(asked for asked in sets if asked.name in missing)


def _key(data: DataSpec) -> tuple[str, int, bool]:
    """Return all of the data that sets depend on, so that few are made for many cells."""
    return data.name, data.test_images, data.validation_images > 0
