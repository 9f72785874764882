"""From a plan and its store to tidy tables: one row a cell, a replicate, a member, a bin, a pair of members.

Every number comes from stored logits, whose checksums are verified, and from the plan; nothing is read from what a run
said of itself. A replicate counts when all its runs are done and intact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.columns import MEASURED
from bench import metrics
from bench.errors import UserError
from bench.metrics.probabilities import Doubles, Labels
from bench.plan import CellPlan, Plan
from bench.store import Store

EVALUATION_SET = "test"
Rows = list[dict[str, Any]]

CELLS = (
    "cell method members sparsity replicates replicates_done runs dataset variant train_flops_ratio "
    "inference_flops_ratio parameters_ratio flops_assumed"
)
REPLICATES = " ".join(("cell replicate members", *MEASURED))
MEMBERS = "cell replicate member accuracy nll ece"
RELIABILITY = "cell replicate bin low high count confidence accuracy"
PAIRS = "cell replicate first second disagreement kl"


@dataclass(frozen=True)
class Results:
    """What a grid's runs showed on the test images, as tidy DataFrames, cells in the order of the plan.

    cells        one row a cell, from the plan, and how many of its replicates are done
    replicates   one row a finished replicate: the metrics of its ensemble (accuracies as shares, KL and NLL in nats)
    members      one row a member of those
    reliability  one row a bin of confidence of those (15 equal bins; NaN means in empty ones)
    pairs        one row an ordered pair of members: disagreement, and KL(p_second || p_first)
    problems     a sentence for each run whose results can not be used, naming the file
    """

    cells: pd.DataFrame
    replicates: pd.DataFrame
    members: pd.DataFrame
    reliability: pd.DataFrame
    pairs: pd.DataFrame
    problems: tuple[str, ...]


def load_results(plan: Plan, store: Store) -> Results:
    """Return the results of all replicates that are done; what is damaged is left out and named in `problems`."""
    statuses = {run.id: run.status for run in plan.runs}
    rows: dict[str, Rows] = {name: [] for name in ("cells", "replicates", "members", "reliability", "pairs")}
    problems: list[str] = []
    for cell in plan.cells:
        done = 0
        for number, runs in enumerate(cell.runs, start=1):
            if any(statuses[run] not in ("done", "damaged") for run in runs):
                continue
            try:
                members, labels = read_members(store, runs)
                members = members[: cell.members]  # of a network that draws samples, a cell may count the first ones
            except UserError as error:
                problems.append(str(error))
                continue
            done += 1
            _add_replicate(rows, {"cell": cell.name, "replicate": number}, members, labels)
        rows["cells"].append(_cell_row(cell, done))
    return Results(
        cells=_frame(rows["cells"], CELLS),
        replicates=_frame(rows["replicates"], REPLICATES),
        members=_frame(rows["members"], MEMBERS),
        reliability=_frame(rows["reliability"], RELIABILITY),
        pairs=_frame(rows["pairs"], PAIRS),
        problems=tuple(dict.fromkeys(problems)),
    )


def read_members(store: Store, runs: Sequence[str]) -> tuple[Doubles, Labels]:
    """Return softmax probabilities [members, images, classes] of all tickets of `runs`, and labels [images].

    UserError that names the file if one is damaged, if runs were evaluated on different images, or if no run left a
    ticket.
    """
    parts = [store.run(run).logits(EVALUATION_SET) for run in runs]
    labels = parts[0][1]
    for run, (_, other) in zip(runs[1:], parts[1:], strict=True):
        if not np.array_equal(other, labels):
            raise UserError(f"{store.run(run).path}: evaluated on other images than run {runs[0]} of the same ensemble")
    logits = np.concatenate([part for part, _ in parts])
    if not len(logits):
        raise UserError(f"{store.run(runs[0]).path}: left no ticket, so there is nothing to evaluate")
    return metrics.softmax(logits), labels


def _add_replicate(rows: dict[str, Rows], key: dict[str, Any], members: Doubles, labels: Labels) -> None:
    ensemble = metrics.ensemble_mean(members)
    own: Rows = [
        {
            **key,
            "member": number,
            "accuracy": metrics.accuracy(member, labels),
            "nll": metrics.negative_log_likelihood(member, labels),
            "ece": metrics.expected_calibration_error(member, labels),
        }
        for number, member in enumerate(members, start=1)
    ]
    rows["members"] += own
    curve = metrics.reliability(ensemble, labels)
    rows["replicates"].append(
        {
            **key,
            "members": len(members),
            "accuracy": metrics.accuracy(ensemble, labels),
            "nll": metrics.negative_log_likelihood(ensemble, labels),
            "ece": curve.calibration_error,
            "member_accuracy": float(np.mean([row["accuracy"] for row in own])),
            "disagreement": metrics.disagreement(members),
            "kl": metrics.kl_divergence(members),
            "member_nll": float(np.mean([row["nll"] for row in own])),
            "brier": metrics.brier(ensemble, labels),
            "ece_released": metrics.expected_calibration_error_released(ensemble, labels),
            "adaptive_ece": metrics.adaptive_expected_calibration_error(ensemble, labels),
        }
    )
    rows["reliability"] += [
        {**key, "bin": index, "low": low, "high": high, "count": count, "confidence": confidence, "accuracy": accuracy}
        for index, (low, high, count, confidence, accuracy) in enumerate(
            zip(curve.edges[:-1], curve.edges[1:], curve.counts, curve.confidence, curve.accuracy, strict=True)
        )
    ]
    disagreement, kl = metrics.disagreement_matrix(members), metrics.kl_matrix(members)
    rows["pairs"] += [
        {**key, "first": i + 1, "second": j + 1, "disagreement": disagreement[i, j], "kl": kl[i, j]}
        for i, j in np.ndindex(*disagreement.shape)
        if i != j
    ]


def _cell_row(cell: CellPlan, done: int) -> dict[str, Any]:
    return {
        "cell": cell.name,
        "method": cell.method,
        "members": cell.members,
        "sparsity": cell.sparsity,
        "replicates": cell.replicates,
        "replicates_done": done,
        "runs": len({run for replicate in range(cell.replicates) for run in cell.all_runs(replicate)}),
        "dataset": cell.data.name,
        "variant": cell.data.variant,
        "train_flops_ratio": cell.train_flops_ratio,
        "inference_flops_ratio": cell.inference_flops_ratio,
        "parameters_ratio": cell.parameters_ratio,
        "flops_assumed": cell.flops_assumed,
    }


def _frame(rows: Rows, columns: str) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split())
