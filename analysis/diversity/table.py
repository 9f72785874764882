"""The tables of diversity: of what members predict, and of the distances between tickets in weight space."""

from collections.abc import Iterator

from analysis.accuracy.numbers import MEMBER_ACCURACY
from analysis.columns import Metric
from analysis.diversity.numbers import METRICS, Diversity
from analysis.paper.beside import with_published
from analysis.results import Results
from analysis.table import Table, cells_table, grouped_table
from bench.metrics.weights import OVERALL

OVERLAP = (
    Metric("iou", "Mask overlap (IoU)", 4, None),
    Metric("topological_distance", "Topological distance", 4, None),
    Metric("weight_cosine", "Cosine of weights", 4, None),
)


def tables(diversity: Diversity, results: Results) -> Iterator[Table]:
    """Yield the tables of diversity; that of weights where there are ensembles of several tickets."""
    yield diversity_table(results)
    if not diversity.overlap.empty:
        yield weights_table(diversity, results)


def diversity_table(results: Results) -> Table:
    """Return how differently members predict, by every measure in use."""
    notes = (
        "All but ambiguity are means over pairs of members. Disagreement / error: the share of images on which two "
        "members differ over their mean error rate. Distances are of their probabilities: 1 - cosine, and "
        "Jensen-Shannon (root of the divergence in nats). Q statistic: Yule's Q of being right, 1 where members are "
        "right together. Ambiguity: mean NLL of members less NLL of the ensemble, in nats; what averaging gains.",
    )
    table = cells_table("diversity", "Diversity of members", results, (MEMBER_ACCURACY, *METRICS), notes)
    return with_published(table, results, METRICS)


def weights_table(diversity: Diversity, results: Results) -> Table:
    """Return a row a cell: how far apart its tickets lie, over all layers together, mean over pairs."""
    whole = diversity.overlap[diversity.overlap["layer"] == OVERALL]
    values = [metric.key for metric in OVERLAP]
    means = whole.groupby(["cell", "replicate"], as_index=False, sort=False)[values].mean()
    notes = (
        "Mean over pairs of tickets. Overlap: positions that are active in both over those active in either. "
        "Topological distance: share of connections of a neuron that only one of the two has, mean over neurons and "
        "layers, neurons not re-aligned. Dense tickets have no masks; the cosine is that of all weights of "
        "convolutions and linear layers.",
    )
    title = "Distances between tickets in weight space"
    return grouped_table("weights", title, means, {"cell": "Cell"}, OVERLAP, notes, results)
