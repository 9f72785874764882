"""How members differ: pair by pair, and against their accuracy (the plane of Fort et al. 2019).

Members that disagree more are often worse ones; disagreement divided by their error rate takes that out.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.accuracy.numbers import MEMBER_ACCURACY
from analysis.context import describe_replicates
from analysis.diversity.heat_maps import heat_maps, mean_matrix
from analysis.diversity.numbers import DISAGREEMENT, Diversity
from analysis.diversity.overlap import overlap_by_layer, overlap_maps
from analysis.limits import possible, scale_of
from analysis.results import Results
from analysis.scatter import Point, draw_points
from analysis.statistics import estimate
from analysis.style import GREY, WIDTH, looks, styled, thin
from analysis.topic import FigureEntry
from bench.metrics.weights import OVERALL

# More cells than these have no room for their names in two panels beside each other.
MOST_BESIDE = 4
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
            "accuracy (Fort et al. 2019): markers are means over replicates, dots are replicates. Marks that would "
            f"hide another are moved aside; a cell far from all others lies at the edge, with its value. {n}",
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
    chosen = looks(cells)
    # Names beside marks need width: many stand in two panels below each other.
    below = len(names) > MOST_BESIDE
    figure = Figure(figsize=(WIDTH, 8.6 if below else 3.6))
    panels = figure.subplots(2 if below else 1, 1 if below else 2, squeeze=False).flat
    drawn = []
    for axes, (key, factor, label) in zip(panels, DIVERSITIES, strict=True):
        points, dots = [], []
        for name in names:
            measured = diverse[diverse["cell"] == name]
            x, y = measured["member_accuracy"] * MEMBER_ACCURACY.factor, measured[key] * factor
            points.append(Point(name, estimate(x), estimate(y), chosen[name]))
            dots.append((chosen[name], x, y))
        accuracies = [point.x for point in points]
        ends = [end for x in accuracies for end in (x.low, x.high)]
        axes.set_xlim(
            scale_of([*(x.mean for x in accuracies), *(v for _, x, _ in dots for v in x)], ends, MEMBER_ACCURACY)
        )
        ends = [end for point in points for end in (point.y.low, point.y.high)]
        metric = replace(DISAGREEMENT, factor=factor)
        axes.set_ylim(scale_of([*(point.y.mean for point in points), *(v for *_, y in dots for v in y)], ends, metric))
        for look, x, y in dots:
            if len(x) > 1:
                axes.plot(x, y, "o", color=look.color, markersize=2.2, linewidth=0, gid="replicates")
        axes.set_xlabel("Mean member accuracy (%)\nhigher is better →")
        axes.set_ylabel(f"{label}\nmore diverse →")
        axes.locator_params(nbins=6)
        thin(axes)
        drawn.append((axes, points, possible(metric)))
    handles = [
        Line2D([], [], marker="o", color=GREY, linewidth=1, label="mean and 95% interval"),
        Line2D([], [], marker="o", color=GREY, markersize=2.2, linewidth=0, label="replicate"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    for axes, points, heights in drawn:
        draw_points(axes, points, possible(MEMBER_ACCURACY), heights)
    return figure
