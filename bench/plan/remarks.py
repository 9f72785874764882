"""Sentences about the cells of a plan: what is assumed of them, what is not counted, what looks like a mistake."""

from collections.abc import Iterable
from math import prod

from bench.data.catalog import facts_of
from bench.models.layers import layers_of
from bench.plan.records import CellPlan, Plan

# Of cells in a sentence.
MOST_NAMES = 8
# How far the FLOPs and the hours of a cell, both in dense runs, may lie apart unsaid.
FAR_APART = 1.5


def assumed_references(cells: Iterable[CellPlan]) -> list[str]:
    """Return a sentence on the cells that are priced in dense runs which the grid does not have; none without any."""
    alone = [cell for cell in cells if cell.assumed_epochs is not None]
    if not alone:
        return []
    more = f" and {len(alone) - MOST_NAMES:,} more" if len(alone) > MOST_NAMES else ""
    return [
        f"training of {', '.join(cell.name for cell in alone[:MOST_NAMES])}{more}: in dense runs of "
        f"{alone[0].assumed_epochs:g} epochs, as the grid has no dense cell of that data and network"
    ]


def uncounted_flops(cells: Iterable[CellPlan]) -> list[str]:
    """Return a sentence for each network of which something is not in the FLOPs."""
    networks = {cell.model.name: cell.flops_uncounted for cell in cells if cell.flops_uncounted}
    return [f"the FLOPs of {name} do not count {', '.join(uncounted)}" for name, uncounted in networks.items()]


def shrunken_maps(cells: Iterable[CellPlan]) -> list[str]:
    """Return a sentence for each network with feature maps of one pixel, of which kernels see little but padding."""
    lost: dict[str, tuple[str, int]] = {}
    for cell in cells:
        layers = [layer for layer in layers_of(cell.model, cell.data) if prod(layer.shape[2:]) > 1]
        blind = [layer.name for layer in layers if layer.positions == 1]
        if len(blind) > 1:  # one may read a whole map, in place of a linear layer
            lost.setdefault(cell.model.name, (blind[0], facts_of(cell.data).image_size))
    return [
        f"{name} on images of {size} pixels: from {layer} on feature maps are a single pixel, and most weights of its "
        "kernels see nothing but padding; it is made for larger images, or needs a stem with less stride"
        for name, (layer, size) in lost.items()
    ]


def slower_than_counted(plan: Plan) -> list[str]:
    """Return a sentence on the cells whose measured hours and whose FLOPs, both in dense runs, lie far apart."""
    runs = {run.id: run for run in plan.runs}
    references, cells = plan.references(), {cell.name: cell for cell in plan.cells}
    found = []
    for cell in plan.cells:
        dense = cells.get(references.get(cell.name, ""))
        if dense is None:
            continue
        its, that = ([runs[run] for run in of.all_runs(0)] for of in (cell, dense))
        if not all(run.hours_basis.measured for run in (*its, *that)):
            continue
        hours = sum(run.hours for run in its) / sum(run.hours for run in that)
        if not 1 / FAR_APART <= hours / cell.train_flops_ratio <= FAR_APART:
            found.append(f"{cell.name} ({cell.train_flops_ratio:.2f} of FLOPs, {hours:.2f} of time)")
    if not found:
        return []
    more = f" and {len(found) - MOST_NAMES:,} more" if len(found) > MOST_NAMES else ""
    return [f"masks save FLOPs, and not time; training, in dense runs: {', '.join(found[:MOST_NAMES])}{more}"]
