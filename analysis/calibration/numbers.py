"""Whether confidence on the test images is what accuracy bears out, as it is and after temperature scaling."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.columns import ECE, NLL, Metric
from analysis.reading import Replicate, StoreView, tidy
from bench import metrics
from bench.metrics.calibration import Reliability
from bench.metrics.probabilities import Labels
from bench.store.run_folder import Array

MEMBER_NLL = Metric("member_nll", "Member NLL", 4, "lower")
BRIER = Metric("brier", "Brier", 4, "lower")
ECE_RELEASED = Metric("ece_released", "ECE (14 bins, released code)", 4, "lower")
ADAPTIVE_ECE = Metric("adaptive_ece", "ECE (15 bins of equal mass)", 4, "lower")
AURC = Metric("aurc", "AURC", 4, "lower")
TEMPERATURE = Metric("temperature", "Temperature", 3, None)
NLL_SCALED = Metric("nll_scaled", "NLL, ensemble scaled", 4, "lower")
ECE_SCALED = Metric("ece_scaled", "ECE (15 bins), ensemble scaled", 4, "lower")
NLL_SCALED_MEMBERS = Metric("nll_scaled_members", "NLL, members scaled", 4, "lower")
ECE_SCALED_MEMBERS = Metric("ece_scaled_members", "ECE (15 bins), members scaled", 4, "lower")

PLAIN = (NLL, MEMBER_NLL, BRIER, ECE, ECE_RELEASED, ADAPTIVE_ECE, AURC)
SCALED = (TEMPERATURE, NLL_SCALED, ECE_SCALED, NLL_SCALED_MEMBERS, ECE_SCALED_MEMBERS)
METRICS = (*PLAIN, *SCALED)
# The accuracy of fewer images in a bin is noise.
FEW_IMAGES = 20
RISKS = "cell replicate coverage risk"
BINS = "cell replicate bin low high count confidence accuracy"


@dataclass(frozen=True)
class Calibration:
    """Calibration on the test images, as tidy DataFrames.

    scores   one row a replicate: METRICS (NLL in nats); NaN after scaling where there are no validation images
    bins     one row a replicate and bin of the ensemble's confidence (15 equal bins; NaN means in empty ones)
    risks    one row a replicate and share of test images, the most confident ones, with the error rate on them
    """

    scores: pd.DataFrame
    bins: pd.DataFrame
    risks: pd.DataFrame


def load_calibration(view: StoreView) -> Calibration:
    """Return the calibration of all finished replicates."""
    scores: list[dict[str, Any]] = []
    bins: list[dict[str, Any]] = []
    risks: list[dict[str, Any]] = []
    for replicate in view.replicates():
        with view.noting():
            logits, labels = replicate.logits("test")
            members = metrics.softmax(logits)
            ensemble = metrics.ensemble_mean(members)
            curve = metrics.reliability(ensemble, labels)
            bins += [{**replicate.key, **row} for row in bin_rows(curve)]
            points = zip(*metrics.risk_coverage_curve(ensemble, labels), strict=True)
            risks += [{**replicate.key, "coverage": coverage, "risk": risk} for coverage, risk in points]
            scores.append(
                {
                    **replicate.key,
                    "nll": metrics.negative_log_likelihood(ensemble, labels),
                    "member_nll": float(
                        np.mean([metrics.negative_log_likelihood(member, labels) for member in members])
                    ),
                    "brier": metrics.brier(ensemble, labels),
                    "ece": curve.calibration_error,
                    "ece_released": metrics.expected_calibration_error_released(ensemble, labels),
                    "adaptive_ece": metrics.adaptive_expected_calibration_error(ensemble, labels),
                    "aurc": metrics.area_under_risk_coverage(ensemble, labels),
                }
            )
            if replicate.cell.data.validation_images:
                scores[-1] |= _after_scaling(replicate, logits, labels)
    keys = [metric.key for metric in METRICS]
    return Calibration(tidy(scores, " ".join(("cell replicate", *keys))), tidy(bins, BINS), tidy(risks, RISKS))


def bin_rows(curve: Reliability) -> Iterator[dict[str, Any]]:
    """Yield the bins of a reliability curve as rows: bin, low, high, count, confidence, accuracy."""
    columns = (curve.edges[:-1], curve.edges[1:], curve.counts, curve.confidence, curve.accuracy)
    for index, values in enumerate(zip(*columns, strict=True)):
        yield {"bin": index, **dict(zip(("low", "high", "count", "confidence", "accuracy"), values, strict=True))}


def pooled(bins: pd.DataFrame) -> pd.DataFrame:
    """Return the bins of one cell over all its replicates: low, high, count, mean confidence and accuracy."""
    weighted = bins.assign(
        confidence=bins["confidence"] * bins["count"],
        accuracy=bins["accuracy"] * bins["count"],
    )
    sums = weighted.groupby("bin").agg(
        {"low": "first", "high": "first", "count": "sum", "confidence": "sum", "accuracy": "sum"}
    )
    sums[["confidence", "accuracy"]] = sums[["confidence", "accuracy"]].div(sums["count"], axis=0)
    return sums


def _after_scaling(replicate: Replicate, logits: Array, labels: Labels) -> dict[str, float]:
    """Return the calibration of the ensemble after temperature scaling, of its mean or of each member before that.

    Temperatures are fitted on validation logits; UserError if one of those files is not as it was written.
    """
    held_out, truth = replicate.logits("validation")
    temperature = metrics.fit_ensemble_temperature(metrics.ensemble_mean(metrics.softmax(held_out)), truth)
    whole = metrics.scale_probabilities(metrics.ensemble_mean(metrics.softmax(logits)), temperature)
    single = [
        metrics.scale_logits(member, metrics.fit_temperature(fitted, truth))
        for member, fitted in zip(logits, held_out, strict=True)
    ]
    members = metrics.ensemble_mean(np.stack(single))
    values = [
        score(probabilities, labels)
        for probabilities in (whole, members)
        for score in (metrics.negative_log_likelihood, metrics.expected_calibration_error)
    ]
    return dict(zip((metric.key for metric in SCALED), (temperature, *values), strict=True))
