"""Where runs went in function space: t-SNE of their predictions epoch by epoch (Fort et al. 2019, figure 2).

Runs from other seeds end in other places; whether the tickets of one EDST run do as well is what the paper asks.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from analysis.style import COLORS, WIDTH, rows_of, styled, wrapped
from bench.errors import counted
from bench.metrics.probabilities import Doubles

# Panels in a row, and more of them where there are more than so many trajectories.
COLUMNS, MORE_COLUMNS, MANY = 3, 5, 9
# Letters in a line of a small panel's title.
NARROW = 16
Color = tuple[float, float, float]
# How pale the first epoch of a run is, from 0 (its full colour) to 1 (white).
PALE = 0.72
DASHED = (0, (2, 1.5))
LAST: dict[str, Any] = {"markersize": 9, "markeredgecolor": "black", "markeredgewidth": 1}
STAR: dict[str, Any] = {"markersize": 8, "markeredgecolor": "black", "markeredgewidth": 0.5}
HALO = [withStroke(linewidth=2, foreground="white")]
# In points: how far a number is from its ticket, and at least from other numbers and tickets.
OFFSET, CLEARANCE = 9, 7
DIRECTIONS = [np.array([math.cos(angle), math.sin(angle)]) for angle in math.pi / 4 * np.arange(8)]


@styled
def function_space(paths: pd.DataFrame) -> Figure:
    """Return a panel a trajectory, all of one plane: a line a run from light to dark, its tickets as numbered stars.

    Phases that leave no ticket (the exploration of EDST) are dashed, with open dots. In grey are the runs of the other
    panels. paths: trajectory, run, epoch, phase, ticket, x, y, as analysis.training.embedding makes them.
    """
    names = list(dict.fromkeys(paths["trajectory"]))
    most = COLUMNS if len(names) <= MANY else MORE_COLUMNS
    columns = min(most, len(names))
    rows = rows_of(names, most)
    side = 3.1 if columns < COLUMNS else 2.1 if columns == COLUMNS else 1.2
    figure = Figure(figsize=(WIDTH, 0.8 + rows * (side + _head(names) if side < 2 else side + 0.55)))
    panels = figure.subplots(rows, columns, squeeze=False)
    palette = [to_rgb(color) for color in COLORS[1:]]
    for index, (axes, name) in enumerate(zip(panels.flat, names, strict=False)):
        others = paths[paths["trajectory"] != name]
        axes.plot(others["x"], others["y"], "o", color="0.85", markersize=1.6, markeredgewidth=0, zorder=1)
        shown = paths[paths["trajectory"] == name]
        silent = _without_tickets(shown)
        runs = [run.sort_values("epoch") for _, run in shown.groupby("run", sort=False)]
        for number, run in enumerate(runs):
            _path(axes, run, palette[number % len(palette)], silent)
        small = columns > COLUMNS
        axes.set_title(
            f"{wrapped(name, NARROW if small else 30)}\n{counted(len(runs), 'run')}", fontsize=7.5 if small else 9
        )
        _frame(axes, paths)
        low, high = axes.get_xlim()
        _number_tickets(axes, runs, 72 * side / (high - low))
        if index % columns == 0:
            axes.set_ylabel("t-SNE, second axis\n(no unit)")
        if index + columns >= len(names):
            axes.set_xlabel("t-SNE, first axis\n(no unit)" if small else "t-SNE, first axis (no unit)")
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    figure.legend(
        handles=_legend(palette[0], paths, len(names)), loc="outside upper center", ncols=3, columnspacing=1.5
    )
    return figure


def _head(names: Sequence[str]) -> float:
    """Return the inches that the title of a small panel takes, with the room above it."""
    return 0.25 + 0.125 * max(len(wrapped(name, NARROW).splitlines()) + 1 for name in names)


def _path(axes: Axes, run: pd.DataFrame, color: Color, silent: set[str]) -> None:
    """Draw the epochs of one run, each in its shade, and the steps between them in that of where they begin."""
    first, last = run["epoch"].min(), run["epoch"].max()
    shades = [_shade(color, (epoch - first) / max(1, last - first)) for epoch in run["epoch"]]
    is_silent = list(run["phase"].isin(silent))
    x, y = run["x"].to_numpy(), run["y"].to_numpy()
    points = list(zip(x, y, strict=True))
    dashes = [DASHED if dashed else "-" for dashed in is_silent[:-1]]
    axes.add_collection(LineCollection(list(pairwise(points)), colors=shades[:-1], linestyles=dashes, linewidths=0.9))
    faces = ["white" if dashed else shade for dashed, shade in zip(is_silent, shades, strict=True)]
    axes.scatter(x, y, s=9, c=faces, edgecolors=shades, linewidths=0.7, zorder=3)
    stars = run[run["ticket"]]
    if len(stars):  # a run without tickets is not at its end yet
        axes.plot(x[-1:], y[-1:], "o", markerfacecolor="none", **LAST, zorder=4)
    axes.plot(stars["x"], stars["y"], "*", color=color, **STAR, zorder=5)


def _number_tickets(axes: Axes, runs: list[pd.DataFrame], points: float) -> None:
    """Write its number within the run beside each ticket, where there is room; a unit of the plane is `points` long.

    Runs that leave a single ticket need no number.
    """
    tickets = [run.loc[run["ticket"], ["x", "y"]].to_numpy() * points for run in runs]
    paths = np.concatenate([run[["x", "y"]].to_numpy() for run in runs]) * points
    taken = [star for stars in tickets for star in stars]
    for number, star in ((number, star) for stars in tickets if len(stars) > 1 for number, star in enumerate(stars, 1)):
        places = [star + OFFSET * direction for direction in DIRECTIONS]
        if free := [place for place in places if _nearest(place, taken) >= CLEARANCE]:
            place = max(free, key=lambda place: _nearest(place, paths))
            taken.append(place)
            axes.annotate(
                str(number), tuple(star / points), xytext=tuple(place - star), textcoords="offset points", fontsize=7,
                ha="center", va="center", zorder=6, path_effects=HALO,
            )  # fmt: skip


def _nearest(place: Doubles, others: Sequence[Doubles] | Doubles) -> float:
    return float(np.linalg.norm(np.asarray(others) - place, axis=1).min())


def _without_tickets(path: pd.DataFrame) -> set[str]:
    """Return the phases of a trajectory that leave no ticket; none as long as no run is done and nothing is known."""
    with_tickets = set(path.loc[path["ticket"], "phase"])
    return set(path["phase"]) - with_tickets if with_tickets else set()


def _frame(axes: Axes, paths: pd.DataFrame) -> None:
    """Give a panel the limits of all, a square whose axes have the same scale and no numbers."""
    middle = [(paths[key].min() + paths[key].max()) / 2 for key in ("x", "y")]
    half = 0.56 * max(paths[key].max() - paths[key].min() for key in ("x", "y")) or 1.0
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half), xticks=[], yticks=[])
    axes.set_aspect("equal")
    axes.grid(visible=False)


def _shade(color: Color, progress: float) -> Color:
    """Return a colour from pale (progress 0) to itself (1)."""
    white = PALE * (1 - progress)
    return color[0] + (1 - color[0]) * white, color[1] + (1 - color[1]) * white, color[2] + (1 - color[2]) * white


def _every(paths: pd.DataFrame) -> str:
    """Return how far apart the epochs drawn are, as most of them are."""
    gaps = paths.groupby(["trajectory", "run"])["epoch"].diff().dropna()
    gap = int(gaps.mode().iloc[0]) if len(gaps) else 1
    return "epoch" if gap == 1 else f"every {gap} epochs"


def _legend(color: Color, paths: pd.DataFrame, panels: int) -> list[Line2D]:
    dot: dict[str, Any] = {"marker": "o", "markersize": 3}
    handles = [
        Line2D([], [], color=color, **dot, label=f"{_every(paths)}, light to dark; a colour a run"),
        Line2D([], [], color=color, **dot, markerfacecolor="white", linestyle=DASHED, label="phase without a ticket"),
        Line2D([], [], color=color, marker="*", linewidth=0, **STAR, label="ticket (number within its run)"),
        Line2D([], [], marker="o", markerfacecolor="none", linewidth=0, **LAST, label="last epoch of a run"),
    ]
    if panels > 1:
        handles.append(Line2D([], [], color="0.75", marker="o", markersize=2, linewidth=0, label="other trajectories"))
    return handles
