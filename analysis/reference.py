"""What cells are compared with in figures: the single dense network of the same kind."""

from itertools import groupby
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from analysis.style import GREY

DASHES = (0, (4, 3))


class Block(NamedTuple):
    """Neighbouring rows of a figure, from `first` to `last`, that are compared with the cell `dense`."""

    dense: str
    first: int
    last: int


def blocks(cells: pd.DataFrame) -> list[Block]:
    """Return the rows that share a dense network; none where a cell has none. cells: cell, reference (may lack)."""
    found = []
    for dense, rows in groupby(enumerate(_references(cells)), key=lambda row: row[1]):
        positions = [position for position, _ in rows]
        found += [Block(dense, positions[0], positions[-1])] if dense else []
    return found


def references_of(cells: pd.DataFrame) -> dict[str, str]:
    """Return the dense network that each cell is compared with; cells that have none are left out."""
    pairs = zip(cells["cell"], _references(cells), strict=True)
    return {str(cell): dense for cell, dense in pairs if dense}


def only_reference(cells: pd.DataFrame) -> str | None:
    """Return the dense network that all cells are compared with, None if there is none or there are several."""
    found = set(_references(cells))
    return found.pop() or None if len(found) == 1 else None


def _references(cells: pd.DataFrame) -> list[str]:
    return [str(name) for name in cells["reference"]] if "reference" in cells else [""] * len(cells)


def draw_references(axes: Axes, cells: pd.DataFrame, means: "pd.Series[float]") -> bool:
    """Draw a vertical line at the mean of the dense network through the rows it is compared with; return if any was.

    means   by cell, in the unit of the axis
    """
    shown = [block for block in blocks(cells) if block.dense in means.dropna()]
    for block in shown:
        axes.plot(
            [means[block.dense]] * 2, [block.first - 0.5, block.last + 0.5], color=GREY, linewidth=0.8,
            linestyle=DASHES, zorder=1.5, label="dense",
        )  # fmt: skip
    return bool(shown)
