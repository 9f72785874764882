"""What a metric is: its key in DataFrames, head in tables, unit, digits, and which direction is better.

Accuracies are shown in percent, as in the published tables; everything else in its own unit. Each topic has its own
metrics; those that several topics show are here.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A column: values in DataFrames times `factor` are what is shown, with `digits` decimals.

    measured_on   the test images, corrupted ones, the machine that trained, or nothing: exact and known from the plan
    """

    key: str
    head: str
    digits: int
    better: Literal["higher", "lower"] | None
    factor: float = 1.0
    measured_on: Literal["test", "corrupted", "machine", "plan"] = "test"

    @property
    def arrow(self) -> str:
        """The direction in words, for the label of an axis."""
        return "higher is better →" if self.better == "higher" else "← lower is better"

    @property
    def csv_name(self) -> str:
        """The head as a column of a CSV file: lower case, no spaces; "Accuracy (%)" is accuracy_percent."""
        words = self.head.lower().replace("%", "percent").replace("(", "").replace(")", "").replace(",", "")
        return "_".join(words.split())


ACCURACY = Metric("accuracy", "Accuracy (%)", 2, "higher", 100)
NLL = Metric("nll", "NLL", 4, "lower")
ECE = Metric("ece", "ECE (15 bins)", 4, "lower")
