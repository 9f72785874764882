"""Whether ensembles can tell images of none of their classes (out of distribution) from test images."""

from analysis.ood.figures import figures
from analysis.ood.numbers import AUROCS, load_ood
from analysis.ood.table import tables
from analysis.topic import Topic

TOPIC = Topic(
    "ood",
    load_ood,
    metrics=tuple(AUROCS.values()),
    scores=lambda ood: ood.scores,
    tables=tables,
    figures=figures,
    title="Out of distribution",
)
