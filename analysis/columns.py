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
MEMBER_NLL = Metric("member_nll", "Member NLL", 4, "lower")
TRAIN_FLOPS = Metric("train_flops_ratio", "Training FLOPs (x one dense run)", 3, "lower")
INFERENCE_FLOPS = Metric("inference_flops_ratio", "Inference FLOPs (x one dense network)", 3, "lower")
PARAMETERS = Metric("parameters_ratio", "Weights (x one dense network)", 3, "lower")

# Measured once a replicate; the first six make the main table.
MAIN = (ACCURACY, NLL, ECE, MEMBER_ACCURACY, DISAGREEMENT, KL)
CALIBRATION = (NLL, MEMBER_NLL, BRIER, ECE, ECE_RELEASED, ADAPTIVE_ECE)
MEASURED = {metric.key: metric for metric in (*MAIN, *CALIBRATION)}
# Measured once a member.
MEMBER = (ACCURACY, NLL, ECE)
# Known from the plan alone.
PLANNED = {metric.key: metric for metric in (TRAIN_FLOPS, INFERENCE_FLOPS, PARAMETERS)}
