"""Where the weights are: the density of each layer of the tickets, against the global density (paper, section 3.2)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from analysis.style import GREY, WIDTH, height_beside, looks, styled, thin, wrapped
from bench.errors import counted

Layers = tuple[str, ...]
# Panels of networks of less density have a logarithmic axis.
SPARSE = 0.05
# Densities that differ by less are drawn as one, under the names of so many.
SAME = 1e-3
MOST_NAMED = 4


@styled
def density_by_layer(cells: pd.DataFrame, densities: pd.DataFrame) -> Figure:
    """Return the density of each layer, a panel a sparsity: mean over tickets, and their range where they differ.

    Networks of other layers have panels of their own. cells: cell, method, in order; densities: as in
    Training, layers in the order of the network.
    """
    panels = _panels(densities)
    networks = list(dict.fromkeys(layers for layers, _ in panels))
    longest = max(map(len, networks))
    grouped = {key: _alike(densities[densities["sparsity"] == key[1]], names, key[0]) for key, names in panels.items()}
    beside = max(height_beside([_named(names) for names, _ in groups]) for groups in grouped.values())
    each = max(1.9, 0.5 + beside)
    figure = Figure(figsize=(max(WIDTH, 0.8 + 0.2 * longest), 0.4 + 0.9 * len(networks) + each * len(panels)))
    chosen = looks(cells)
    drawn = zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True)
    for axes, (layers, sparsity) in drawn:
        axis = {"ylim": (0, 1.06), "ylabel": "Density (share of\nweights not masked)"}
        least = 0.0
        if 1 - sparsity < SPARSE:  # on a linear axis all markers would lie on its end
            seen = densities.loc[(densities["sparsity"] == sparsity) & (densities["density"] > 0), "density"]
            least = float(seen.min()) / 2 if len(seen) else (1 - sparsity) / 2
            axis = {"yscale": "log", "ylim": (least, 1.3), "ylabel": "Density (log scale,\nat the bottom: none)"}
        groups = grouped[layers, sparsity]
        for index, (together, layer) in enumerate(groups):
            tickets = densities[(densities["trajectory"] == together[0]) & (densities["sparsity"] == sparsity)]
            look = chosen[tickets["cell"].iloc[0]]
            # Layers of one density would hide each other's markers.
            shift = (index - (len(groups) - 1) / 2) * min(0.22, 0.7 / len(groups))
            axes.errorbar(
                [position + shift for position in range(len(layers))],
                layer["mean"].clip(lower=least),
                # The mean of equal values may lie outside them by rounding.
                yerr=((layer["mean"] - layer["min"]).clip(0), (layer["max"] - layer["mean"]).clip(0)),
                fmt=look.marker,
                color=look.color,
                markersize=look.size(4.5),
                elinewidth=0.8,
                zorder=look.zorder,
                clip_on=False,
                label=_named(together),
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


def _alike(densities: pd.DataFrame, names: list[str], layers: Layers) -> list[tuple[list[str], pd.DataFrame]]:
    """Return trajectories whose layers have the same densities together, with mean, min and max by layer."""
    found: list[tuple[list[str], pd.DataFrame]] = []
    for name in names:
        tickets = densities[densities["trajectory"] == name]
        layer = tickets.groupby("layer")["density"].agg(["mean", "min", "max"]).reindex(list(layers))
        for together, other in found:
            if np.allclose(layer, other, rtol=0, atol=SAME, equal_nan=True):
                together.append(name)
                break
        else:
            found.append(([name], layer))
    return found


def _named(together: list[str]) -> str:
    """Return the names of trajectories, of many the first, each on lines of its own."""
    lines = [wrapped(name, 30) for name in together[:MOST_NAMED]]
    more = len(together) - MOST_NAMED
    return "\n".join([*lines, *([f"and {counted(more, 'more')}"] if more > 0 else [])])


def _panels(densities: pd.DataFrame) -> dict[tuple[Layers, float], list[str]]:
    """Return the trajectories of each panel: networks in their order, sparsities from low to high."""
    found: dict[tuple[Layers, float], list[str]] = {}
    for _, tickets in densities.groupby(["trajectory", "sparsity"], sort=False):
        name, sparsity = str(tickets["trajectory"].iloc[0]), float(tickets["sparsity"].iloc[0])
        found.setdefault((tuple(dict.fromkeys(tickets["layer"])), sparsity), []).append(name)
    networks = list(dict.fromkeys(layers for layers, _ in found))
    return {key: found[key] for key in sorted(found, key=lambda key: (networks.index(key[0]), key[1]))}
