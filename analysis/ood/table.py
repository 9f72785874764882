"""The tables of detection of images out of distribution, one a measure."""

from collections.abc import Iterator

from analysis.columns import Metric
from analysis.ood.numbers import SCORE_NAMES, Ood
from analysis.paper.beside import with_published
from analysis.pivot import pivoted
from analysis.results import Results
from analysis.set_titles import set_titles
from analysis.table import Table, grouped_table

DETECTION = (
    Metric("auroc", "AUROC (%)", 2, "higher", 100),
    Metric("aupr", "AUPR (%)", 2, "higher", 100),
    Metric("fpr95", "FPR at 95% TPR (%)", 2, "lower", 100),
)
SCORES = (
    "Columns are sets, grouped by score. Scores are of the ensemble's mean probability; mutual information is the "
    "entropy of the mean less the members' mean entropy, which no single network has."
)
NOTES = {
    "auroc": "Images out of distribution are the positive class. Below 50% a score is worse than chance.",
    "aupr": "Images out of distribution are the positive class. AUPR depends on how many images a set has: compare it "
    "within a set.",
    "fpr95": "The share of images out of distribution that are taken for test images when 95% of the test images are "
    "taken for what they are: test images are the positive class here, as usual.",
}


def tables(ood: Ood, results: Results) -> Iterator[Table]:
    """Yield the tables of detection, if anything was evaluated."""
    if not ood.detection.empty:
        yield from (ood_table(ood, results, metric) for metric in DETECTION)


def ood_table(ood: Ood, results: Results, metric: Metric) -> Table:
    """Return a row a cell: by score and set out of distribution, how well the score tells the set from test images."""
    # Scripts that read the CSV file know the column of sets as "outside".
    frame = ood.detection.rename(columns={"ood_set": "outside"})
    frame = frame.assign(score=frame["score"].map(SCORE_NAMES))
    keys = {"cell": "Cell", "outside": "Set", "score": "Score"}
    title = f"Out of distribution: {metric.head}"
    table = grouped_table(f"ood_{metric.key}", title, frame, keys, [metric], (SCORES, NOTES[metric.key]), results)
    by_probability = SCORE_NAMES["max_probability"]
    published = [{"auroc": f"auroc_{row[1]}"} if row[2] == by_probability else {} for row in table.rows]
    table = with_published(table, results, [shown for shown in [metric] if shown.key == "auroc"], published)

    titles = set_titles(dict.fromkeys(frame["outside"]))

    def place(row: tuple[str, ...], head: str) -> tuple[str, str]:
        name, score = row
        return score, titles[name] if head == metric.head else f"{titles[name]}: {head.lower()}"

    return pivoted(table, 2, place, list(results.cells["cell"]))
