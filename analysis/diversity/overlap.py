"""How much of their topology tickets share: intersection over union of their masks, whole and layer by layer.

Tickets of one EDST run descend from the same subnetwork, those of DST were never one (paper, section 3); this is the
distance between them in weight space, beside that of their predictions.
"""

import pandas as pd
from matplotlib.figure import Figure

from analysis.diversity.heat_maps import heat_maps, mean_matrix
from analysis.statistics import estimate
from analysis.style import WIDTH, height_beside, looks, styled, thin, wrapped
from bench.errors import counted
from bench.metrics.weights import OVERALL

Layers = tuple[str, ...]
# Letters in a line of a legend.
LABEL = 30


@styled
def overlap_maps(cells: pd.DataFrame, overlap: pd.DataFrame) -> Figure:
    """Return the mask overlap of each pair of tickets over all layers, a panel a sparse cell, on one scale from 0.

    cells: cell, in order; overlap: cell, first, second (pairs of tickets, each once), layer, iou (NaN without masks);
    the layer OVERALL is drawn. At least one cell must have masks.
    """
    whole = overlap[(overlap["layer"] == OVERALL) & overlap["iou"].notna()]
    turned = whole.rename(columns={"first": "second", "second": "first"})
    pairs = pd.concat([whole, turned])
    matrices = {
        cell: mean_matrix(pairs[pairs["cell"] == cell], "iou") for cell in cells["cell"] if cell in set(pairs["cell"])
    }
    return heat_maps(matrices, "Ticket", "Mask overlap (intersection over union)", fmt=".2f")


@styled
def overlap_by_layer(cells: pd.DataFrame, overlap: pd.DataFrame) -> Figure:
    """Return the mask overlap in each layer, a line a sparse cell: mean over pairs of tickets, then over replicates.

    Lines pass by layers without a choice, in which all tickets have the same mask (dense ones under ERK). Networks of
    other layers have panels of their own. cells: cell, method, in order; overlap: cell, replicate, layer,
    iou (NaN without masks), layers in the order of the network. At least one cell must have masks.
    """
    layered = overlap[(overlap["layer"] != OVERALL) & overlap["iou"].notna()]
    panels: dict[Layers, list[str]] = {}
    for cell in cells["cell"]:
        if layers := tuple(dict.fromkeys(layered.loc[layered["cell"] == cell, "layer"])):
            panels.setdefault(layers, []).append(cell)
    longest = max(map(len, panels))
    beside = max(height_beside(wrapped(f"{name} (one mask)", LABEL) for name in names) for names in panels.values())
    figure = Figure(figsize=(max(WIDTH, 0.8 + 0.2 * longest), 0.3 + len(panels) * max(3.0, 0.6 + beside)))
    chosen = looks(cells)
    for axes, (layers, names) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True):
        for index, name in enumerate(names):
            means = layered[layered["cell"] == name].groupby(["replicate", "layer"], sort=False)["iou"].mean()
            measured = [estimate(means.xs(layer, level="layer")) for layer in layers]
            # Cells of one overlap would hide each other's markers.
            shift = (index - (len(names) - 1) / 2) * min(0.12, 0.6 / len(names))
            points = [(position + shift, layer.mean) for position, layer in enumerate(measured)]
            axes.errorbar(
                *zip(*points, strict=True),
                yerr=[layer.half_width for layer in measured] if max(layer.n for layer in measured) > 1 else None,
                fmt=chosen[name].marker,
                color=chosen[name].color,
                markersize=chosen[name].size(4.5),
                elinewidth=0.7,
                zorder=chosen[name].zorder,
                label=wrapped(name if any(layer.mean < 1 for layer in measured) else f"{name} (one mask)", LABEL),
            )
            if free := [point for point in points if point[1] < 1]:
                axes.plot(*zip(*free, strict=True), color=chosen[name].color, linewidth=0.7, alpha=0.7)
        axes.set(ylim=(0, 1.04), ylabel="Mask overlap\n(intersection over union)")
        if len(panels) > 1:
            axes.set_title(f"Network of {counted(len(layers), 'layer')}")
        axes.set_xticks(range(len(layers)), [layer.removesuffix(".weight") for layer in layers], rotation=90)
        axes.set_xlim(-0.7, len(layers) - 0.3)
        thin(axes)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        axes.set_xlabel("Layer, from input to output")
    return figure
