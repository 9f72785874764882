"""Scores of a grid kept in a file: what others may expect, and a study made of replicates of several machines.

A file needs no store: the verdicts can be given from it alone.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from analysis.context import make_context
from analysis.loading import Loaded, cells_of, standards_of
from analysis.overview import main_table
from analysis.paper.findings import Findings, find
from analysis.reading import tidy
from analysis.results import Results
from analysis.table import Table
from analysis.topics import TOPICS
from bench.errors import UserError
from bench.grid import load_grid
from bench.plan import Plan, make_plan
from bench.spec.record import Record
from bench.store.files import write_json
from bench.store.records import read_record


class Scores(Record):
    """What a store holds of a grid at a scale: scores (shares, nats) by cell, replicate and metric, and what made them.

    data        the variant of each data set
    made_with   devices, versions and commits
    runs        the ids of the runs of each replicate, by cell; none in a file of before they were kept
    members     how many members each replicate has, by cell; as many as the cell is named for where it is not said
    """

    schema_version: Literal[1] = 1
    grid: str
    scale: str
    data: dict[str, str]
    made_with: list[str]
    cells: dict[str, dict[str, dict[str, float]]] = Field(min_length=1)
    runs: dict[str, dict[str, tuple[str, ...]]] = Field(default={})
    members: dict[str, dict[str, int]] = Field(default={})


def scores_of(loaded: Loaded) -> Scores:
    """Return the scores of every finished replicate, without what the machine took: it depends on what else runs."""
    results, work = loaded.results, loaded.work
    keys = [key for key, metric in results.metrics.items() if metric.measured_on not in ("plan", "machine")]
    cells: dict[str, dict[str, dict[str, float]]] = {cell: {} for cell in results.cells["cell"]}
    members: dict[str, dict[str, int]] = {cell: {} for cell in cells}
    for row in results.replicates.to_dict("records"):
        cell, number = row["cell"], str(row["replicate"])
        cells[cell][number] = {key: float(row[key]) for key in keys if not pd.isna(row[key])}
        members[cell][number] = int(row["members"])
    return Scores(
        grid=loaded.plan.grid,
        scale=loaded.plan.scale,
        data=dict(zip(results.cells["dataset"], results.cells["variant"], strict=True)),
        made_with=[*work.devices, *work.versions, *work.commits],
        cells=cells,
        runs={cell.name: {n: cell.runs[int(n) - 1] for n in cells[cell.name]} for cell in loaded.plan.cells},
        members=members,
    )


def with_earlier(scores: Scores, earlier: Scores, plan: Plan) -> Scores:
    """Return scores with those replicates of an earlier store that are missing in them and are of the plan's own runs.

    A study may so be made of stores of several machines, a replicate each. UserError if the earlier scores are of
    another grid, scale or images, and would be lost.
    """
    for what in ("grid", "scale", "data"):
        if (one := getattr(earlier, what)) != (other := getattr(scores, what)):
            raise UserError(f"--keep: the file holds scores of {what} {one}, not {other}; remove it, or name another")
    cells, ids, taken = dict(scores.cells), dict(scores.runs), False
    members = dict(scores.members)
    for cell in plan.cells:
        planned = {str(number): runs for number, runs in enumerate(cell.runs, start=1)}
        known = earlier.runs.get(cell.name, {})
        before = earlier.cells.get(cell.name, {})
        more = [n for n in planned if n not in cells[cell.name] and n in before and known.get(n) == planned[n]]
        taken |= bool(more)
        found = {**cells[cell.name], **{n: before[n] for n in more}}
        cells[cell.name] = {n: found[n] for n in planned if n in found}
        ids[cell.name] = {n: planned[n] for n in cells[cell.name]}
        counts = {**earlier.members.get(cell.name, {}), **members.get(cell.name, {})}
        members[cell.name] = {n: counts[n] for n in cells[cell.name] if n in counts}
    made_with = list(dict.fromkeys([*earlier.made_with, *scores.made_with])) if taken else scores.made_with
    return scores.model_copy(update={"cells": cells, "runs": ids, "members": members, "made_with": made_with})


def lost(earlier: Scores, kept: Scores) -> list[str]:
    """Return the replicates of earlier scores that are not among those kept, such as "dense 2"."""
    return [f"{cell} {n}" for cell, found in earlier.cells.items() for n in found if n not in kept.cells.get(cell, {})]


def expected_file(grid: Path, scale: str) -> Path:
    """Return where the scores to expect of a grid are, whether there are any or not."""
    return grid.resolve().parent / "expected" / f"{grid.stem}-{scale}.json"


def read_scores(path: Path) -> Scores:
    """Return scores that were kept; UserError that names the file if they are none."""
    return read_record(Scores, path, "the scores of a grid")


def write_scores(scores: Scores, path: Path) -> None:
    """Keep scores."""
    write_json(path, scores.model_dump(mode="json"))


@dataclass(frozen=True)
class Kept:
    """What is known without a store: the results of those cells that a file has scores of, and the verdicts."""

    results: Results
    findings: Findings

    @property
    def tables(self) -> list[Table]:
        """The table of the grid, and those of claims and published values."""
        return [main_table(self.results), *self.findings.tables(())]


def judge_scores(grid_path: Path, scores: Scores) -> Kept:
    """Return the verdicts on scores that were kept; UserError if they are not of what the grid now asks for."""
    if not any(scores.cells.values()):
        raise UserError(f"there are no scores of grid {scores.grid} at scale {scores.scale}: no replicate was finished")
    grid = load_grid(grid_path)
    plan = make_plan(grid, scores.scale, None, scores.data)
    _check_same(scores, plan)
    plan = replace(plan, cells=tuple(cell for cell in plan.cells if scores.cells.get(cell.name)))
    standards = standards_of(grid, grid_path, TOPICS)
    keys = [key for key, metric in standards.metrics.items() if metric.measured_on != "plan"]
    rows = [
        {
            "cell": cell.name,
            "replicate": int(number),
            "members": scores.members.get(cell.name, {}).get(number, cell.members),
            **{key: found.get(key, float("nan")) for key in keys},
        }
        for cell in plan.cells
        for number, found in scores.cells[cell.name].items()
    ]
    replicates = tidy(rows, " ".join(["cell", "replicate", "members", *keys]))
    cells = cells_of(plan, replicates, {})
    results = Results(
        make_context(plan, {}, cells, replicates), cells, replicates, standards.metrics, standards.published
    )
    return Kept(results, find(results, standards.claims, standards.tolerances, None))


def _check_same(scores: Scores, plan: Plan) -> None:
    """UserError if a cell of the scores is not in the plan, or is of other runs than the plan's."""
    cells = {cell.name: cell for cell in plan.cells}
    for name, replicates in scores.cells.items():
        known = scores.runs.get(name, {})
        for number in replicates:
            planned = cells[name].runs if name in cells else ()
            index = int(number) if number.isdecimal() else 0
            if not 0 < index <= len(planned) or (number in known and known[number] != planned[index - 1]):
                raise UserError(
                    f"the scores of {name}, replicate {number}, are of runs that grid {plan.grid} does not ask for at "
                    f"scale {plan.scale}; it was changed since they were kept"
                )
