"""The metrics a reader sees: their keys in DataFrames, heads in tables, units, digits, and which direction is better.

Accuracies are shown in percent, as in the published tables; everything else in its own unit.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A column: values in DataFrames times `factor` are what is shown, with `digits` decimals."""

    key: str
    head: str
    digits: int
    better: Literal["higher", "lower"] | None
    factor: float = 1.0

    @property
    def csv_name(self) -> str:
        """The head as a column of a CSV file: lower case, no spaces; "Accuracy (%)" is accuracy_percent."""
        words = self.head.lower().replace("%", "percent").replace("(", "").replace(")", "").replace(",", "")
        return "_".join(words.split())


ACCURACY = Metric("accuracy", "Accuracy (%)", 2, "higher", 100)
NLL = Metric("nll", "NLL", 4, "lower")
ECE = Metric("ece", "ECE (15 bins)", 4, "lower")
MEMBER_ACCURACY = Metric("member_accuracy", "Member accuracy (%)", 2, "higher", 100)
DISAGREEMENT = Metric("disagreement", "Disagreement", 4, None)
KL = Metric("kl", "KL", 4, None)
BRIER = Metric("brier", "Brier", 4, "lower")
ECE_RELEASED = Metric("ece_released", "ECE (14 bins, released code)", 4, "lower")
ADAPTIVE_ECE = Metric("adaptive_ece", "ECE (15 bins of equal mass)", 4, "lower")
NORMALISED_DISAGREEMENT = Metric("normalised_disagreement", "Disagreement / error", 4, None)
COSINE = Metric("cosine", "Cosine distance", 4, None)
JENSEN_SHANNON = Metric("jensen_shannon", "Jensen-Shannon distance", 4, None)
Q_STATISTIC = Metric("q_statistic", "Q statistic", 4, None)
AMBIGUITY = Metric("ambiguity", "Ambiguity (member NLL less ensemble NLL)", 4, None)
AURC = Metric("aurc", "AURC", 4, "lower")
TEMPERATURE = Metric("temperature", "Temperature", 3, None)
NLL_SCALED = Metric("nll_scaled", "NLL, ensemble scaled", 4, "lower")
ECE_SCALED = Metric("ece_scaled", "ECE (15 bins), ensemble scaled", 4, "lower")
NLL_SCALED_MEMBERS = Metric("nll_scaled_members", "NLL, members scaled", 4, "lower")
ECE_SCALED_MEMBERS = Metric("ece_scaled_members", "ECE (15 bins), members scaled", 4, "lower")
CORRUPTED_ACCURACY = Metric("corrupted_accuracy", "Corrupted accuracy (%)", 2, "higher", 100)
CORRUPTED_NLL = Metric("corrupted_nll", "Corrupted NLL", 4, "lower")
CORRUPTED_BRIER = Metric("corrupted_brier", "Corrupted Brier", 4, "lower")
CORRUPTED_ECE_MEAN = Metric("corrupted_ece_mean", "Corrupted ECE (mean over sets, 15 bins)", 4, "lower")
CORRUPTED_ECE_POOLED = Metric("corrupted_ece_pooled", "Corrupted ECE (pooled, 14 bins)", 4, "lower")
CORRUPTED_ADAPTIVE_ECE_MEAN = Metric(
    "corrupted_adaptive_ece_mean", "Corrupted ECE of equal mass (mean over sets, 15 bins)", 4, "lower"
)
CORRUPTED_ADAPTIVE_ECE_POOLED = Metric(
    "corrupted_adaptive_ece_pooled", "Corrupted ECE of equal mass (pooled, 14 bins)", 4, "lower"
)
CORRUPTED_MEMBER_ACCURACY = Metric("corrupted_member_accuracy", "Corrupted member accuracy (%)", 2, "higher", 100)
CORRUPTED_DISAGREEMENT = Metric("corrupted_disagreement", "Corrupted disagreement", 4, None)
MCE = Metric("mce", "mCE (% of dense)", 1, "lower", 100)
MEMBER_NLL = Metric("member_nll", "Member NLL", 4, "lower")
TRAIN_FLOPS = Metric("train_flops_ratio", "Training FLOPs (x one dense run)", 3, "lower")
INFERENCE_FLOPS = Metric("inference_flops_ratio", "Inference FLOPs (x one dense network)", 3, "lower")
PARAMETERS = Metric("parameters_ratio", "Weights (x one dense network)", 3, "lower")

# Measured once a replicate; the first six make the main table.
MAIN = (ACCURACY, NLL, ECE, MEMBER_ACCURACY, DISAGREEMENT, KL)
CALIBRATION = (NLL, MEMBER_NLL, BRIER, ECE, ECE_RELEASED, ADAPTIVE_ECE)
SELECTIVE = (AURC,)
SCALED = (TEMPERATURE, NLL_SCALED, ECE_SCALED, NLL_SCALED_MEMBERS, ECE_SCALED_MEMBERS)
DIVERSITY = (
    MEMBER_ACCURACY,
    DISAGREEMENT,
    NORMALISED_DISAGREEMENT,
    KL,
    COSINE,
    JENSEN_SHANNON,
    Q_STATISTIC,
    AMBIGUITY,
)
MEASURED = {metric.key: metric for metric in (*MAIN, *CALIBRATION, *SELECTIVE, *SCALED, *DIVERSITY)}
# Measured once a replicate on a family of corrupted sets.
CORRUPTED = (
    CORRUPTED_ACCURACY,
    CORRUPTED_NLL,
    CORRUPTED_BRIER,
    CORRUPTED_ECE_MEAN,
    CORRUPTED_ECE_POOLED,
    CORRUPTED_ADAPTIVE_ECE_MEAN,
    CORRUPTED_ADAPTIVE_ECE_POOLED,
    MCE,
    CORRUPTED_MEMBER_ACCURACY,
    CORRUPTED_DISAGREEMENT,
)
# Measured once a member.
MEMBER = (ACCURACY, NLL, ECE)
# Known from the plan alone.
PLANNED = {metric.key: metric for metric in (TRAIN_FLOPS, INFERENCE_FLOPS, PARAMETERS)}
