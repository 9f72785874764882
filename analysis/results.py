"""From a plan and its store to tidy tables: one row a cell, a replicate, a member, a bin, a pair of members.

Every number comes from stored logits, whose checksums are verified, and from the plan; nothing is read from what a run
said of itself. A replicate counts when all its runs are done and intact.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.columns import MEASURED
from analysis.corruptions import bin_rows
from analysis.members import Replicate, replicates_of, tidy
from bench import metrics
from bench.data.class_names import CLASS_NAMES
from bench.errors import UserError
from bench.metrics.probabilities import Doubles, Labels
from bench.plan import CellPlan, Plan
from bench.store.folders import Array, Store

Rows = list[dict[str, Any]]

CELLS = (
    "cell method members sparsity replicates replicates_done runs dataset variant train_flops_ratio "
    "inference_flops_ratio parameters_ratio flops_assumed"
)
REPLICATES = " ".join(("cell replicate members", *MEASURED))
MEMBERS = "cell replicate member accuracy nll ece"
RELIABILITY = "cell replicate bin low high count confidence accuracy"
PAIRS = "cell replicate first second disagreement normalised_disagreement kl cosine jensen_shannon q_statistic"
SCALED_KEYS = ("temperature", "nll_scaled", "ece_scaled", "nll_scaled_members", "ece_scaled_members")
CLASSES = "cell replicate label name member accuracy"


@dataclass(frozen=True)
class Results:
    """What a grid's runs showed on the test images, as tidy DataFrames, cells in the order of the plan.

    cells        one row a cell, from the plan, and how many of its replicates are done
    replicates   one row a finished replicate: the metrics of its ensemble (accuracies as shares, KL and NLL in nats)
    members      one row a member of those
    reliability  one row a bin of confidence of those (15 equal bins; NaN means in empty ones)
    pairs        one row an ordered pair of members: disagreement, KL(p_second || p_first), and the other distances
    classes      one row a class and member, 0 being the ensemble: the share of its images predicted as it
    problems     a sentence for each run whose results can not be used, naming the file
    """

    cells: pd.DataFrame
    replicates: pd.DataFrame
    members: pd.DataFrame
    reliability: pd.DataFrame
    pairs: pd.DataFrame
    classes: pd.DataFrame
    problems: tuple[str, ...]


def load_results(plan: Plan, store: Store) -> Results:
    """Return the results of all replicates that are done; what is damaged is left out and named in `problems`."""
    rows: dict[str, Rows] = {name: [] for name in ("replicates", "members", "reliability", "pairs", "classes")}
    problems: list[str] = []
    done = dict.fromkeys((cell.name for cell in plan.cells), 0)
    datasets = {cell.name: cell.data for cell in plan.cells}
    for replicate in replicates_of(plan, store):
        try:
            logits, labels = replicate.logits("test")
        except UserError as error:
            problems.append(str(error))
            continue
        scaled = dict.fromkeys(SCALED_KEYS, float("nan"))
        if datasets[replicate.cell].validation_images:
            try:
                scaled = _after_scaling(replicate, logits, labels)
            except UserError as error:  # the other numbers need no validation images
                problems.append(str(error))
        done[replicate.cell] += 1
        key = {"cell": replicate.cell, "replicate": replicate.number}
        _add_replicate(rows, key, metrics.softmax(logits), labels, scaled)
        _name_classes(rows["classes"], datasets[replicate.cell].name)
    return Results(
        cells=tidy([_cell_row(cell, done[cell.name]) for cell in plan.cells], CELLS),
        replicates=tidy(rows["replicates"], REPLICATES),
        members=tidy(rows["members"], MEMBERS),
        reliability=tidy(rows["reliability"], RELIABILITY),
        pairs=tidy(rows["pairs"], PAIRS),
        classes=tidy(rows["classes"], CLASSES),
        problems=tuple(dict.fromkeys(problems)),
    )


def _after_scaling(replicate: Replicate, logits: Array, labels: Labels) -> dict[str, float]:
    """Return the calibration of the ensemble after temperature scaling, of its mean or of each member before that.

    Temperatures are fitted on validation logits; UserError if one of those files is not as it was written.
    """
    held_out, truth = replicate.logits("validation")
    temperature = metrics.fit_ensemble_temperature(metrics.ensemble_mean(metrics.softmax(held_out)), truth)
    whole = metrics.scale_probabilities(metrics.ensemble_mean(metrics.softmax(logits)), temperature)
    single = [
        metrics.scale_logits(own, metrics.fit_temperature(fitted, truth))
        for own, fitted in zip(logits, held_out, strict=True)
    ]
    members = metrics.ensemble_mean(np.stack(single))
    values = [
        score(probabilities, labels)
        for probabilities in (whole, members)
        for score in (metrics.negative_log_likelihood, metrics.expected_calibration_error)
    ]
    return dict(zip(SCALED_KEYS, (temperature, *values), strict=True))


def _add_replicate(
    rows: dict[str, Rows], key: dict[str, Any], members: Doubles, labels: Labels, scaled: dict[str, float]
) -> None:
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
    pairs = metrics.pair_matrices(members, labels)
    rows["replicates"].append(
        {
            **key,
            "members": len(members),
            "accuracy": metrics.accuracy(ensemble, labels),
            "nll": metrics.negative_log_likelihood(ensemble, labels),
            "ece": curve.calibration_error,
            "member_accuracy": float(np.mean([row["accuracy"] for row in own])),
            "member_nll": float(np.mean([row["nll"] for row in own])),
            "brier": metrics.brier(ensemble, labels),
            "ece_released": metrics.expected_calibration_error_released(ensemble, labels),
            "adaptive_ece": metrics.adaptive_expected_calibration_error(ensemble, labels),
            "aurc": metrics.area_under_risk_coverage(ensemble, labels),
            "ambiguity": metrics.ambiguity(members, labels),
            **{name: metrics.mean_of_pairs(matrix) for name, matrix in pairs.items()},
            **scaled,
        }
    )
    rows["reliability"] += [{**key, **row} for row in bin_rows(curve)]
    rows["pairs"] += [
        {**key, "first": i + 1, "second": j + 1, **{name: matrix[i, j] for name, matrix in pairs.items()}}
        for i, j in np.ndindex(len(members), len(members))
        if i != j
    ]
    rows["classes"] += [
        {**key, "label": label, "member": number, "accuracy": share}
        for number, predicted in enumerate((ensemble, *members))
        for label, share in enumerate(metrics.class_accuracy(predicted, labels))
    ]


def _name_classes(rows: Rows, dataset: str) -> None:
    """Give the rows that have no name of a class yet one, which for unnamed classes is their number."""
    names = CLASS_NAMES.get(dataset, ())
    for row in reversed(rows):
        if "name" in row:
            return
        row["name"] = names[row["label"]] if row["label"] < len(names) else str(row["label"])


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
