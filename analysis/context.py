"""What every table and every figure must say of itself: grid, scale, substitute images, replicates, what is missing."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from bench.data.sources import describe
from bench.errors import counted
from bench.plan import Plan

PAPER_SCALE = "paper"
# A sentence that names more cells than this is no longer read.
MOST_NAMES = 8


@dataclass(frozen=True)
class Context:
    """Sentences about where numbers come from; `caveats` are those a reader must not miss.

    replicates   how many there are, and which cells lack some
    n            how many there are
    """

    grid: str
    scale: str
    caveats: tuple[str, ...]
    replicates: str
    n: str = ""

    @property
    def comparable(self) -> bool:
        """Whether numbers may be compared with published ones: paper scale, official images."""
        return not self.caveats

    @property
    def title(self) -> str:
        """The grid, and the scale."""
        return f"grid {self.grid}, scale {self.scale}"

    @property
    def sentence(self) -> str:
        """All of it in one line: the caption of a table."""
        return " ".join([*self._origin, self.replicates])

    @property
    def foot(self) -> str:
        """What stands below every figure: all but the cells that lack replicates, which the report names once."""
        return " ".join([*self._origin, self.n or self.replicates])

    @property
    def _origin(self) -> list[str]:
        scale = f", scale {PAPER_SCALE}" if self.scale == PAPER_SCALE else ""  # another scale is the first caveat
        return [f"Grid {self.grid}{scale}.", *self.caveats]


def make_context(
    plan: Plan, data_notes: Mapping[tuple[str, str], str], cells: pd.DataFrame, finished: pd.DataFrame
) -> Context:
    """Return what tables and figures of a plan's results state.

    data_notes   what was recorded about the images, by (data set, variant)
    cells        as in analysis.topic.Results
    finished     the replicates that count: cell, replicate, members
    """
    caveats = []
    if plan.scale != PAPER_SCALE:
        caveats.append(f"Scale {plan.scale}: not comparable with published numbers.")
    for name, variant in sorted({(cell.data.name, cell.data.variant) for cell in plan.cells}):
        if variant != "official":
            caveats.append(f"Data {name}: {data_notes.get((name, variant)) or describe(variant)}")
    lacking = f"{_incomplete(cells)}{_fewer(cells, finished)}"
    n = describe_replicates(cells)
    return Context(plan.grid, plan.scale, tuple(caveats), f"{n}{lacking}", n)


def _fewer(cells: pd.DataFrame, finished: pd.DataFrame) -> str:
    """Return which replicates have fewer members than their cell is named for, as a run left fewer tickets."""
    planned = finished["cell"].map(cells.set_index("cell")["members"])
    rows = finished[finished["members"] < planned].to_dict("records")
    names = [f"{row['cell']} ({row['members']} in replicate {row['replicate']})" for row in rows]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f" Fewer members than planned: {', '.join(names[:MOST_NAMES])}{more}." if names else ""


def describe_replicates(cells: pd.DataFrame) -> str:
    """Return the number of replicates behind a set of cells."""
    done = cells["replicates_done"]
    span = f"{done.min()}" if done.min() == done.max() else f"{done.min()} to {done.max()}"
    return f"n = {span} replicate{'' if span == '1' else 's'} a cell."


def describe_measured(cells: pd.DataFrame, measured: pd.DataFrame) -> str:
    """Return the number of replicates in a frame (cell, replicate), and which cells have more that were not evaluated.

    What was not trained either is not repeated: the report says it once.
    """
    counts = cells["cell"].map(measured.groupby("cell")["replicate"].nunique()).fillna(0).astype(int)
    lacking = cells.assign(found=counts)[counts < cells["replicates_done"]]
    names = [f"{row['cell']} ({row['found']} of {row['replicates_done']})" for row in lacking.to_dict("records")]
    return describe_replicates(cells.assign(replicates_done=counts)) + _listed("Not evaluated", names)


def _incomplete(cells: pd.DataFrame) -> str:
    """Return which cells lack replicates."""
    lacking = cells[cells["replicates_done"] < cells["replicates"]]
    names = [f"{row['cell']} ({row['replicates_done']} of {row['replicates']})" for row in lacking.to_dict("records")]
    return _listed("Incomplete", names)


def _listed(what: str, names: list[str]) -> str:
    """Return a sentence that names the first of many cells; empty without any."""
    more = f" and {counted(len(names) - MOST_NAMES, 'more cell')}" if len(names) > MOST_NAMES else ""
    return f" {what}: {', '.join(names[:MOST_NAMES])}{more}." if names else ""
