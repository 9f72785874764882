"""How runs trained: curves, densities of their tickets, and their way through function space."""

from analysis.topic import Topic
from analysis.training.figures import figures
from analysis.training.numbers import load_training

TOPIC = Topic("training", load_training, figures=figures)
