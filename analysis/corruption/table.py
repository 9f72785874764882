"""The tables of a family of corruptions: scores over all of its sets, and accuracy on each."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from analysis.columns import ACCURACY
from analysis.corruption.numbers import (
    ADAPTIVE_ECE_MEAN,
    ADAPTIVE_ECE_POOLED,
    ECE_MEAN,
    ECE_POOLED,
    METRICS,
    Corruption,
)
from analysis.paper.beside import with_published
from analysis.results import Results
from analysis.statistics import estimate
from analysis.table import Table, cells_table, shown_estimate, stated
from bench.errors import counted
from bench.evaluation.sets import LOCAL

LOCAL_NOTE = (
    "local-c: the test images corrupted by this suite with the parameters of CIFAR-10-C; not that set, and not "
    "comparable with numbers measured on it."
)
PUBLISHED_TYPES = (
    "Published corrupted numbers are means over the types that their source counts, on all test images "
    "(uncertainty-baselines: 15 of CIFAR-10-C, 17 of CIFAR-100-C)."
)


def tables(corruption: Corruption, results: Results) -> Iterator[Table]:
    """Yield the scores of each family that has any, then the accuracies by type and severity of each."""
    for family in corruption.ece_names:
        if (corruption.by_family["family"] == family).any():
            yield scores_table(corruption, results, family)
    for family in corruption.ece_names:
        yield types_table(corruption, results, family)


def scores_table(corruption: Corruption, results: Results, family: str) -> Table:
    """Return a row a cell: its scores over all types and severities of a family, published ones beside."""
    scores = corruption.by_family[corruption.by_family["family"] == family].drop(columns="family")
    keys = [metric.key for metric in METRICS]
    replicates = results.replicates.drop(columns=keys, errors="ignore").merge(scores, on=["cell", "replicate"])
    done = replicates["cell"].value_counts()
    cells = results.cells.assign(replicates_done=results.cells["cell"].map(done).fillna(0).astype(int))
    cells = cells[cells["replicates_done"] > 0].reset_index(drop=True)
    pooled, mean = corruption.ece_names[family]
    heads = {
        ECE_POOLED: f"Corrupted ECE ({pooled})",
        ECE_MEAN: f"Corrupted ECE ({mean})",
        ADAPTIVE_ECE_POOLED: f"Corrupted ECE of equal mass ({pooled})",
        ADAPTIVE_ECE_MEAN: f"Corrupted ECE of equal mass ({mean})",
    }
    metrics = [replace(metric, head=heads.get(metric, metric.head)) for metric in METRICS]
    evaluated = replace(results, cells=cells, replicates=replicates)
    notes = _scores_notes(corruption, family)
    table = cells_table(f"corruptions_{family}", f"Corruptions: {family}", evaluated, metrics, notes)
    return table if family == LOCAL else with_published(table, results, metrics, notes=[PUBLISHED_TYPES])


def types_table(corruption: Corruption, results: Results, family: str) -> Table:
    """Return a row a type and severity, a column a cell: accuracy, mean over replicates with its interval."""
    sets = corruption.sets[corruption.sets["family"] == family]
    cells = [cell for cell in results.cells["cell"] if cell in set(sets["cell"])]
    rows, numbers = [], []
    for (kind, severity), rows_of_set in sets.groupby(["type", "severity"]):
        by_cell = dict(list(rows_of_set.groupby("cell")))
        texts = []
        for cell in cells:
            values = by_cell[cell] if cell in by_cell else rows_of_set.iloc[:0]
            measured = estimate(values["accuracy"] * ACCURACY.factor)
            texts.append(shown_estimate(measured, ACCURACY.digits))
            numbers.append(
                {
                    "type": kind,
                    "severity": severity,
                    "cell": cell,
                    ACCURACY.csv_name: measured.mean,
                    f"{ACCURACY.csv_name}_half_width": measured.half_width,
                    "replicates": measured.n,
                    **{name: values[name].mean() for name in ("nll", "ece", "brier", "disagreement")},
                }
            )
        rows.append((str(kind).replace("_", " "), str(severity), *texts))
    notes = (
        "Accuracy (%) of the ensemble; ± as in the other tables. The CSV file has NLL, ECE (15 bins), Brier score and "
        "disagreement too, a row a cell.",
        *_family_notes(sets, family),
    )
    frame = stated(pd.DataFrame(numbers), results.context)
    name, title = f"{results.context.grid}_types_{family}", f"By type and severity: {family}"
    return Table(name, title, ("Type", "Severity", *cells), tuple(rows), notes, frame)


def _family_notes(sets: pd.DataFrame, family: str) -> tuple[str, ...]:
    """Return the types, severities and images of the sets of a family in words."""
    severities = ", ".join(f"{severity}" for severity in sorted(set(sets["severity"])))
    images = ", ".join(f"{count:,}" for count in sorted(set(sets["images"])))
    what = f"{counted(sets['type'].nunique(), 'type')} of corruption at severities {severities}, {images} images a set."
    return (what, *([LOCAL_NOTE] if family == LOCAL else []))


def _scores_notes(corruption: Corruption, family: str) -> tuple[str, ...]:
    count = len(corruption.types[family])
    scores = f"Scores are means over all sets of {count} types with equal weight."
    definition = (
        "Corrupted ECE is defined in two ways, which are not comparable: pooled, images of all types and severities "
        "together in 14 bins (released code); mean, over the sets of the common types of the ECE in 15 bins "
        "(uncertainty-baselines). The first number in its name is that of the types."
    )
    reference = "mCE: errors over those of the grid's dense cell, by type, mean over types."
    return (*_family_notes(corruption.sets[corruption.sets["family"] == family], family), scores, definition, reference)
