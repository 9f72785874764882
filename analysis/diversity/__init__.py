"""How members of an ensemble differ: in what they predict, in their masks and in their weights."""

from analysis.diversity.figures import figures
from analysis.diversity.numbers import METRICS, load_diversity
from analysis.diversity.table import tables
from analysis.topic import Topic

TOPIC = Topic(
    "diversity",
    load_diversity,
    metrics=METRICS,
    scores=lambda numbers: numbers.scores,
    tables=tables,
    figures=figures,
)
