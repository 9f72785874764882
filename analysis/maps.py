"""Heat maps: numbers that can be read on their squares, and cells as differences to what they are compared with."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

from analysis.reference import references_of
from analysis.style import ink_on

# Squares of the largest differences have the same colour, so that one cell does not take all colours from the others.
QUANTILE = 0.95
DIVERGING = "RdBu"


def draw_map(
    axes: Axes, values: pd.DataFrame, cmap: str, limits: tuple[float, float], *, square: bool = False
) -> QuadMesh:
    """Draw a square a value, grey where there is none; return what a colour bar is made from."""
    sns.heatmap(
        values, ax=axes, vmin=limits[0], vmax=limits[1], cmap=cmap, cbar=False, square=square,
        linewidths=0.5 if values.shape[1] <= 40 else 0,
    )  # fmt: skip
    axes.set_facecolor("0.92")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    mesh = axes.collections[0]
    assert isinstance(mesh, QuadMesh)
    return mesh


def write_numbers(axes: Axes, values: pd.DataFrame, fmt: str, size: float = 6.5) -> None:
    """Write each value on its square, black or white, whichever can be read there."""
    mesh = axes.collections[0]
    mesh.update_scalarmappable()
    colors = np.asarray(mesh.get_facecolor()).reshape(*values.shape, 4)
    for (row, column), value in np.ndenumerate(values.to_numpy(dtype=float)):
        if not np.isnan(value):
            axes.text(
                column + 0.5, row + 0.5, spelled(value, fmt), ha="center", va="center", fontsize=size,
                color=ink_on(tuple(colors[row, column, :3])),
            )  # fmt: skip


def draw_differences(axes: Axes, values: pd.DataFrame, cells: pd.DataFrame, fmt: str | None) -> QuadMesh:
    """Draw the difference of each row to that of its dense network, which itself has its values in bold on white.

    values: cells x columns, higher is better; cells: cell, reference (may lack): rows without one are left grey. fmt:
    of the numbers, None for none.
    """
    dense = {cell: name for cell, name in references_of(cells).items() if name in values.index}
    differences = pd.DataFrame(
        [
            values.loc[cell] - values.loc[dense[cell]] if dense.get(cell, cell) != cell else values.loc[cell] * np.nan
            for cell in values.index
        ],
        index=values.index,
    )
    mesh = draw_map(axes, differences, DIVERGING, symmetric(differences))
    if fmt:
        write_numbers(axes, differences, f"+{fmt}")
    for row, cell in enumerate(values.index):
        if dense.get(cell) == cell:
            axes.axhspan(row, row + 1, facecolor="white", zorder=2)
            for column, value in enumerate(values.loc[cell]):
                if fmt and not np.isnan(value):
                    axes.text(
                        column + 0.5, row + 0.5, spelled(value, fmt), ha="center", va="center", fontsize=6.5,
                        fontweight="bold", color="black", zorder=3,
                    )  # fmt: skip
    return mesh


def spelled(value: float, fmt: str) -> str:
    """Return a number as its format says, but "0" without sign or decimals, and "100" without the latter.

    Nor has a difference of ten points or more any: five letters are wider than a square.
    """
    text = format(value, fmt)
    if fmt.startswith("+") and abs(float(text)) >= 10:
        return format(value, "+.0f")
    return "0" if not float(text) else text.removesuffix(".0") if float(text) == 100 else text


def are_compared(values: pd.DataFrame, cells: pd.DataFrame) -> bool:
    """Whether most rows have a dense network among the rows."""
    dense = references_of(cells)
    return sum(dense.get(str(cell)) in values.index for cell in values.index) > len(values) / 2 and len(values) > 1


def name_columns(axes: Axes, names: Sequence[str], size: float | None = None) -> None:
    """Write the names of columns below them, upwards unless all are of one or two letters."""
    rotation = 0 if max(map(len, names)) <= 2 else 90
    axes.set_xticks(np.arange(len(names)) + 0.5, list(names), rotation=rotation, fontsize=size)


def symmetric(differences: pd.DataFrame) -> tuple[float, float]:
    """Return the ends of a scale of differences, as far below 0 as above: of all but the largest few."""
    known = np.abs(differences.to_numpy(dtype=float))
    known = known[~np.isnan(known)]
    most = float(np.quantile(known, QUANTILE)) if len(known) else 0.0
    most = most or float(known.max(initial=0.0)) or 1.0
    return -most, most
