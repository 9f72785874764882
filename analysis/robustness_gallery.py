"""The figures of robustness and diversity, in the order of the report; a part of analysis.gallery."""

from collections.abc import Iterator

import pandas as pd

from analysis.context import describe_replicates
from analysis.embedding import embed
from analysis.figures.attacks import robust_accuracy, transfer_maps
from analysis.figures.classes import class_bars
from analysis.figures.corruption import reliability_clean_and_corrupted, severity_curves, type_dots, type_map
from analysis.figures.members import diversity_against_accuracy
from analysis.figures.outside import roc_curves, score_histograms
from analysis.figures.overlap import overlap_by_layer, overlap_maps
from analysis.figures.paths import trajectories
from analysis.figures.sheet import contact_sheet
from analysis.picture import Picture
from analysis.robustness_tables import LOCAL_NOTE, SCORE_NAMES
from analysis.sources import Sources
from bench.evaluation.sets import LOCAL


def robustness_pictures(sources: Sources) -> Iterator[Picture]:
    """Yield the figures of corrupted images, of images out of distribution and of attacks, where there are results."""
    for family in sources.corruptions.ece_names:
        yield from _corruptions(sources, family)
    if not sources.outside.detection.empty:
        yield from _outside(sources)
    if not sources.attacks.accuracy.empty:
        yield from _attacks(sources)


def diversity_pictures(sources: Sources) -> Iterator[Picture]:
    """Yield the figures of how members differ in what they predict and in their weights."""
    cells, results = sources.results.cells, sources.results
    n = describe_replicates(cells)
    if results.replicates["disagreement"].notna().any():
        yield Picture(
            "diversity_against_accuracy",
            "Diversity against member accuracy",
            "Disagreement between members, plain and divided by their mean error rate, against their mean test "
            f"accuracy (Fort et al. 2019): markers are means over replicates, dots are replicates. {n}",
            lambda: diversity_against_accuracy(cells, results.replicates),
        )
    if not results.classes.empty:
        yield Picture(
            "classes",
            "Accuracy by class",
            "Share of the test images of each class that the ensemble predicts as it, mean over replicates (bars), and "
            f"its members (dots, of all replicates); lines are 95% Student-t intervals. {n}",
            lambda: class_bars(cells, results.classes),
        )
    if sources.weights.overlap["iou"].notna().any():
        overlap = sources.weights.overlap
        yield Picture(
            "mask_overlap",
            "Mask overlap between tickets",
            "Positions that are active in both tickets over those active in either (intersection over union), all "
            f"layers together, mean over replicates; one colour scale for all cells. {n}",
            lambda: overlap_maps(cells, overlap),
        )
        yield Picture(
            "mask_overlap_by_layer",
            "Mask overlap by layer",
            "The same in each layer, mean over pairs of tickets and replicates; at 1 all tickets have one mask, as "
            f"in a layer that is dense. {n}",
            lambda: overlap_by_layer(cells, overlap),
        )
    if len(sources.paths) > 1:
        runs = len({prediction.run for prediction in sources.paths})
        yield Picture(
            "function_space",
            "Trajectories in function space",
            "t-SNE of the predictions that runs made on the same validation images after every epoch, one embedding "
            "for all panels (paper, trajectories of free tickets; Fort et al. 2019): a line is a run from its first "
            "epoch to its last, stars are tickets; of very many epochs some are left out. Only neighbourhoods mean "
            f"something in such a plane, neither lengths nor axes. n = {runs} runs.",
            # Here, since it takes seconds that tables need not wait for.
            lambda: trajectories(embed(sources.paths)),
        )


def _corruptions(sources: Sources, family: str) -> Iterator[Picture]:
    corruptions, results = sources.corruptions, sources.results
    sets, bins, scores = (
        frame[frame["family"] == family] for frame in (corruptions.sets, corruptions.bins, corruptions.scores)
    )
    # A type of which a severity is missing would make means over types differ in what they are of.
    sets = sets[sets["type"].isin(corruptions.types[family])]
    cells = results.cells
    n = _replicates(cells, scores)
    what = f"{family}, {sets['type'].nunique()} types of corruption." + (f" {LOCAL_NOTE}" if family == LOCAL else "")
    if not sets.empty:
        yield from _scores(sources, family, sets, f"{what} {n}")
    if not bins.empty:
        yield Picture(
            f"{family}_reliability",
            f"Reliability, clean and corrupted: {family}",
            "Accuracy against confidence in 15 equal bins of confidence of the ensemble's prediction, on the clean "
            f"test images and on all corrupted ones together. {what} {n}",
            lambda: reliability_clean_and_corrupted(cells, results.reliability, bins),
        )
    if (shown := sources.samples.get(family)) is not None:
        yield Picture(
            f"{family}_sheet",
            f"What was evaluated: {family}",
            "The first test image, clean and under every corruption at every severity that was evaluated."
            + (f" {LOCAL_NOTE}" if family == LOCAL else ""),
            lambda: contact_sheet(shown.images, shown.severities, family),
        )


def _scores(sources: Sources, family: str, sets: pd.DataFrame, what: str) -> Iterator[Picture]:
    cells, results = sources.results.cells, sources.results
    yield Picture(
        f"{family}_severity",
        f"Scores against severity: {family}",
        "Accuracy, NLL and ECE (15 bins) of ensembles, mean over types of corruption, against severity; 0 are the "
        f"clean test images. Bands are 95% Student-t intervals over replicates. {what}",
        lambda: severity_curves(cells, results.replicates, sets),
    )
    yield Picture(
        f"{family}_types",
        f"Accuracy by type: {family}",
        f"Accuracy of ensembles on each type of corruption, mean over severities and replicates. {what}",
        lambda: type_dots(cells, sets),
    )
    yield Picture(
        f"{family}_type_map",
        f"Cells and types: {family}",
        f"The same accuracies as numbers, one colour scale. {what}",
        lambda: type_map(cells, sets),
    )


def _outside(sources: Sources) -> Iterator[Picture]:
    outside, cells = sources.outside, sources.results.cells
    n = _replicates(cells, outside.detection)
    for score in dict.fromkeys(outside.detection["score"]):
        yield Picture(
            f"ood_roc_{score}",
            f"Telling images out of distribution apart: {SCORE_NAMES[score]}",
            f"True-positive rate against false-positive rate of {SCORE_NAMES[score]}, images out of distribution being "
            f"the positives; mean over replicates, the area under the curve in the legend. {n}",
            lambda score=score: roc_curves(cells, outside.detection, outside.curves, score),  # type: ignore[misc]
        )
    yield Picture(
        "ood_scores",
        "Scores of images in and out of distribution",
        f"Distribution of {SCORE_NAMES['max_probability']} over the test images and over each set out of distribution, "
        f"all replicates together. {n}",
        lambda: score_histograms(cells, outside.histograms, "max_probability"),
    )


def _attacks(sources: Sources) -> Iterator[Picture]:
    attacks, clean, cells = sources.attacks.accuracy, sources.attacks.clean, sources.results.cells
    n = _replicates(cells, attacks)
    yield Picture(
        "robust_accuracy",
        "Accuracy under attack",
        "Accuracy against the L-infinity budget in 1/255 of images in [0, 1]: the ensemble attacked as a whole, and "
        f"its members each attacked by itself. {n}",
        lambda: robust_accuracy(cells, clean, attacks),
    )
    strongest = attacks.groupby("attack")["budget"].max()
    for attack, budget in strongest.items():
        yield Picture(
            f"transfer_{attack}",
            f"Transfer of attacks between members: {attack}",
            f"Accuracy of each member and of the ensemble on images crafted by {attack} at {budget:g}/255 on each of "
            f"them, mean over replicates; one colour scale. {n}",
            lambda attack=attack, budget=budget: transfer_maps(cells, attacks, attack, budget),  # type: ignore[misc]
        )


def _replicates(cells: pd.DataFrame, measured: pd.DataFrame) -> str:
    """Return the number of replicates behind a figure: those that were evaluated, not all that are done."""
    done = cells["cell"].map(measured.groupby("cell")["replicate"].nunique()).fillna(0).astype(int)
    return describe_replicates(cells.assign(replicates_done=done))
