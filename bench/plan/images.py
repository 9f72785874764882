"""Which images a plan is made for: those that its store was made from, or those at --data."""

from pathlib import Path

from bench.data.sources import takes_location, variant_of
from bench.errors import UserError
from bench.grid import Grid
from bench.plan.make import find_scale
from bench.store.store import Store


def variants_of(grid: Grid, scale: str, store: Store, data: Path | None) -> dict[str, str] | None:
    """Return which images each data set of a grid has, at a scale, at `data`; UserError if the store has others."""
    if data is None:
        return None
    records = store.data_records()
    variants = {}
    other = find_scale(grid, scale).data
    names = dict.fromkeys(other or cell.spec.data.name for cell in grid.cells)
    # beside another data set, one that takes no --data is not meant; alone it is refused
    for name in [name for name in names if takes_location(name)] or names:
        variant = variant_of(name, data)
        known = records.get(name)
        if known is not None and known.variant != variant:
            raise UserError(
                f"--data {data}: {variant} images, but the {name} runs in {store.root} were made from {known.variant} "
                "ones; give another --store, or leave --data out"
            )
        variants[name] = variant
    return variants
