"""The mean of tickets, weight by weight: what superposing starts from (Yin et al., UAI 2022)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bench.spec.run import MASK_PREFIX


def average(tickets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the equal-weight mean of all tensors of floats but masks; of others (counters) the last ticket's.

    A weight that a ticket does not have counts as the zero it is there. ValueError without a ticket.
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
