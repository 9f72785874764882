"""Where the weights are: the density of each layer of the tickets, against the global density (paper, section 3.2)."""

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import GREY, WIDTH, looks, styled, thin, wrapped


@styled
def density_by_layer(cells: pd.DataFrame, densities: pd.DataFrame) -> Figure:
    """Return the density of each layer, a panel a sparsity: mean over tickets, and their range where they differ.

    cells: cell, method, in order; densities: as in analysis.trajectories, layers in the order of the network.
    """
    sparsities = sorted(densities["sparsity"].unique())
    layers = list(dict.fromkeys(densities["layer"]))
    figure = Figure(figsize=(max(WIDTH, 0.8 + 0.2 * len(layers)), 1.3 + 1.9 * len(sparsities)))
    panels = figure.subplots(len(sparsities), 1, sharex=True, squeeze=False)[:, 0]
    chosen = looks(cells)
    for axes, sparsity in zip(panels, sparsities, strict=True):
        own = densities[densities["sparsity"] == sparsity]
        names = list(dict.fromkeys(own["trajectory"]))
        for index, name in enumerate(names):
            tickets = own[own["trajectory"] == name]
            look = chosen[tickets["cell"].iloc[0]]
            layer = tickets.groupby("layer")["density"].agg(["mean", "min", "max"]).reindex(layers)
            # Layers of one density would hide each other's markers.
            shift = (index - (len(names) - 1) / 2) * min(0.22, 0.7 / len(names))
            axes.errorbar(
                [position + shift for position in range(len(layers))],
                layer["mean"],
                # The mean of equal values may lie outside them by rounding.
                yerr=((layer["mean"] - layer["min"]).clip(0), (layer["max"] - layer["mean"]).clip(0)),
                fmt=look.marker,
                color=look.color,
                markersize=4,
                elinewidth=0.8,
                label=wrapped(name, 30),
            )
        axes.axhline(1 - sparsity, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), label="global density")
        axes.set(ylim=(0, 1.06), ylabel="Density (share of\nweights not masked)", title=f"Sparsity {sparsity:g}")
        thin(axes)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    panels[-1].set_xticks(range(len(layers)), [name.removesuffix(".weight") for name in layers], rotation=90)
    panels[-1].set_xlim(-0.7, len(layers) - 0.3)
    panels[-1].set_xlabel("Layer, from input to output")
    return figure
