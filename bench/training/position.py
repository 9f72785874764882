"""Where a run stands in its recipe: plain numbers and lists, saved with every checkpoint."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass
class Position:
    """Counters are of completed things: phase 1, phase_epoch 0, step 3 is three steps into the second phase.

    epoch and steps count over the run, phase_epoch within the phase, step within the epoch. best is the best validation
    accuracy to beat and candidate describes the weights held as the next ticket; targets counts the labels that the
    epoch in progress was trained on (several an image in networks of several members) and updates are its topology
    changes; history, tickets and kept (the rewind checkpoints) are what the run has reported so far; inherited names
    the files of the parent that it started from, with their checksums. Field names are those of checkpoints on disk.
    """

    phase: int = 0
    phase_epoch: int = 0
    epoch: int = 0
    step: int = 0
    steps: int = 0
    targets: int = 0
    best: float = -1.0
    candidate: dict[str, Any] | None = None
    updates: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    tickets: list[dict[str, Any]] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)
    inherited: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, which a checkpoint can hold without pickled classes."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Return the position that to_dict() described."""
        return cls(**content)
