"""How far ensembles hold on corrupted test images: scores over families of corruptions, by type and by severity."""

from analysis.corruption.figures import figures
from analysis.corruption.numbers import METRICS, claims_note, load_corruption
from analysis.corruption.table import tables
from analysis.topic import Topic

TOPIC = Topic(
    "corruption",
    load_corruption,
    metrics=METRICS,
    scores=lambda numbers: numbers.scores,
    tables=tables,
    figures=figures,
    claims_note=claims_note,
    title="Corruptions",
)
