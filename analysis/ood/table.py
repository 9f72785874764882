"""The table of detection of images out of distribution."""

from collections.abc import Iterator

from analysis.columns import Metric
from analysis.ood.numbers import SCORE_NAMES, Ood
from analysis.paper.beside import with_published
from analysis.results import Results
from analysis.table import Table, grouped_table

DETECTION = (
    Metric("auroc", "AUROC (%)", 2, "higher", 100),
    Metric("aupr", "AUPR (%)", 2, "higher", 100),
    Metric("fpr95", "FPR at 95% TPR (%)", 2, "lower", 100),
)


def tables(ood: Ood, results: Results) -> Iterator[Table]:
    """Yield the table of detection, if anything was evaluated."""
    if not ood.detection.empty:
        yield ood_table(ood, results)


def ood_table(ood: Ood, results: Results) -> Table:
    """Return a row a cell, set out of distribution and score: how well the score tells it from the test images."""
    notes = (
        "Out of distribution is the positive class of AUROC and AUPR. For FPR at 95% TPR, as usual, test images are: "
        "the share of other images taken for test images when 95% of those are taken for what they are. Scores are of "
        "the ensemble's mean probability; mutual information is the entropy of the mean less the members' mean "
        "entropy, which no single network has. AUPR depends on how many images a set has: compare it within a set.",
    )
    # Scripts that read the CSV file know the column of sets as "outside".
    frame = ood.detection.rename(columns={"ood_set": "outside"})
    frame = frame.assign(score=frame["score"].map(SCORE_NAMES))
    keys = {"cell": "Cell", "outside": "Set", "score": "Score"}
    table = grouped_table("ood", "Out of distribution", frame, keys, DETECTION, notes, results)
    by_probability = SCORE_NAMES["max_probability"]
    names = [{"auroc": f"auroc_{row[1]}"} if row[2] == by_probability else {} for row in table.rows]
    return with_published(table, results, DETECTION[:1], names)
