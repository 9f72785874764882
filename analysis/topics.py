"""The topics of a report, in its order."""

from typing import Any

from analysis import accuracy, attacks, calibration, corruption, diversity, efficiency, listings, ood, training
from analysis.topic import Topic

TOPICS: tuple[Topic[Any], ...] = (
    accuracy.TOPIC,
    efficiency.TOPIC,
    calibration.TOPIC,
    diversity.TOPIC,
    corruption.TOPIC,
    ood.TOPIC,
    attacks.TOPIC,
    training.TOPIC,
    listings.TOPIC,
)
