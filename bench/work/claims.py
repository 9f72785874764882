"""The density of a ticket, counted from its weights when its run ends, against what its masks and the grid claim."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bench.models.layers import layers_of
from bench.spec.run import MASK_PREFIX, RunSpec
from bench.store.run_folder import Array

# An active weight is zero by chance once in a great while; more than this share of them is no chance.
ZERO_BY_CHANCE = 1e-3
# Names in a message.
MOST_NAMES = 12


class DensityError(Exception):
    """A ticket is not as sparse as is said of it."""


def check_layers(spec: RunSpec, masked: Iterable[str]) -> None:
    """Raise DensityError if a network as it was built masks other weights than its plan and its cost know."""
    topology = spec.topology
    if topology is None:
        return
    planned = {layer.name for layer in layers_of(spec.model, spec.data) if topology.masks(layer.name)}
    if differing := sorted(planned ^ set(masked)):
        raise DensityError(
            f"{spec.model.name} was built with other weights than the plan found: {', '.join(differing[:MOST_NAMES])} "
            "is in one of them alone; a factory must return the same layers each time"
        )


def check_density(
    ticket: Mapping[str, Array],
    spec: RunSpec,
    record: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    zeros: Mapping[str, int] | None,
) -> None:
    """Raise DensityError unless a ticket has as many nonzero weights as its masks, its record and its topology say.

    Active weights may be zero where they began so, or were grown: zeros counts those of each initial weight, None if it
    is not known, and the history those that were grown.
    """
    masks = {n.removeprefix(MASK_PREFIX): mask for n, mask in ticket.items() if n.startswith(MASK_PREFIX)}
    total = sum(mask.size for mask in masks.values())
    active = sum(np.count_nonzero(mask) for mask in masks.values())
    kept = sum(np.count_nonzero(ticket[name][mask]) for name, mask in masks.items())
    nonzero = sum(np.count_nonzero(ticket[name]) for name in masks)
    share = f"{nonzero:,} of {total:,} weights with a mask are not zero, a density of {nonzero / max(total, 1):.4f}"
    found = f"ticket {record['index']}: {share}"
    if nonzero != kept:
        raise DensityError(f"{found}; {nonzero - kept:,} of those are inactive: the network itself changed its weights")
    if round(record["density"] * total) != active:
        raise DensityError(f"{found}; its masks have {active:,} active weights, its record {record['density']:.4f}")
    topology = spec.topology
    if topology is not None and _exact(spec) and abs(active - topology.density * total) > 1:
        raise DensityError(f"{found}; its masks have {active:,} active weights, the grid says {topology.density:g}")
    if zeros is None:
        return
    explained = sum(zeros[name] for name in masks) + sum(u["grown"] for line in history for u in line["updates"])
    if active - nonzero > explained + max(1, ZERO_BY_CHANCE * active):
        raise DensityError(f"{found}; its masks say {active / total:.4f}")


def _exact(spec: RunSpec) -> bool:
    """Return whether the switches of the protocol hold the number of active weights to the topology's."""
    drawn = spec.topology is not None and spec.topology.sampling == "exact"
    return drawn and all(
        rule.ties == "lowest_index" and (rule.growth == "gradient" or rule.random_growth == "exact")
        for rule in spec.rules
    )
