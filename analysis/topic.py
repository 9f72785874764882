"""What a topic is: one question, with its numbers, its tables and its figures in one folder.

A new curve or metric touches the folder of its topic; a new topic is a record in analysis/topics.py.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from analysis.columns import Metric
from analysis.reading import StoreView
from analysis.results import Results
from analysis.table import Table

Numbers = TypeVar("Numbers")


@dataclass(frozen=True)
class FigureEntry:
    """A figure and its caption: what is seen, how it was computed, over how many replicates or runs.

    numbers   the frames that are drawn, each under a name: the CSV file NAME.FRAME.csv beside the picture
    """

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]
    numbers: Callable[[], Mapping[str, pd.DataFrame]] = dict


def _nothing(_numbers: object, _results: Results) -> tuple[()]:
    return ()


@dataclass(frozen=True)
class Topic(Generic[Numbers]):
    """A question that a report answers.

    title        of its section of the report; by default its name
    load         reads the topic's numbers, a record of its own; what cannot be used is noted in the view
    metrics      what is measured once a replicate: tables, claims and other topics may use it
    scores       their values: a frame with cell, replicate and a column a metric
    tables, figures   those for which there are numbers, in the order of the report
    claims_note  what a reader of claims about these metrics has to know, in words; may be empty
    """

    name: str
    load: Callable[[StoreView], Numbers]
    metrics: tuple[Metric, ...] = ()
    scores: Callable[[Numbers], pd.DataFrame] | None = None
    tables: Callable[[Numbers, Results], Iterable[Table]] = _nothing
    figures: Callable[[Numbers, Results], Iterable[FigureEntry]] = _nothing
    claims_note: Callable[[Numbers], str] | None = None
    title: str = ""

    @property
    def heading(self) -> str:
        """What its section is called."""
        return self.title or self.name.replace("_", " ").capitalize()
