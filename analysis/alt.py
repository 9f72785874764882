"""What a picture shows, in words, to those who do not see it."""

import re
from collections.abc import Mapping

import pandas as pd

from analysis.results import Results
from analysis.table import shown
from analysis.topic import FigureEntry
from bench.errors import counted

# A caption begins with what is drawn; how it is drawn comes after a colon or in the next sentence.
FIRST = re.compile(r"(?<!al)\. |: ")


def alt_text(entry: FigureEntry, frames: Mapping[str, pd.DataFrame], results: Results) -> str:
    """Return the subject of a figure, and which cells are the highest and the lowest of what it draws.

    frames   the numbers of the figure; the first metric in the first of them that has one is told
    """
    subject = FIRST.split(entry.caption)[0].rstrip(".")
    found = next((text for frame in frames.values() if (text := _extremes(frame, results))), "")
    return f"{entry.title}. {subject}.{found}"


def _extremes(frame: pd.DataFrame, results: Results) -> str:
    keys = [str(key) for key in frame if key in results.metrics] if "cell" in frame else []
    for key in keys:
        metric = results.metrics[key]
        means = (frame.groupby("cell", sort=False)[key].mean() * metric.factor).dropna()
        if len(means) > 1:
            low, high = str(means.idxmin()), str(means.idxmax())
            ends = " to ".join(f"{shown(means[cell], metric.digits)} of {cell}" for cell in (low, high))
            return f" {metric.head} of {counted(len(means), 'cell')}, mean of what is drawn: from {ends}."
    return ""
