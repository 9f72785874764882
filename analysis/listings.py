"""Every replicate and every member on a row of its own, for whoever wants to compute something else."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from analysis.columns import ACCURACY, ECE, NLL
from analysis.overview import METRICS as MAIN
from analysis.pivot import pivoted
from analysis.reading import StoreView, tidy
from analysis.results import Results
from analysis.table import Table, grouped_table, listing_table
from analysis.topic import Topic
from bench import metrics

OVER = {"min": "least", "mean": "mean", "max": "most"}
OF_MEMBERS = "Over the members of a replicate, then the mean over replicates. The CSV file has every member on a row."
MEMBERS = "cell replicate member accuracy nll ece"


def load_members(view: StoreView) -> pd.DataFrame:
    """Return one row a member of a finished replicate, from 1, with its scores on the test images."""
    rows = []
    for replicate in view.replicates():
        with view.noting():
            members, labels = replicate.members("test")
            rows += [
                {
                    **replicate.key,
                    "member": number,
                    "accuracy": metrics.accuracy(member, labels),
                    "nll": metrics.negative_log_likelihood(member, labels),
                    "ece": metrics.expected_calibration_error(member, labels),
                }
                for number, member in enumerate(members, start=1)
            ]
    return tidy(rows, MEMBERS)


def tables(members: pd.DataFrame, results: Results) -> Iterator[Table]:
    """Yield every replicate with its scores on the test images, those of the main table first, and every member."""
    columns = dict.fromkeys((*MAIN, *results.metrics.values()))
    there = results.replicates.columns[results.replicates.notna().any()]
    scores = [metric for metric in columns if metric.measured_on == "test" and metric.key in there]
    keys = {"cell": "Cell", "replicate": "Replicate", "members": "Members"}
    yield listing_table("replicates", "Replicates", results.replicates, keys, scores, results.context)
    yield members_table(members, results)


def members_table(members: pd.DataFrame, results: Results) -> Table:
    """Return a row a cell: of each score the least, the mean and the most over its members; as CSV every member."""
    keys = ["cell", "replicate"]
    scores = {metric.key: metric for metric in (ACCURACY, NLL, ECE)}
    over = members.groupby(keys, sort=False)[list(scores)].agg(list(OVER))
    over.columns = pd.Index([f"{key}_{word}" for key in scores for word in OVER])
    columns = [
        replace(metric, key=f"{metric.key}_{word}", head=f"{metric.head}, {OVER[word]}")
        for metric in scores.values()
        for word in OVER
    ]
    table = grouped_table("members", "Members", over.reset_index(), {"cell": "Cell"}, columns, [OF_MEMBERS], results)
    shown = {f"{metric.head}, {word}": (metric.head, word) for metric in scores.values() for word in OVER.values()}
    table = pivoted(table, 0, lambda _, head: shown[head], list(results.cells["cell"]))
    listed = {"cell": "Cell", "replicate": "Replicate", "member": "Member"}
    every = listing_table("members", "Members", members, listed, list(scores.values()), results.context)
    return replace(table, numbers=every.numbers)


TOPIC = Topic("listings", load_members, tables=tables, title="Every replicate and member")
