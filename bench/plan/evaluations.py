"""What is left to evaluate of a plan: the sets its grid asks for on every run, the attacks on every ensemble."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bench.errors import UserError
from bench.evaluated import Ensemble, Evaluated, evaluated_ensemble
from bench.evaluations import AttackSet, Evaluations, TicketSet
from bench.plan.records import CellPlan, EnsemblePlan, Plan, RunPlan
from bench.spec import DataSpec
from bench.store import Store


def check_evaluations(evaluations: Evaluations, cells: Sequence[CellPlan], where: str) -> None:
    """Refuse sets that there can not be for the data of a cell; `where` is the path of the evaluations in the grid."""
    for data in {cell.data.name: cell.data for cell in cells}.values():
        problem = evaluations.problem(data)
        if problem is not None:
            raise UserError(f"{where}.{problem[0]}: {problem[1]}")


def evaluated_runs(
    runs: Sequence[RunPlan], cells: Sequence[CellPlan], evaluations: Evaluations, store: Store | None
) -> tuple[RunPlan, ...]:
    """Return the runs with the sets of each, and how many of them are there; a mere parent of other runs has none."""
    own = {run for cell in cells for replicate in cell.runs for run in replicate}
    sets = {_key(cell.data): evaluations.ticket_sets(cell.data) for cell in cells}
    result = []
    for run in runs:
        asked = sets[_key(run.like.data)] if run.id in own else ()
        count = 0
        if asked and run.status == "done" and store is not None:
            count = _found(asked, Evaluated.of_run(store.run(run.id)))
        result.append(replace(run, evaluations=asked, evaluated=count))
    return tuple(result)


def attacked_ensembles(
    runs: Mapping[str, RunPlan], cells: Sequence[CellPlan], evaluations: Evaluations, store: Store | None
) -> tuple[EnsemblePlan, ...]:
    """Return the distinct replicates of cells, first ones first, with the attacks on each and how many are there."""
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
        count = _found(asked, evaluated_ensemble(store, ensemble)) if done and store else 0
        specs = tuple(runs[run].spec for run in ensemble.runs)
        result.append(EnsemblePlan(ensemble, specs, asked, count, tuple(cell.name for cell in using)))
    return tuple(result)


def ensembles_of(plan: Plan, runs: Iterable[RunPlan]) -> tuple[EnsemblePlan, ...]:
    """Return the ensembles of a plan that are made of these runs alone."""
    ids = {run.id for run in runs}
    return tuple(one for one in plan.ensembles if ids.issuperset(one.ensemble.runs))


def _found(sets: Sequence[TicketSet | AttackSet], evaluated: Evaluated) -> int:
    """Return how many of the sets are there; none where the receipts were altered, which `run` says."""
    names = [one.name for one in sets]
    try:
        return len(names) - len(evaluated.missing(names))
    except UserError:
        return 0


def _key(data: DataSpec) -> tuple[str, int]:
    """Return all of the data that sets depend on, so that few are made for many cells."""
    return data.name, data.test_images
