"""The topics of a report, in its order; a topic of the user's own is named as `package.module:NAME`."""

from typing import Any

from analysis import (
    accuracy,
    attacks,
    calibration,
    corruption,
    diversity,
    efficiency,
    listings,
    ood,
    prediction,
    shift,
    training,
)
from analysis.topic import Topic
from bench.errors import UserError
from bench.spec.elsewhere import find_elsewhere

TOPICS: tuple[Topic[Any], ...] = (
    accuracy.TOPIC,
    efficiency.TOPIC,
    prediction.TOPIC,
    calibration.TOPIC,
    diversity.TOPIC,
    corruption.TOPIC,
    shift.TOPIC,
    ood.TOPIC,
    attacks.TOPIC,
    training.TOPIC,
    listings.TOPIC,
)


def find_topic(name: str) -> Topic[Any]:
    """Return the topic that `package.module:NAME` names; UserError if there is none."""
    try:
        topic = find_elsewhere(name)
    except ImportError as error:
        raise UserError(f"--topic: {name!r}, as package.module:NAME, {error}") from None
    if not isinstance(topic, Topic):
        raise UserError(f"--topic: {name!r} is not an analysis.topic.Topic but a {type(topic).__name__}")
    known = {suite.name for suite in TOPICS} | {metric.key for suite in TOPICS for metric in suite.metrics}
    for key in (topic.name, *(metric.key for metric in topic.metrics)):
        if key in known:
            raise UserError(f"--topic: {name!r} uses the name {key!r}, which the suite has already; choose another")
    return topic
