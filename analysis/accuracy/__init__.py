"""How often ensembles are right: scores of each cell and, class by class, of ensembles and members."""

from analysis.accuracy.figures import figures
from analysis.accuracy.numbers import MEMBER_ACCURACY, load_accuracy
from analysis.columns import ACCURACY
from analysis.topic import Topic

TOPIC = Topic(
    "accuracy",
    load_accuracy,
    metrics=(ACCURACY, MEMBER_ACCURACY),
    scores=lambda numbers: numbers.scores,
    figures=figures,
)
