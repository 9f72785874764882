"""What adversarial attacks leave of the accuracy of ensembles and members, and how attacks transfer between them."""

from analysis.attacks.figures import figures
from analysis.attacks.numbers import FGSM_METRICS, load_attacks
from analysis.attacks.table import tables
from analysis.topic import Topic

TOPIC = Topic(
    "attacks",
    load_attacks,
    metrics=FGSM_METRICS,
    scores=lambda attacks: attacks.scores,
    tables=tables,
    figures=figures,
    title="Adversarial attacks",
)
