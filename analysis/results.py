"""What the tables and figures of every topic may use."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from analysis.columns import Metric
from analysis.context import Context
from analysis.paper.published import Beside


@dataclass(frozen=True)
class Results:
    """Cells, replicates and metrics of a grid, cells in the order of the plan.

    cells        one row a cell: what the plan knows of it, and how many of its replicates are done
    replicates   one row a finished replicate: cell, replicate, members, and the scores of all topics by key (NaN where
                 there is none)
    metrics      the metrics of all topics by key
    published    what others published, by cell and metric
    """

    context: Context
    cells: pd.DataFrame
    replicates: pd.DataFrame
    metrics: Mapping[str, Metric]
    published: Mapping[str, Beside]
