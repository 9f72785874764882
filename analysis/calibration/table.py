"""The tables of calibration: by every definition in use, and after temperature scaling."""

from collections.abc import Iterator

from analysis.calibration.numbers import PLAIN, SCALED, Calibration
from analysis.columns import ECE, NLL
from analysis.results import Results
from analysis.table import Table, cells_table


def tables(_: Calibration, results: Results) -> Iterator[Table]:
    """Yield the tables of calibration."""
    yield calibration_table(results)
    yield scaling_table(results)


def calibration_table(results: Results) -> Table:
    """Return NLL, Brier score and the three definitions of ECE, whose values are not comparable with one another."""
    notes = (
        "The definitions of ECE give different values for the same predictions: compare within a column.",
        "AURC is the error rate on the most confident images, mean over all shares of them.",
    )
    return cells_table("calibration", "Scores of calibration", results, PLAIN, notes)


def scaling_table(results: Results) -> Table:
    """Return what temperature scaling makes of calibration, one temperature for the ensemble or one for each member."""
    notes = (
        "Temperatures have the least NLL on the validation images, which also chose the epoch of each ticket; rows "
        "without validation images have none. Ensemble scaled: one temperature for the mean probabilities, the one "
        "shown. Members scaled: one for each member before averaging. A temperature of 0.01 or 100 is the bound of the "
        "search: the validation images are predicted without error, or at random.",
    )
    return cells_table("scaling", "Calibration after temperature scaling", results, (NLL, ECE, *SCALED), notes)
