"""How every figure looks: colour-blind safe, readable in print, its context at the foot, never global state.

A method has one colour in all figures of a grid and a cell a marker of its own, so that no distinction rests on colour
alone.
"""

import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bench.store.files import atomic_path

P = ParamSpec("P")

Color = tuple[float, float, float]

# How much nearer to black or white the colour of a method becomes when its markers run out.
SHADES = (0.0, -0.5, 0.5, -0.75)
# Width of a page's text in inches; heights follow from what is drawn.
WIDTH = 7.2
FOOT_SIZE = 6.5
GREY = "0.35"
MARKERS = "osD^vP*Xh<>p"
RC: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.2,
    "grid.linewidth": 0.5,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,
    # A dollar in a name is a dollar. Logarithmic axes need a formatter that writes no mathematics.
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Look:
    """Colour and marker of a cell."""

    color: Color
    marker: str


def styled(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function that makes a figure draw in the style of this module."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _style():
            return function(*args, **kwargs)

    return wrapper


def looks(cells: pd.DataFrame) -> dict[str, Look]:
    """Return the look of each cell, from columns cell and method; no two are the same up to 48 cells of a method.

    The markers go round, past those that another cell of the colour has; then the colour becomes darker or lighter.
    """
    methods = list(dict.fromkeys(cells["method"]))
    palette = sns.color_palette("colorblind", 10)
    found: dict[str, Look] = {}
    taken: set[Look] = set()
    for index, (cell, method) in enumerate(zip(cells["cell"], cells["method"], strict=True)):
        color = palette[methods.index(method) % len(palette)]
        markers = [MARKERS[(index + skip) % len(MARKERS)] for skip in range(len(MARKERS))]
        free = (Look(_shade(color, amount), marker) for amount in SHADES for marker in markers)
        found[str(cell)] = next((look for look in free if look not in taken), Look(color, markers[0]))
        taken.add(found[str(cell)])
    return found


def alike(cells: pd.DataFrame) -> str:
    """Return a sentence that says how many cells look like another one; empty if none does."""
    chosen = list(looks(cells).values())
    same = sum(chosen.count(look) > 1 for look in chosen)
    return f"{same} of the cells have the colour and marker of another: the tables tell them apart." if same else ""


def _shade(color: Color, amount: float) -> Color:
    """Return a colour nearer to black (amount below 0) or to white."""
    end = 0.0 if amount < 0 else 1.0
    red, green, blue = (part + abs(amount) * (end - part) for part in color)
    return red, green, blue


def wrapped(name: str, width: int = 22) -> str:
    """Return a cell's name on several short lines."""
    return "\n".join(textwrap.wrap(name, width)) or name


def thin(axes: Axes, axis: str = "y") -> None:
    """Leave the two spines that carry scales, and a faint grid along one axis."""
    sns.despine(ax=axes)
    axes.grid(visible=False)
    axes.grid(visible=True, axis="x" if axis == "x" else "y", color="0.88")
    axes.set_axisbelow(True)


def say_not_run(axes: Axes, position: float, size: float = 7) -> None:
    """Write "not run" in the middle of a row."""
    axes.annotate(
        "not run", (0.5, position), xycoords=("axes fraction", "data"), color=GREY, fontsize=size, va="center",
        ha="center",
    )  # fmt: skip


def with_foot(figure: Figure, text: str) -> Figure:
    """Write the context at the foot of a figure, in room of its own below what is drawn."""
    width, height = figure.get_size_inches()
    # A letter is about half as wide as its size in points.
    lines = textwrap.wrap(text, int(width * 72 / (0.53 * FOOT_SIZE)))
    room = (len(lines) * FOOT_SIZE * 1.25 + 6) / 72
    figure.set_size_inches(width, height + room)
    share = room / (height + room)
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, share, 1, 1 - share))
    figure.text(
        0.008, 0.004, "\n".join(lines), fontsize=FOOT_SIZE, color=GREY, va="bottom", ha="left", linespacing=1.15
    )
    return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as PNG (200 dpi) and PDF."""
    with _style():
        # The layout takes longer than drawing, and both files have the same.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    for path in (folder / f"{name}.png", folder / f"{name}.pdf"):
        # Without dates in the files, the same results give the same bytes.
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
        with _style(), atomic_path(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=200, metadata=metadata)


def rows_of(items: Sequence[str], columns: int) -> int:
    """Return the number of rows of a grid of panels."""
    return -(-len(items) // columns)


@contextmanager
def _style() -> Iterator[None]:
    grid, sizes = sns.axes_style("whitegrid"), sns.plotting_context("paper")
    with warnings.catch_warnings(), mpl.rc_context(), grid, sizes, mpl.rc_context(RC):
        # A letter that no font has is drawn as a box; said once for each of a figure's texts, it helps nobody.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield
