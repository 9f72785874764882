"""From a YAML file to cells: what a table has in its rows, resolved and checked before anything is trained."""

from bench.grid.cell import Cell
from bench.grid.load import Grid, grid_files, load_grid
from bench.grid.scale import Scale, scaled_cells

__all__ = ["Cell", "Grid", "Scale", "grid_files", "load_grid", "scaled_cells"]
