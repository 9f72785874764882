"""Everything a report is made from, read once: the plan, the numbers of every topic, claims, what others published."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.columns import Metric
from analysis.context import PAPER_SCALE, make_context
from analysis.paper.agreement import read_tolerances
from analysis.paper.claims import Claim, claims_of
from analysis.paper.findings import Findings, find
from analysis.paper.published import Beside, find_published, published_folder
from analysis.paper.work import Work, read_work
from analysis.reading import StoreView, tidy
from analysis.results import Results
from analysis.table import Table
from analysis.topic import FigureEntry, Topic
from analysis.topics import TOPICS, find_topic
from bench.errors import UserError, counted
from bench.grid import Grid, load_grid
from bench.plan import CellPlan, Plan, make_plan
from bench.plan.remarks import assumed_references, uncounted_flops
from bench.spec.run import RunSpec
from bench.store.store import Store

CELLS = (
    "cell method members sparsity replicates replicates_done runs dataset variant network train_flops_ratio "
    "inference_flops_ratio parameters_ratio flops_assumed flops_uncounted flops_reference selection warnings "
    "reference"
)


class Standards(NamedTuple):
    """What scores are held against: metrics by key, claims, tolerances by data set and metric, published values."""

    metrics: Mapping[str, Metric]
    claims: tuple[Claim, ...]
    tolerances: Mapping[tuple[str, str], float]
    published: Mapping[str, Beside]


@dataclass(frozen=True)
class Loaded:
    """What was read; `problems` is a sentence for each file that could not be used.

    not_exported   sentences on what was left out on purpose when the store was exported
    """

    plan: Plan
    results: Results
    topics: tuple[tuple[Topic[Any], Any], ...]
    claims: tuple[Claim, ...]
    tolerances: Mapping[tuple[str, str], float]
    work: Work
    path: Path
    more_topics: tuple[str, ...]
    problems: tuple[str, ...]
    not_exported: tuple[str, ...] = ()

    def numbers(self, name: str) -> Any:
        """Return the numbers of a topic."""
        return next(numbers for topic, numbers in self.topics if topic.name == name)

    def tables(self) -> Iterable[Table]:
        """Yield the tables of every topic."""
        for topic, numbers in self.topics:
            yield from topic.tables(numbers, self.results)

    def figures(self) -> Iterable[FigureEntry]:
        """Yield the figures of every topic."""
        for topic, numbers in self.topics:
            yield from topic.figures(numbers, self.results)

    def findings(self) -> Findings:
        """Return the verdicts on claims and published values."""
        return find(self.results, self.claims, self.tolerances, self.work)

    def claims_notes(self) -> list[str]:
        """Return what a reader of claims has to know about the metrics of each topic."""
        notes = [topic.claims_note(numbers) for topic, numbers in self.topics if topic.claims_note]
        return [note for note in notes if note]


def load(grid_path: Path, store_path: Path, scale: str, more_topics: Sequence[str] = ()) -> Loaded:
    """Return what tables, figures and report need; UserError if no run of the grid is done at this scale.

    more_topics   topics of the user's own, each as `package.module:NAME`
    """
    topics = (*TOPICS, *map(find_topic, more_topics))
    grid, store = load_grid(grid_path), Store(store_path)
    plan = make_plan(grid, scale, store)
    if not any(run.status in ("done", "damaged") for run in plan.runs):
        raise UserError(
            f"{store_path}: none of the {counted(len(plan.runs), 'run')} of grid {grid.name} at scale {scale} is done; "
            f"make them with: python -m bench run {grid_path} --scale {scale} --store {store_path}"
        )
    view = StoreView(plan, store)
    finished = finished_replicates(view)
    loaded = tuple((topic, topic.load(view)) for topic in topics)
    scores = [topic.scores(numbers) for topic, numbers in loaded if topic.scores]
    cells = cells_of(plan, finished, {cell.name: view.warnings(cell) for cell in plan.cells})
    standards = standards_of(grid, grid_path, topics)
    results = Results(
        context=make_context(plan, view.data_notes(), cells, finished),
        cells=cells,
        replicates=reduce(_merged, scores, finished),
        metrics=standards.metrics,
        published=standards.published,
    )
    return Loaded(
        plan,
        results,
        loaded,
        standards.claims,
        standards.tolerances,
        read_work(view),
        grid_path,
        tuple(more_topics),
        view.problems,
        view.not_exported(),
    )


def standards_of(grid: Grid, grid_path: Path, topics: Sequence[Topic[Any]]) -> Standards:
    """Return what the scores of a grid are held against; UserError that names a file with a mistake."""
    metrics = {metric.key: metric for topic in topics for metric in topic.metrics}
    folder = published_folder(grid_path)
    # What was published belongs to a cell at the scale of the paper, not to its smaller version at another scale.
    full_size = make_plan(grid, PAPER_SCALE, None)
    return Standards(
        metrics,
        claims_of(grid.claims, metrics),
        read_tolerances(folder / "tolerances.yaml", metrics),
        find_published(folder, full_size),
    )


def finished_replicates(view: StoreView) -> pd.DataFrame:
    """Return the replicates that count, those with usable logits on the test images: cell, replicate, members."""
    rows = []
    for replicate in view.replicates():
        with view.noting():
            logits, _ = replicate.logits("test")
            rows.append({**replicate.key, "members": len(logits)})
    return tidy(rows, "cell replicate members")


def cells_of(plan: Plan, finished: pd.DataFrame, warnings: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return what the plan knows of each cell, how many of its replicates are finished, and what their runs warn of.

    warnings    of the runs of a cell, by its name
    reference   the cell of the single dense network of the same kind, empty where the grid has none
    """
    done = finished["cell"].value_counts()
    specs = {run.id: run.spec for run in plan.runs}
    reference = "; ".join(assumed_references(plan.cells))
    dense = plan.references()
    rows = [
        {
            **_cell_row(cell, int(done.get(cell.name, 0))),
            "flops_reference": reference if cell.assumed_epochs is not None else "",
            "selection": _selection(specs[cell.runs[0][0]]),
            "warnings": "; ".join(warnings.get(cell.name, ())),
            "reference": dense.get(cell.name, ""),
        }
        for cell in plan.cells
    ]
    return tidy(rows, CELLS)


def _selection(spec: RunSpec) -> str:
    """Return which images a run chooses its epochs by: "augmented" or "plain", "none" where it takes the last one."""
    if not spec.data.validation_images:
        return "none"
    return "augmented" if spec.validation_augmented else "plain"


def _merged(replicates: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    return replicates.merge(scores, on=["cell", "replicate"], how="left")


def _cell_row(cell: CellPlan, done: int) -> dict[str, Any]:
    return {
        "cell": cell.name,
        "method": cell.method,
        "members": cell.members,
        "sparsity": cell.sparsity,
        "replicates": cell.replicates,
        "replicates_done": done,
        "runs": len({run for replicate in range(cell.replicates) for run in cell.all_runs(replicate)}),
        "dataset": cell.data.name,
        "variant": cell.data.variant,
        "network": " ".join(
            [cell.model.name, *(f"{key}={value}" for key, value in sorted(cell.model.arguments.items()))]
        ),
        "train_flops_ratio": cell.train_flops_ratio,
        "inference_flops_ratio": cell.inference_flops_ratio,
        "parameters_ratio": cell.parameters_ratio,
        "flops_assumed": cell.flops_assumed,
        "flops_uncounted": "; ".join(uncounted_flops([cell])),
    }
