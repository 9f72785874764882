"""Several grids at once: what they share, and so what they cost together."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.errors import counted
from bench.plan.near_misses import NearMisses
from bench.plan.records import Plan, RunPlan
from bench.plan.show import STATUSES, document, make_table, time_bases
from bench.plan.total import duration, left_of

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Together:
    """The plans of several grids, and each run of any of them once."""

    plans: tuple[Plan, ...]
    runs: tuple[RunPlan, ...]

    @classmethod
    def of(cls, plans: Sequence[Plan]) -> "Together":
        """Return the plans with their runs united, in the order of the grids."""
        runs = {run.id: run for plan in plans for run in plan.runs}
        return cls(tuple(plans), tuple(runs.values()))

    @property
    def cells(self) -> int:
        """Number of cells of all grids."""
        return sum(len(plan.cells) for plan in self.plans)

    @property
    def hours(self) -> float:
        """Estimated hours of all runs, each once."""
        return sum(run.hours for run in self.runs)

    def shared(self) -> list[int]:
        """Return, for each grid, how many of its runs another grid needs too."""
        uses = Counter(run.id for plan in self.plans for run in plan.runs)
        return [sum(uses[run.id] > 1 for run in plan.runs) for plan in self.plans]


def several_to_json(together: Together, misses: NearMisses | None = None) -> str:
    """Return the plans, their totals and, where they were looked for, their near misses as a JSON document."""
    statuses: Counter[str] = Counter(run.status for run in together.runs)
    left = left_of(together.plans)
    totals = {
        "cells": together.cells,
        "runs": len(together.runs),
        "runs_grid_by_grid": sum(len(plan.runs) for plan in together.plans),
        "runs_without_sharing": sum(plan.unshared_runs for plan in together.plans),
        **{status: statuses[status] for status in STATUSES},
        "hours": together.hours,
        "hours_grid_by_grid": sum(plan.hours for plan in together.plans),
        "hours_without_sharing": sum(plan.unshared_hours for plan in together.plans),
        "hours_left": sum(part.training for part in left),
        "evaluation_sets_left": sum(part.sets for part in left),
        "evaluation_hours_left": sum(part.evaluation for part in left),
    }
    found = misses.to_json() if misses else {}
    return json.dumps({"totals": totals, **found, "grids": [document(plan) for plan in together.plans]})


def print_several(together: Together, console: "Console", misses: NearMisses | None = None) -> None:
    """Print a row a grid, what all of them cost together, and near misses."""
    table = make_table("cell", ">cells", ">runs", ">shared", ">done", ">hours", ">unshared")
    table.columns[0].header = "grid"
    for plan, shared in zip(together.plans, together.shared(), strict=True):
        done = plan.counts()["done"]
        counts = (str(len(plan.cells)), str(len(plan.runs)), str(shared), str(done))
        table.add_row(f"{plan.grid} ({plan.scale})", *counts, duration(plan.hours), duration(plan.unshared_hours))
    console.print(table)
    console.print(
        "shared: runs that another grid needs too; hours: each run of the grid once; unshared: if every cell trained "
        "runs of its own",
        style="dim",
    )
    console.print("")
    grid_by_grid = sum(len(plan.runs) for plan in together.plans)
    unshared = sum(plan.unshared_runs for plan in together.plans)
    console.print(
        f"{counted(together.cells, 'cell')}, {counted(len(together.runs), 'distinct run')} ({grid_by_grid:,} grid by "
        f"grid, {unshared:,} if every cell trained its own)"
    )
    states: Counter[str] = Counter(run.status for run in together.runs)
    console.print(", ".join(f"{states[status]:,} {status}" for status in STATUSES if states[status]))
    for device in dict.fromkeys(run.hours_device for run in together.runs):
        alone = sum(plan.unshared_hours for plan in together.plans)
        if len({run.hours_device for run in together.runs}) == 1:
            console.print(f"{together.hours:,.1f} {device}-hours with sharing, {alone:,.1f} without")
        else:
            hours = sum(run.hours for run in together.runs if run.hours_device == device)
            console.print(f"{hours:,.1f} {device}-hours with sharing")
    for left in left_of(together.plans):
        console.print(f"left: {left}")
    for line in time_bases(together.runs):
        console.print(line)
    for line in misses.lines() if misses else ():
        console.print(line)
