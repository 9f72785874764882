"""The tables of robustness: corrupted images, images out of distribution, attacks, distances in weight space."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from analysis.attacks import WHOLE
from analysis.columns import (
    ACCURACY,
    CORRUPTED,
    CORRUPTED_ADAPTIVE_ECE_MEAN,
    CORRUPTED_ADAPTIVE_ECE_POOLED,
    CORRUPTED_ECE_MEAN,
    CORRUPTED_ECE_POOLED,
    Metric,
)
from analysis.context import Context
from analysis.sources import Sources
from analysis.statistics import estimate
from analysis.tables import PUBLISHED_NOTE, REFERENCE_ONLY, Table, cells_table, shown, shown_estimate, stated
from bench.evaluation.sets import LOCAL
from bench.metrics.weights import OVERALL

LOCAL_NOTE = (
    "local-c: the test images corrupted by this suite with the parameters of CIFAR-10-C; not that set, and not "
    "comparable with numbers measured on it."
)
PUBLISHED_TYPES = (
    "Published corrupted numbers are means over the types that their source counts, on all test images "
    "(uncertainty-baselines: 15 of CIFAR-10-C, 17 of CIFAR-100-C)."
)
DETECTION = (
    Metric("auroc", "AUROC (%)", 2, "higher", 100),
    Metric("aupr", "AUPR (%)", 2, "higher", 100),
    Metric("fpr95", "FPR at 95% TPR (%)", 2, "lower", 100),
)
SCORE_NAMES = {
    "max_probability": "1 - max probability",
    "entropy": "entropy of the mean",
    "mutual_information": "mutual information",
}
OVERLAP = (
    Metric("iou", "Mask overlap (IoU)", 4, None),
    Metric("topological_distance", "Topological distance", 4, None),
    Metric("weight_cosine", "Cosine of weights", 4, None),
)


def robustness_tables(sources: Sources) -> list[Table]:
    """Return the tables for which there are results, families of corruptions first."""
    families = list(sources.corruptions.ece_names)
    tables = [corruptions_table(sources, family) for family in families if _scored(sources, family)]
    tables += [types_table(sources, family) for family in families]
    if not sources.outside.detection.empty:
        tables.append(outside_table(sources))
    if not sources.attacks.accuracy.empty:
        tables.append(attacks_table(sources))
    if not sources.weights.overlap.empty:
        tables.append(weights_table(sources))
    return tables


def corruptions_table(sources: Sources, family: str) -> Table:
    """Return a row a cell: its scores over all types and severities of a family, published ones beside."""
    scores = sources.corruptions.scores
    own = scores[scores["family"] == family].drop(columns="family")
    keys = [metric.key for metric in CORRUPTED]
    replicates = sources.results.replicates.drop(columns=keys, errors="ignore").merge(own, on=["cell", "replicate"])
    done = replicates["cell"].value_counts()
    cells = sources.results.cells.assign(replicates_done=sources.results.cells["cell"].map(done).fillna(0).astype(int))
    cells = cells[cells["replicates_done"] > 0]
    pooled, mean = sources.corruptions.ece_names[family]
    heads = {
        CORRUPTED_ECE_POOLED.key: f"Corrupted ECE ({pooled})",
        CORRUPTED_ECE_MEAN.key: f"Corrupted ECE ({mean})",
        CORRUPTED_ADAPTIVE_ECE_POOLED.key: f"Corrupted ECE of equal mass ({pooled})",
        CORRUPTED_ADAPTIVE_ECE_MEAN.key: f"Corrupted ECE of equal mass ({mean})",
    }
    metrics = [replace(metric, head=heads.get(metric.key, metric.head)) for metric in CORRUPTED]
    title = f"Corruptions: {family}"
    results = replace(sources.results, cells=cells.reset_index(drop=True), replicates=replicates)
    table = cells_table(
        f"corruptions_{family}", title, results, metrics, _corruption_notes(sources, family), sources.context
    )
    return _with_published(table, sources) if family != LOCAL else table


def types_table(sources: Sources, family: str) -> Table:
    """Return a row a type and severity, a column a cell: accuracy, mean over replicates with its interval."""
    context, cells = sources.context, list(sources.results.cells["cell"])
    sets = sources.corruptions.sets
    own = sets[sets["family"] == family]
    cells = [cell for cell in cells if cell in set(own["cell"])]
    rows, numbers = [], []
    for (kind, severity), rows_of_set in own.groupby(["type", "severity"]):
        by_cell = dict(list(rows_of_set.groupby("cell")))
        texts = []
        for cell in cells:
            values = by_cell[cell] if cell in by_cell else rows_of_set.iloc[:0]
            one = estimate(values["accuracy"] * ACCURACY.factor)
            texts.append(shown_estimate(one, ACCURACY.digits))
            numbers.append(
                {
                    "type": kind,
                    "severity": severity,
                    "cell": cell,
                    ACCURACY.csv_name: one.mean,
                    f"{ACCURACY.csv_name}_half_width": one.half_width,
                    "replicates": one.n,
                    **{name: values[name].mean() for name in ("nll", "ece", "brier", "disagreement")},
                }
            )
        rows.append((str(kind).replace("_", " "), str(severity), *texts))
    notes = (
        "Accuracy (%) of the ensemble; ± as in the other tables. The CSV file has NLL, ECE (15 bins), Brier score and "
        "disagreement too, a row a cell.",
        *_family_notes(sources, family),
    )
    frame = stated(pd.DataFrame(numbers), context)
    title = f"By type and severity: {family}"
    return Table(f"{context.grid}_types_{family}", title, ("Type", "Severity", *cells), tuple(rows), notes, frame)


def outside_table(sources: Sources) -> Table:
    """Return a row a cell, set out of distribution and score: how well the score tells it from the test images."""
    notes = (
        "Out of distribution is the positive class of AUROC and AUPR. FPR: the share of such images that are taken for "
        "test images when 95% of those are taken for what they are. Scores are of the ensemble's mean probability; "
        "mutual information is the entropy of the mean less the members' mean entropy, which no single network has. "
        "AUPR depends on how many images a set has: compare it within a set.",
    )
    frame = sources.outside.detection.assign(score=sources.outside.detection["score"].map(SCORE_NAMES))
    keys = {"cell": "Cell", "outside": "Set", "score": "Score"}
    return _grouped("ood", "Out of distribution", frame, keys, DETECTION, notes, sources.context)


def attacks_table(sources: Sources) -> Table:
    """Return a row a cell, attack and budget: accuracy of the whole and of single members, attacked or not."""
    frame = sources.attacks.accuracy
    whole = frame["crafted_on"] == WHOLE
    on_whole = frame["evaluated_on"] == WHOLE
    keys = ["cell", "replicate", "attack", "budget"]
    parts = {
        "ensemble": frame[whole & on_whole],
        "members": frame[(frame["crafted_on"] == frame["evaluated_on"]) & ~whole],
        "transferred": frame[~whole & on_whole],
    }
    clean = sources.attacks.clean.assign(budget=0.0)
    order = pd.concat([clean[keys], frame[keys]]).drop_duplicates()
    for name, part in parts.items():
        mean = part.groupby(keys)["accuracy"].mean().rename(name).reset_index()
        order = order.merge(mean, on=keys, how="left")
    order = order.merge(clean[[*keys, "accuracy", "member_accuracy"]], on=keys, how="left")
    order["ensemble"] = order["ensemble"].fillna(order["accuracy"])
    order["members"] = order["members"].fillna(order["member_accuracy"].where(order["budget"] == 0))
    order = order.sort_values(["attack", "budget"], kind="stable")
    images = sorted(set(frame["images"]))
    notes = (
        "Budgets are in 1/255 of images in [0, 1], L-infinity, not rounded to 8 bits; 0 is no attack. Ensemble: "
        "crafted on the ensemble and met by it. Members: each on images crafted on itself, mean over members. "
        "Transferred: the "
        "ensemble on images crafted on one of its members, mean over members. PGD keeps of each image the most harmful "
        f"point it passed, FGSM's included. On {' or '.join(f'{count:,}' for count in images)} test images.",
    )
    metrics = (
        Metric("ensemble", "Ensemble (%)", 2, "higher", 100),
        Metric("members", "Members (%)", 2, "higher", 100),
        Metric("transferred", "Transferred (%)", 2, "higher", 100),
    )
    heads = {"cell": "Cell", "attack": "Attack", "budget": "Budget"}
    return _grouped("attacks", "Accuracy under attack", order, heads, metrics, notes, sources.context)


def weights_table(sources: Sources) -> Table:
    """Return a row a cell: how far apart its tickets lie, over all layers together, mean over pairs."""
    frame = sources.weights.overlap
    frame = frame[frame["layer"] == OVERALL]
    values = [metric.key for metric in OVERLAP]
    means = frame.groupby(["cell", "replicate"], as_index=False, sort=False)[values].mean()
    notes = (
        "Mean over pairs of tickets. Overlap: positions that are active in both over those active in either. "
        "Topological distance: share of connections of a neuron that only one of the two has, mean over neurons and "
        "layers, neurons not re-aligned. Dense tickets have no masks; the cosine is that of all weights of "
        "convolutions and linear layers.",
    )
    title = "Distances between tickets in weight space"
    return _grouped("weights", title, means, {"cell": "Cell"}, OVERLAP, notes, sources.context)


def _grouped(
    name: str,
    title: str,
    frame: pd.DataFrame,
    keys: dict[str, str],
    metrics: Sequence[Metric],
    notes: Sequence[str],
    context: Context,
) -> Table:
    """Return a row for each value of the keys (column -> head), in their order: estimates over replicates."""
    rows, numbers = [], []
    for values, own in frame.groupby(list(keys), sort=False):
        head = dict(zip(keys, values, strict=True))
        found = {metric: estimate(own[metric.key] * metric.factor) for metric in metrics}
        texts = [shown_estimate(one, metric.digits) for metric, one in found.items()]
        rows.append((*(f"{v:g}" if isinstance(v, float) else str(v) for v in values), *texts))
        numbers.append({**head, "replicates": own["replicate"].nunique()})
        for metric, one in found.items():
            numbers[-1] |= {metric.csv_name: one.mean, f"{metric.csv_name}_half_width": one.half_width}
    head_row = (*keys.values(), *(metric.head for metric in metrics))
    frame = stated(pd.DataFrame(numbers), context)
    return Table(f"{context.grid}_{name}", title, head_row, tuple(rows), tuple(notes), frame)


def _family_notes(sources: Sources, family: str) -> tuple[str, ...]:
    sets = sources.corruptions.sets
    own = sets[sets["family"] == family]
    severities, images = (
        values.format(", ".join(f"{one:,}" for one in sorted(set(own[column]))))
        for column, values in (("severity", "severities {}"), ("images", "{} images a set"))
    )
    what = f"{own['type'].nunique()} types of corruption at {severities}, {images}."
    return (what, *([LOCAL_NOTE] if family == LOCAL else []))


def _corruption_notes(sources: Sources, family: str) -> tuple[str, ...]:
    count = len(sources.corruptions.types[family])
    scores = f"Scores are means over all sets of {count} types with equal weight."
    definition = (
        "Corrupted ECE is defined in two ways, which are not comparable: pooled, images of all types and severities "
        "together in 14 bins (released code); mean, over the sets of the common types of the ECE in 15 bins "
        "(uncertainty-baselines). The first number in its name is that of the types."
    )
    reference = "mCE: errors over those of the grid's dense cell, by type, mean over types."
    return (*_family_notes(sources, family), scores, definition, reference)


def _scored(sources: Sources, family: str) -> bool:
    return bool((sources.corruptions.scores["family"] == family).any())


def _with_published(table: Table, sources: Sources) -> Table:
    """Return a table with published corrupted scores beside the cells that have them."""
    beside = {cell: one for cell, one in sources.published.items() if not math.isnan(one.corrupted_accuracy)}
    if not beside:
        return table
    names = (
        "Published corrupted accuracy (%)",
        "Published corrupted NLL",
        "Published corrupted ECE (mean over sets, 15 bins)",
        "Published source",
    )
    rows = []
    for row in table.rows:
        texts: tuple[str, ...] = ("",) * len(names)
        if (one := beside.get(row[0])) is not None:
            values = (shown(one.corrupted_accuracy, 2), shown(one.corrupted_nll, 4), shown(one.corrupted_ece, 4))
            texts = (*values, one.source)
        rows.append((*row, *texts))
    notes = (*table.notes, PUBLISHED_NOTE + ("" if sources.context.comparable else REFERENCE_ONLY), PUBLISHED_TYPES)
    numbers = table.numbers.copy()
    for field in ("corrupted_accuracy", "corrupted_nll", "corrupted_ece", "source"):
        numbers[f"published_{field}"] = [
            getattr(beside[cell], field) if cell in beside else None for cell in numbers["cell"]
        ]
    return replace(table, head=(*table.head, *names), rows=tuple(rows), notes=notes, numbers=numbers)
