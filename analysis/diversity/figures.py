"""How members differ: pair by pair, and against their accuracy (the plane of Fort et al. 2019).

Members that disagree more are often worse ones; disagreement divided by their error rate takes that out.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.accuracy.numbers import MEMBER_ACCURACY
from analysis.context import describe_replicates
from analysis.diversity.heat_maps import heat_maps, mean_matrix
from analysis.diversity.numbers import Diversity
from analysis.diversity.overlap import overlap_by_layer, overlap_maps
from analysis.results import Results
from analysis.statistics import estimate
from analysis.style import GREY, WIDTH, looks, rows_of, styled, thin, wrapped
from analysis.topic import FigureEntry
from bench.metrics.weights import OVERALL

LEGEND_COLUMNS = 3
# Key, factor, label of the axis.
DIVERSITIES = (
    ("disagreement", 100, "Disagreement (% of test images)"),
    ("normalised_disagreement", 1, "Disagreement / member error rate"),
)


def figures(diversity: Diversity, results: Results) -> Iterator[FigureEntry]:
    """Yield the figures of how members differ in what they predict and in their weights."""
    cells, replicates, overlap = results.cells, results.replicates, diversity.overlap
    n = describe_replicates(cells)
    if not diversity.pairs.empty:
        yield FigureEntry(
            "disagreement",
            "Disagreement between members",
            "Share of test images on which two members of an ensemble predict different classes, mean over replicates; "
            f"each pair once, one colour scale for all cells. {n}",
            lambda: disagreement_maps(cells, diversity.pairs),
            lambda: {"pairs": diversity.pairs},
        )
        yield FigureEntry(
            "diversity_against_accuracy",
            "Diversity against member accuracy",
            "Disagreement between members, plain and divided by their mean error rate, against their mean test "
            f"accuracy (Fort et al. 2019): markers are means over replicates, dots are replicates. {n}",
            lambda: diversity_against_accuracy(cells, replicates),
            lambda: {
                "replicates": replicates[["cell", "replicate", "member_accuracy", *(key for key, *_ in DIVERSITIES)]]
            },
        )
    if overlap["iou"].notna().any():
        yield FigureEntry(
            "mask_overlap",
            "Mask overlap between tickets",
            "Positions that are active in both tickets over those active in either (intersection over union), all "
            f"layers together, mean over replicates; each pair once, one colour scale for all cells. {n}",
            lambda: overlap_maps(cells, overlap),
            lambda: {"pairs": overlap[(overlap["layer"] == OVERALL) & overlap["iou"].notna()]},
        )
        yield FigureEntry(
            "mask_overlap_by_layer",
            "Mask overlap by layer",
            "Mask overlap (intersection over union) in each layer, mean over pairs of tickets and replicates; it is 1 "
            "where all tickets have the same mask, as in a dense layer, or in every layer where all were pruned alike. "
            f"{n}",
            lambda: overlap_by_layer(cells, overlap),
            lambda: {"layers": overlap[(overlap["layer"] != OVERALL) & overlap["iou"].notna()]},
        )


@styled
def disagreement_maps(cells: pd.DataFrame, pairs: pd.DataFrame) -> Figure:
    """Return the disagreement of each pair of members, a panel a cell with several, all on one scale from 0.

    cells: cell, in order; pairs: as in Diversity.
    """
    names = [cell for cell in cells["cell"] if cell in set(pairs["cell"])]
    matrices = {cell: mean_matrix(pairs[pairs["cell"] == cell], "disagreement") * 100 for cell in names}
    few = max(float(np.nanmax(matrix)) for matrix in matrices.values()) < 10
    return heat_maps(matrices, "Member", "Disagreement (% of test images)", fmt=".2f" if few else ".1f")


@styled
def diversity_against_accuracy(cells: pd.DataFrame, replicates: pd.DataFrame) -> Figure:
    """Return disagreement over mean member accuracy, plain and normalised by error: a marker a cell, a dot a replicate.

    Cells of a single member, which have no disagreement, are left out. cells: cell, method, in order; replicates: cell,
    member_accuracy, disagreement (shares), normalised_disagreement.
    """
    diverse = replicates[replicates["disagreement"].notna()]
    names = [cell for cell in cells["cell"] if cell in set(diverse["cell"])]
    figure = Figure(figsize=(WIDTH, 3.4 + 0.17 * rows_of(names, LEGEND_COLUMNS)))
    chosen = looks(cells)
    for axes, (key, factor, label) in zip(figure.subplots(1, 2), DIVERSITIES, strict=True):
        for name in names:
            measured = diverse[diverse["cell"] == name]
            accuracy, diversity = measured["member_accuracy"] * MEMBER_ACCURACY.factor, measured[key] * factor
            look = chosen[name]
            axes.plot(accuracy, diversity, "o", color=look.color, markersize=2.2, alpha=0.6, linewidth=0)
            center, height = estimate(accuracy), estimate(diversity)
            axes.errorbar(
                center.mean,
                height.mean,
                xerr=center.error_bar,
                yerr=height.error_bar,
                fmt=look.marker,
                color=look.color,
                markersize=6,
                markeredgecolor="white",
                markeredgewidth=0.6,
                elinewidth=0.8,
            )
        axes.margins(0.08)
        axes.set_xlabel("Mean member accuracy (%)\nhigher is better →")
        axes.set_ylabel(f"{label}\nmore diverse →")
        axes.locator_params(nbins=6)
        thin(axes)
    handles = [
        Line2D([], [], marker=chosen[name].marker, color=chosen[name].color, linewidth=0, label=wrapped(name, 30))
        for name in names
    ]
    handles += [Line2D([], [], marker="o", color=GREY, markersize=2.2, alpha=0.6, linewidth=0, label="replicate")]
    figure.legend(handles=handles, loc="outside upper center", ncols=LEGEND_COLUMNS)
    return figure
