"""Everything an output is made from, read once: the plan, the results, the recorded training, what others published."""

from dataclasses import dataclass, replace
from pathlib import Path

from analysis.attacks import Attacks, load_attacks
from analysis.context import Context, make_context
from analysis.corruptions import Corruptions, load_corruptions, with_corruptions
from analysis.embedding import Prediction
from analysis.outside import Outside, load_outside
from analysis.paths import load_paths
from analysis.published import Published, find_published, published_folder, read_published
from analysis.results import Results, load_results
from analysis.samples import Samples, read_samples
from analysis.trajectories import Trajectories, load_trajectories
from analysis.verdicts import Claim, read_claims
from analysis.weights import Weights, load_weights
from bench.errors import UserError
from bench.grid import load_grid
from bench.plan import Plan, make_plan
from bench.store.folders import Store


@dataclass(frozen=True)
class Sources:
    """What was read; `published` by cell, `problems` a sentence for each result that could not be used."""

    plan: Plan
    context: Context
    results: Results
    trajectories: Trajectories
    corruptions: Corruptions
    samples: dict[str, Samples]
    outside: Outside
    attacks: Attacks
    weights: Weights
    paths: list[Prediction]
    published: dict[str, Published]
    claims: list[Claim]
    problems: tuple[str, ...]


def read_sources(grid_path: Path, store_path: Path, scale: str) -> Sources:
    """Return what tables, figures and report need; UserError if no run of the grid is done at this scale."""
    grid, store = load_grid(grid_path), Store(store_path)
    plan = make_plan(grid, scale, store)
    if not any(run.status in ("done", "damaged") for run in plan.runs):
        raise UserError(
            f"{store_path}: none of the {len(plan.runs)} runs of grid {grid.name} at scale {scale} is done; make them "
            f"with: python -m bench run {grid_path} --scale {scale} --store {store_path}"
        )
    results, trajectories = load_results(plan, store), load_trajectories(plan, store)
    corruptions = load_corruptions(plan, store)
    outside, attacks, weights = load_outside(plan, store), load_attacks(plan, store), load_weights(plan, store)
    paths, path_problems = load_paths(plan, store)
    parts = (results, trajectories, corruptions, outside, attacks, weights)
    folder = published_folder(grid_path)
    table = read_published(folder)
    # What was published belongs to a cell as the grid writes it, not to its smaller version at another scale.
    beside = {
        cell.name: find_published(table, cell.spec.data.name, cell.spec.model, cell.method, cell.members)
        for cell in grid.cells
    }
    return Sources(
        plan=plan,
        context=make_context(plan, store, results.cells),
        results=replace(results, replicates=with_corruptions(results.replicates, corruptions)),
        trajectories=trajectories,
        corruptions=corruptions,
        samples=read_samples(plan, store),
        outside=outside,
        attacks=attacks,
        weights=weights,
        paths=paths,
        published={name: row for name, row in beside.items() if row is not None},
        claims=read_claims(folder / "claims.yaml"),
        problems=tuple(dict.fromkeys((*(problem for part in parts for problem in part.problems), *path_problems))),
    )
