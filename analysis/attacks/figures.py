"""Accuracy under adversarial attack (FGSM, Goodfellow et al. 2015; PGD, Madry et al. 2018): by budget, and transfer.

Attacks are bounded in the L-inf norm, their budgets in 1/255 of the range of pixels.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.attacks.numbers import ENSEMBLE, Attacks
from analysis.columns import ACCURACY
from analysis.context import describe_measured
from analysis.curves import (
    MOST_TOGETHER,
    draw_curves,
    height_of_rows,
    keep_possible,
    legend_height,
    name_curves,
    panels_of,
    together,
)
from analysis.maps import draw_map, write_numbers
from analysis.results import Results
from analysis.style import WIDTH, rows_of, styled, thin, wrapped
from analysis.topic import FigureEntry

COLUMNS = 4
# More networks than these are read by colour alone: numbers in their squares would touch.
MOST_ANNOTATED = 7
# A panel has room for as many squares beside each other.
FEWEST = 3

# What is attacked and what is asked: the rows of the attacks of each, and the replicate's accuracy without attack.
VIEWS: dict[str, tuple[Callable[[pd.DataFrame], "pd.Series[bool]"], str]] = {
    "Ensemble, attacked\nas a whole": (
        lambda rows: (rows["crafted_on"] == ENSEMBLE) & (rows["evaluated_on"] == ENSEMBLE),
        "accuracy",
    ),
    "Ensemble, attacked\nthrough one member\n(mean of all)": (
        lambda rows: (rows["crafted_on"] != ENSEMBLE) & (rows["evaluated_on"] == ENSEMBLE),
        "accuracy",
    ),
    "Member, attacked itself\n(mean of all)": (
        lambda rows: (rows["crafted_on"] != ENSEMBLE) & (rows["evaluated_on"] == rows["crafted_on"]),
        "member_accuracy",
    ),
}


def figures(attacks: Attacks, results: Results) -> Iterator[FigureEntry]:
    """Yield the figures of attacks, if there was any."""
    if attacks.accuracy.empty:
        return
    cells = results.cells
    n = describe_measured(cells, attacks.accuracy)
    kinds = list(dict.fromkeys(attacks.accuracy["attack"]))
    # Many cells take a page an attack.
    pages = [kinds] if attacks.accuracy["cell"].nunique() <= MOST_TOGETHER else [[kind] for kind in kinds]
    for page in pages:
        alone = len(pages) > 1
        yield FigureEntry(
            f"robust_accuracy_{page[0]}" if alone else "robust_accuracy",
            f"Accuracy under attack: {page[0]}" if alone else "Accuracy under attack",
            "Accuracy against the L-infinity budget in 1/255 of images in [0, 1]: the ensemble attacked as a whole, "
            "and its members each attacked by itself. Of more than six cells, each row shows a few, and in grey all "
            f"others. {n}",
            partial(robust_accuracy, cells, attacks.clean, attacks.accuracy[attacks.accuracy["attack"].isin(page)]),
            partial(_of_attacks, page, clean=attacks.clean, attacked=attacks.accuracy),
        )
    for attack, budget in attacks.accuracy.groupby("attack")["budget"].max().items():
        yield FigureEntry(
            f"transfer_{attack}",
            f"Transfer of attacks between members: {attack}",
            f"Accuracy of each member and of the ensemble on images crafted by {attack} at {budget:g}/255 on each of "
            f"them, mean over replicates; one colour scale. E is the ensemble, numbers are its members. Of more than "
            f"{MOST_ANNOTATED - 1} members that are attacked only as a whole, min, mean and max are over these. {n}",
            partial(transfer_maps, cells, attacks.accuracy, str(attack), budget),
            partial(_of_attack, attacks.accuracy, str(attack), budget),
        )


def _of_attacks(kinds: list[str], **frames: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {name: frame[frame["attack"].isin(kinds)] for name, frame in frames.items()}


def _of_attack(attacks: pd.DataFrame, attack: str, budget: float) -> dict[str, pd.DataFrame]:
    return {"attacked": attacks[(attacks["attack"] == attack) & (attacks["budget"] == budget)]}


@styled
def robust_accuracy(cells: pd.DataFrame, clean: pd.DataFrame, attacks: pd.DataFrame) -> Figure:
    """Return accuracy against budget, a row an attack, a column what is attacked: a line a cell, bands intervals.

    cells: cell, method, in order; clean: cell, replicate, attack, accuracy, member_accuracy (shares on the images that
    were attacked), drawn at budget 0; attacks: cell, replicate, attack, budget (1/255), crafted_on, evaluated_on
    ("ensemble" or "member 1" and so on), accuracy (share).
    """
    names = [cell for cell in cells["cell"] if cell in set(attacks["cell"])]
    kinds = list(dict.fromkeys(attacks["attack"]))
    views = {title: view for title, view in VIEWS.items() if view[0](attacks).any()}
    groups = together(cells, names)
    # A row of panels is an attack, or a group of cells.
    shown = [(attack, group) for attack in kinds for group in groups]
    height = 2.6 if len(groups) == 1 else height_of_rows(len(shown))
    figure = Figure(figsize=(WIDTH, 0.6 + height * len(shown) + legend_height(cells, names)))
    panels, places = panels_of(figure, len(shown), len(views), "all", aside=len(groups) > 1)
    for title, axes in zip(views, panels[0], strict=True):
        axes.set_title(title)
    for axes in panels[-1]:
        axes.set_xlabel("Budget (1/255, L-inf)")
    for (attack, group), row in zip(shown, panels, strict=True):
        for axes, (rows, column) in zip(row, views.values(), strict=True):
            made = attacks[rows(attacks) & (attacks["attack"] == attack)]
            draw_curves(axes, cells, group, _by_budget(made, clean[clean["attack"] == attack], names, column))
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            thin(axes)
        row[0].set_ylabel(f"{attack.upper()}\n{ACCURACY.head}\n{ACCURACY.arrow}")
    keep_possible(panels[0, 0], ACCURACY)
    name_curves(figure, cells, names, [group for _, group in shown], places)
    return figure


def _by_budget(attacks: pd.DataFrame, clean: pd.DataFrame, names: list[str], column: str) -> dict[str, pd.DataFrame]:
    """Return the accuracies in percent of each cell that has any, replicates x budgets, without attack at budget 0."""
    found = {}
    for cell in names:
        made = attacks[attacks["cell"] == cell]
        if not made.empty:
            found[cell] = made.pivot_table("accuracy", index="replicate", columns="budget")
            found[cell].insert(0, 0.0, clean[clean["cell"] == cell].set_index("replicate")[column])
            found[cell] *= ACCURACY.factor
    return found


def transfer_matrix(attacks: pd.DataFrame) -> pd.DataFrame:
    """Return the mean accuracy over replicates, crafted on x evaluated on, the ensemble first, members by number."""
    matrix = attacks.pivot_table("accuracy", index="crafted_on", columns="evaluated_on")
    return matrix.reindex(sorted(matrix.index, key=_order), columns=sorted(matrix.columns, key=_order))


def shown_matrix(matrix: pd.DataFrame) -> pd.DataFrame:
    """Return a matrix as it is drawn: of many members that were attacked only as a whole, what they range over.

    Such are samples of MC dropout, a row of squares too narrow for numbers. No sample is more than any other.
    """
    members = matrix.drop(columns=ENSEMBLE, errors="ignore")
    if len(matrix) > 1 or len(matrix.columns) <= MOST_ANNOTATED:
        return matrix
    return matrix.reindex(columns=[ENSEMBLE]).assign(
        **{name: members.agg(name, axis=1) for name in ("min", "mean", "max")}
    )


@styled
def transfer_maps(cells: pd.DataFrame, attacks: pd.DataFrame, attack: str, budget: float) -> Figure:
    """Return how attacks carry over between members and ensemble, a panel a cell, all on one scale from 0.

    cells: cell, in order; attacks: as in `robust_accuracy`. ValueError if there is no such attack of this budget.
    """
    chosen = attacks[(attacks["attack"] == attack) & (attacks["budget"] == budget)]
    if chosen.empty:
        raise ValueError(f"no results of attack {attack} with budget {budget:g}/255")
    names = [cell for cell in cells["cell"] if cell in set(chosen["cell"])]
    whole = {cell: transfer_matrix(chosen[chosen["cell"] == cell]) * ACCURACY.factor for cell in names}
    matrices = {cell: shown_matrix(matrix) for cell, matrix in whole.items()}
    # Where nothing withstands the attack, a scale from 0 to 0 would have no colours.
    highest = max(float(np.nanmax(matrix)) for matrix in matrices.values()) or 1.0
    columns = min(COLUMNS, len(names))
    figure = Figure(figsize=(WIDTH, 0.8 + 1.75 * rows_of(names, columns)))
    panels = figure.subplots(rows_of(names, columns), columns, squeeze=False)
    for index, (axes, cell) in enumerate(zip(panels.flat, names, strict=False)):
        matrix = matrices[cell]
        draw_map(axes, matrix, "viridis", (0, highest), square=True)
        if len(matrix.columns) <= MOST_ANNOTATED:
            write_numbers(axes, matrix, ".0f", 7 if len(matrix) <= MOST_ANNOTATED - 2 else 6.5)
        axes.set_xticks(np.arange(len(matrix.columns)) + 0.5, [_short(name) for name in matrix.columns], rotation=0)
        axes.set_yticks(np.arange(len(matrix)) + 0.5, [_short(name) for name in matrix.index], rotation=0)
        # A single network is one square among the others, not a giant one; beyond a matrix there is nothing.
        axes.set(xlim=(0, max(len(matrix.columns), FEWEST)), anchor="N")
        axes.axvspan(len(matrix.columns), FEWEST, facecolor="white", zorder=0.5)
        axes.set(xlabel="", ylabel="", title=wrapped(cell, 20))
        if index + columns >= len(names):
            axes.set_xlabel("Evaluated on")
        if index % columns == 0:
            axes.set_ylabel("Crafted on")
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    figure.colorbar(
        panels.flat[0].collections[0], ax=panels, location="top", shrink=0.6, aspect=40,
        label=f"Accuracy under {attack.upper()}, budget {budget:g}/255 (%), higher is better →",
    )  # fmt: skip
    return figure


def _order(name: str) -> int:
    return 0 if name == ENSEMBLE else int(name.rsplit(maxsplit=1)[-1])


def _short(name: str) -> str:
    return "E" if name == ENSEMBLE else name.rsplit(maxsplit=1)[-1]
