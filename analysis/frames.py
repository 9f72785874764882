"""The numbers of a report as DataFrames, for notebooks and scripts: `from analysis import load_results`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.context import PAPER_SCALE
from analysis.loading import load
from analysis.report import all_tables
from bench.grid.suite import find_grid


@dataclass(frozen=True)
class ResultFrames:
    """What a store holds of a grid.

    cells        a row a cell: what the plan knows of it, and how many of its replicates are finished
    replicates   a row a finished replicate: cell, replicate, members, and every score by its key (NaN where there is
                 none). Accuracies and errors are shares of 1, NLL and KL in nats
    tables       the tables of the report, each by the name of its CSV file: means over replicates, in the units of its
                 columns' names, with half the 95% interval as `..._half_width`
    problems     a sentence for each file that could not be used
    """

    cells: pd.DataFrame
    replicates: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    problems: tuple[str, ...]


def load_results(
    store: Path | str, grid: Path | str, scale: str = PAPER_SCALE, *, topics: Sequence[str] = ()
) -> ResultFrames:
    """Return the numbers of all finished replicates of a grid; UserError if no run of it is done at this scale.

    grid     its path, or its name in paper_configs
    topics   of the user's own, each as `package.module:NAME`
    """
    loaded = load(find_grid(Path(grid)), Path(store), scale, topics)
    tables = {table.name: table.numbers for table in all_tables(loaded)}
    return ResultFrames(loaded.results.cells, loaded.results.replicates, tables, loaded.problems)
