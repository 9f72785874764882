"""How every figure looks: colour-blind safe, readable in print, its context at the foot, never global state.

A family of methods has one colour in all figures, and its cells have markers of their own. Marks contrast 3 : 1 with
white and text 4.5 : 1 with what it stands on (WCAG 2.2). Families stay apart for readers without red or green cones:
tests/analysis/test_style.py simulates them.
"""

import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.typing import ColorType

from bench.store.files import atomic_path

P = ParamSpec("P")

Color = tuple[float, float, float]

# How much nearer to black (light colours) or to white (dark ones) a colour becomes when its markers run out; any nearer
# to white, and no colour would contrast 3 : 1 with it.
SHADES = (0.0, 0.4, 0.2, 0.3, 0.1)
# Colours that contrast more than this with white are dark.
DARK = 6.0
# A family of methods: its colour, and the methods or kinds of several members in one network that belong to it. They
# were searched for the largest smallest difference (CIELAB) in normal, protanopic and deuteranopic sight.
FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "dense": ("#1f1f1f", ("dense",)),
    "one network": ("#bb0066", ("mc_dropout", "mimo", "batch_ensemble", "tree_net")),
    "static": ("#0099aa", ("static",)),
    "pruned": ("#7766ff", ("prune_finetune", "lottery_rewinding", "gradual_pruning", "acdc")),
    "cycles": ("#664400", ("snapshot", "snapshot_dst", "fge", "fge_dst")),
    "DST": ("#004499", ("dst",)),
    "EDST": ("#dd5555", ("edst", "superposed_edst")),
}
OTHER = "other"
OTHER_COLOR = "#779900"
# Colours of things that are no cells, such as runs or data sets.
COLORS = (*(color for color, _ in FAMILIES.values()), OTHER_COLOR)
# What lies above what, where markers meet: the paper's own methods, and what they are compared with, are not hidden.
ON_TOP = ("dense", "DST", "EDST")
# Width of a page's text in inches; heights follow from what is drawn.
WIDTH = 7.2
FOOT_SIZE = 7.0
GREY = "0.35"
# What the eye takes for as large as a circle of size 1.
MARKERS = {
    "o": 1.0, "s": 0.9, "D": 0.85, "^": 1.1, "v": 1.1, "P": 1.1, "*": 1.5, "X": 1.1, "h": 1.1, "<": 1.1, ">": 1.1,
    "p": 1.1,
}  # fmt: skip
DPI = 200
RC: dict[Any, Any] = {
    # Letters are of whole pixels, so at another resolution than that of the file names would have another width.
    "figure.dpi": DPI,
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
    """Colour and marker of a cell, and the family of methods that the colour stands for."""

    color: Color
    marker: str
    family: str = OTHER

    def size(self, points: float) -> float:
        """Return the size at which the marker looks as large as a circle of so many points."""
        return points * MARKERS[self.marker]

    @property
    def zorder(self) -> float:
        """The layer of its marks: that of what must not be hidden is the highest."""
        return 3 + 0.1 * (ON_TOP.index(self.family) + 1 if self.family in ON_TOP else 0)


def styled(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function that makes a figure draw in the style of this module."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _style():
            return function(*args, **kwargs)

    return wrapper


def family_of(method: str) -> str:
    """Return the family of a method, which may be followed by a kind of several members, as "dst tree_net"."""
    kind = method.rpartition(" ")[2]
    return next((name for name, (_, methods) in FAMILIES.items() if kind in methods), OTHER)


def looks(cells: pd.DataFrame) -> dict[str, Look]:
    """Return the look of each cell, from columns cell and method; no two are the same up to 60 cells of a family.

    The markers go round, past those that another cell of the colour has; then the colour becomes darker or lighter.
    """
    found: dict[str, Look] = {}
    taken: set[Look] = set()
    for index, (cell, method) in enumerate(zip(cells["cell"], cells["method"], strict=True)):
        family = family_of(method)
        color = to_rgb(FAMILIES[family][0] if family in FAMILIES else OTHER_COLOR)
        markers = [list(MARKERS)[(index + skip) % len(MARKERS)] for skip in range(len(MARKERS))]
        free = (Look(_shade(color, amount), marker, family) for amount in SHADES for marker in markers)
        found[str(cell)] = next((look for look in free if look not in taken), Look(color, markers[0], family))
        taken.add(found[str(cell)])
    return found


def alike(cells: pd.DataFrame) -> str:
    """Return a sentence that says how many cells look like another one; empty if none does."""
    chosen = list(looks(cells).values())
    same = sum(chosen.count(look) > 1 for look in chosen)
    return f"{same} of the cells have the colour and marker of another: the tables tell them apart." if same else ""


def _shade(color: Color, amount: float) -> Color:
    """Return a light colour nearer to black, or a dark one nearer to white."""
    end = 1.0 if contrast(color, "white") > DARK else 0.0
    red, green, blue = (part + amount * (end - part) for part in color)
    return red, green, blue


def contrast(one: ColorType, other: ColorType) -> float:
    """Return the contrast ratio of two colours, from 1 to 21 (WCAG 2.2)."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: ColorType) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def ink_on(color: ColorType) -> str:
    """Return "black" or "white", whichever contrasts more with a colour: at least 4.58 : 1."""
    return max(("black", "white"), key=lambda ink: contrast(color, ink))


def wrapped(name: str, width: int = 22) -> str:
    """Return a cell's name on several short lines."""
    return "\n".join(textwrap.wrap(name, width)) or name


def height_beside(labels: Iterable[str]) -> float:
    """Return the inches that a legend with these labels takes beside a panel, which must not be lower."""
    return sum(0.07 + 0.14 * (label.count("\n") + 1) for label in labels)


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
            figure.savefig(temporary, format=path.suffix[1:], dpi=DPI, metadata=metadata)


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
