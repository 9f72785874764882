"""Every replicate and every member on a row of its own, for whoever wants to compute something else."""

from collections.abc import Iterator

import pandas as pd

from analysis.columns import ACCURACY, ECE, NLL
from analysis.overview import METRICS as MAIN
from analysis.reading import StoreView, tidy
from analysis.results import Results
from analysis.table import Table, listing_table
from analysis.topic import Topic
from bench import metrics

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
    keys = {"cell": "Cell", "replicate": "Replicate", "member": "Member"}
    yield listing_table("members", "Members", members, keys, (ACCURACY, NLL, ECE), results.context)


TOPIC = Topic("listings", load_members, tables=tables, title="Every replicate and member")
