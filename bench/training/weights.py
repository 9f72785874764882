"""Weights that enter and leave a run: what it may take from its parent, and where its tickets go."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, assert_never

import torch
from torch import Tensor

from bench.errors import UserError
from bench.models.build import build_model
from bench.spec.phases import parent_weights
from bench.spec.run import MASK_PREFIX, RunSpec

log = logging.getLogger(__name__)

Ticket = dict[str, Tensor]


class ParentLostError(Exception):
    """The weights of the parent cannot be read."""


class WeightWriter(Protocol):
    """Where a run's weights go; both return a checksum, and may be called again with the same after a resume."""

    def write_ticket(self, index: int, tensors: Ticket, metadata: dict[str, Any]) -> str:
        """Write a ticket when its phase ends."""

    def write_rewind_checkpoint(self, index: int, tensors: Ticket) -> str:
        """Write the weights of an early epoch, for runs that start from them."""


class ParentWeights(Protocol):
    """What a run may take from its parent, on the device of the run."""

    def tickets(self) -> Sequence[Ticket]:
        """Return the parent's tickets."""

    def rewind_checkpoints(self) -> Sequence[Ticket]:
        """Return the weights of early epochs that the parent wrote."""

    def checksums(self) -> dict[str, str]:
        """Return the checksum of each of its files of weights."""


def initial_weights(spec: RunSpec, classes: int, parent: ParentWeights | None) -> Ticket | None:
    """Return the weights a run begins with: of its seed, or of its parent; None if the parent's cannot be read."""
    inherits = [kind for action in spec.phases[0].on_start if (kind := parent_weights(action)) is not None]
    if parent is None or not inherits:
        return dict(build_model(spec.model, classes, spec.seed).state_dict())
    try:
        return inherited(parent, inherits[-1], 0)
    except (ParentLostError, UserError):
        return None


def inherited(parent: ParentWeights, which: Literal["ticket", "kept", "average"], expected: int) -> Ticket:
    """Return the weights that an Inherit action takes; a warning if fewer than the `expected` tickets are averaged."""
    match which:
        case "ticket":
            return parent.tickets()[-1]
        case "kept":
            return parent.rewind_checkpoints()[0]
        case "average":
            tickets = parent.tickets()
            if len(tickets) < expected:
                log.warning("the parent left %d of %d tickets to average", len(tickets), expected)
            return average(tickets)
        case _:
            assert_never(which)


def average(tickets: Sequence[Mapping[str, Tensor]]) -> Ticket:
    """Return the mean of tickets, weight by weight: what superposing starts from (Yin et al., UAI 2022).

    All tensors of floats but masks have the equal-weight mean; the others (counters) are the last ticket's. A weight
    that a ticket does not have counts as the zero it is there. ValueError without a ticket.
    """
    if not tickets:
        raise ValueError("the parent run left no ticket to average")
    mean = {}
    for name, last in tickets[-1].items():
        if name.startswith(MASK_PREFIX):
            continue
        if last.is_floating_point():
            mean[name] = torch.stack([ticket[name] for ticket in tickets]).mean(dim=0)
        else:
            mean[name] = last
    return mean
