"""Where the weights are: the density of each layer of the tickets, against the global density (paper, section 3.2)."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from analysis.style import GREY, WIDTH, looks, styled, thin, wrapped
from bench.errors import counted

Layers = tuple[str, ...]
# Panels of networks of less density have a logarithmic axis.
SPARSE = 0.05


@styled
def density_by_layer(cells: pd.DataFrame, densities: pd.DataFrame) -> Figure:
    """Return the density of each layer, a panel a sparsity: mean over tickets, and their range where they differ.

    Networks of other layers have panels of their own. cells: cell, method, in order; densities: as in
    Training, layers in the order of the network.
    """
    panels = _panels(densities)
    networks = list(dict.fromkeys(layers for layers, _ in panels))
    longest = max(map(len, networks))
    figure = Figure(figsize=(max(WIDTH, 0.8 + 0.2 * longest), 0.4 + 0.9 * len(networks) + 1.9 * len(panels)))
    chosen = looks(cells)
    drawn = zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True)
    for axes, ((layers, sparsity), names) in drawn:
        axis = {"ylim": (0, 1.06), "ylabel": "Density (share of\nweights not masked)"}
        least = 0.0
        if 1 - sparsity < SPARSE:  # on a linear axis all markers would lie on its end
            seen = densities.loc[(densities["sparsity"] == sparsity) & (densities["density"] > 0), "density"]
            least = float(seen.min()) / 2 if len(seen) else (1 - sparsity) / 2
            axis = {"yscale": "log", "ylim": (least, 1.3), "ylabel": "Density (log scale,\nat the bottom: none)"}
        for index, name in enumerate(names):
            tickets = densities[(densities["trajectory"] == name) & (densities["sparsity"] == sparsity)]
            look = chosen[tickets["cell"].iloc[0]]
            layer = tickets.groupby("layer")["density"].agg(["mean", "min", "max"]).reindex(list(layers))
            # Layers of one density would hide each other's markers.
            shift = (index - (len(names) - 1) / 2) * min(0.22, 0.7 / len(names))
            axes.errorbar(
                [position + shift for position in range(len(layers))],
                layer["mean"].clip(lower=least),
                # The mean of equal values may lie outside them by rounding.
                yerr=((layer["mean"] - layer["min"]).clip(0), (layer["max"] - layer["mean"]).clip(0)),
                fmt=look.marker,
                color=look.color,
                markersize=4,
                elinewidth=0.8,
                clip_on=False,
                label=wrapped(name, 30),
            )
        axes.axhline(1 - sparsity, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), label="global density")
        title = f"Sparsity {sparsity:g}" + (
            f", network of {counted(len(layers), 'layer')}" if len(networks) > 1 else ""
        )
        axes.set(title=title, **axis)
        if least:
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        thin(axes)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        axes.set_xticks(range(len(layers)), [name.removesuffix(".weight") for name in layers], rotation=90)
        axes.set_xlim(-0.7, len(layers) - 0.3)
        if (layers, sparsity) == [panel for panel in panels if panel[0] == layers][-1]:
            axes.set_xlabel("Layer, from input to output")
        else:
            axes.set_xticklabels([])
    return figure


def _panels(densities: pd.DataFrame) -> dict[tuple[Layers, float], list[str]]:
    """Return the trajectories of each panel: networks in their order, sparsities from low to high."""
    found: dict[tuple[Layers, float], list[str]] = {}
    for _, tickets in densities.groupby(["trajectory", "sparsity"], sort=False):
        name, sparsity = str(tickets["trajectory"].iloc[0]), float(tickets["sparsity"].iloc[0])
        found.setdefault((tuple(dict.fromkeys(tickets["layer"])), sparsity), []).append(name)
    networks = list(dict.fromkeys(layers for layers, _ in found))
    return {key: found[key] for key in sorted(found, key=lambda key: (networks.index(key[0]), key[1]))}
