"""Whether ensembles know when they are right: NLL, calibration errors, reliability, temperature scaling."""

from analysis.calibration.figures import figures
from analysis.calibration.numbers import METRICS, load_calibration
from analysis.calibration.table import tables
from analysis.topic import Topic

TOPIC = Topic(
    "calibration",
    load_calibration,
    metrics=METRICS,
    scores=lambda numbers: numbers.scores,
    tables=tables,
    figures=figures,
)
