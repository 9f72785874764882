"""What workers get of a plan: the chosen runs with their sets, and the ensembles made of these runs alone."""

from collections.abc import Sequence

from bench.plan.evaluations import ensembles_of
from bench.plan.records import Plan, RunPlan
from bench.work.items import EnsembleWork, RunWork, Work


def work_of(plan: Plan, runs: Sequence[RunPlan], limit: int | None = None) -> Work:
    """Return the work of these runs; at most `limit` that are not done, and those that are."""
    chosen: list[RunPlan] = []
    left = 0
    for run in runs:
        counts = run.status in ("missing", "waiting", "running")
        if counts and limit is not None and left >= limit:
            continue
        left += counts
        chosen.append(run)
    return Work(
        runs=tuple(
            RunWork(spec=run.spec, cell=run.cells[0], evaluations=run.evaluations, hours=run.hours) for run in chosen
        ),
        ensembles=tuple(
            EnsembleWork(
                runs=attacked.ensemble.runs,
                members=attacked.ensemble.members,
                cell=attacked.cells[0],
                attacks=attacked.evaluations,
            )
            for attacked in ensembles_of(plan, chosen)
        ),
    )
