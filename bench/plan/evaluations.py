"""What is left to evaluate of a plan: the sets its grid asks for on every run, the attacks on every ensemble."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bench.data.catalog import facts_of
from bench.errors import UserError
from bench.evaluation.sets import AttackSet, OwnSet, TicketSet, own_sets
from bench.grid.evaluations import Evaluations
from bench.models.catalog import inputs_per_image, passes_per_image
from bench.plan.cost import PASSES_A_STEP
from bench.plan.records import CellPlan, EnsemblePlan, Plan, RunPlan
from bench.spec.run import DataSpec
from bench.store.logits import MOST_FLOAT32, Ensemble, StoredLogits, ensemble_logits
from bench.store.store import Store


def check_evaluations(evaluations: Evaluations, cells: Sequence[CellPlan], where: str) -> None:
    """Refuse sets that there cannot be for the data of a cell; `where` is the path of the evaluations in the grid."""
    for data in {cell.data.name: cell.data for cell in cells}.values():
        problem = evaluations.problem(data)
        if problem is not None:
            raise UserError(f"{where}.{problem[0]}: {problem[1]}")


def evaluated_runs(
    runs: Sequence[RunPlan], cells: Sequence[CellPlan], evaluations: Evaluations | None, store: Store | None
) -> tuple[RunPlan, ...]:
    """Return the runs with the sets of each, and how many of them are stored; a mere parent of other runs has none."""
    of_cells = {run for cell in cells for replicate in cell.runs for run in replicate}
    sets = {
        _key(cell.data): (*own_sets(cell.data), *(evaluations.ticket_sets(cell.data) if evaluations else ()))
        for cell in cells
    }
    result = []
    for run in runs:
        asked = sets[_key(run.spec.data)] if run.id in of_cells else ()
        count = 0
        if asked and run.status == "done" and store is not None:
            count = _found(asked, StoredLogits.of_run(store.run(run.id)))
        result.append(replace(run, evaluations=asked, evaluated=count))
    return tuple(result)


def attacked_ensembles(
    runs: Mapping[str, RunPlan], cells: Sequence[CellPlan], evaluations: Evaluations, store: Store | None
) -> tuple[EnsemblePlan, ...]:
    """Return the distinct replicates of cells, first ones first, with the attacks on each and how many are stored."""
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
        count = _found(asked, ensemble_logits(store, ensemble)) if done and store else 0
        specs = tuple(runs[run].spec for run in ensemble.runs)
        result.append(EnsemblePlan(ensemble, specs, asked, count, tuple(cell.name for cell in using)))
    return tuple(result)


def evaluation_hours(plan: Plan) -> float:
    """Return the estimated hours to make the sets that are left: a prediction takes a third of a training step.

    A family that is stored in part counts as stored with the same share of its images.
    """
    runs = {run.id: run for run in plan.runs}
    return sum(map(run_evaluation_hours, plan.runs)) + sum(attack_hours(runs, ensemble) for ensemble in plan.ensembles)


def run_evaluation_hours(run: RunPlan) -> float:
    """Return the estimated hours to make the sets of a run that are left."""
    if not run.evaluations:
        return 0.0
    images = sum(asked.count(run.spec.data) for asked in run.evaluations)
    return images * _share_left(run) * run.spec.tickets * run.spec.model.members * _pass_hours(run)


def attack_hours(runs: Mapping[str, RunPlan], plan: EnsemblePlan) -> float:
    """Return the estimated hours to make the attacks on an ensemble of these runs that are left."""
    cost = sum(_pass_hours(runs[run]) for run in plan.ensemble.runs) / len(plan.ensemble.runs)
    data, members = plan.specs[0].data, plan.ensemble.members
    passes = sum(asked.count(data) * asked.passes(members) for asked in plan.evaluations)
    return passes * _share_left(plan) * cost


def _pass_hours(run: RunPlan) -> float:
    """Return the hours of one member's prediction of one image."""
    spec = run.spec
    trained = spec.epochs * spec.data.train_images * inputs_per_image(spec.model)
    return run.hours / trained / PASSES_A_STEP * passes_per_image(spec.model) / spec.model.members


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


def _share_left(plan: RunPlan | EnsemblePlan) -> float:
    return 1 - plan.evaluated / len(plan.evaluations) if plan.evaluations else 0.0


def ensembles_of(plan: Plan, runs: Iterable[RunPlan]) -> tuple[EnsemblePlan, ...]:
    """Return the ensembles of a plan that are made of these runs alone."""
    ids = {run.id for run in runs}
    return tuple(attacked for attacked in plan.ensembles if ids.issuperset(attacked.ensemble.runs))


def _found(sets: Sequence[TicketSet | AttackSet], stored: StoredLogits) -> int:
    """Return how many of the sets are made; none where their records were altered, which `run` says."""
    names = [asked.name for asked in sets]
    try:
        return len(names) - len(stored.missing(names))
    except UserError:
        return 0


def _key(data: DataSpec) -> tuple[str, int, bool]:
    """Return all of the data that sets depend on, so that few are made for many cells."""
    return data.name, data.test_images, data.validation_images > 0
