"""A figure as an entry of the gallery."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure and its caption: what is seen, how it was computed, over how many replicates or runs."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]
