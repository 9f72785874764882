"""Which topologies a network cannot have: found before anything is trained. Without torch, because plans use it."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from math import prod

from bench.sparsity.distribution import DISTRIBUTIONS, exact_counts
from bench.spec.run import Topology, names

# Names in a message.
MOST_NAMES = 12
# How a grid says which weights stay dense.
IN_A_GRID = "topology: {{dense: [{}]}}"


def topology_problem(
    model: str,
    shapes: Mapping[str, tuple[int, ...]],
    others: Mapping[str, str],
    topology: Topology,
    written: str = IN_A_GRID,
) -> tuple[tuple[str, ...], str] | None:
    """Return the keys and a message of the first thing that is wrong with a topology, None if all is well.

    shapes    of the weights that can be masked; others: why each other parameter cannot, to follow its name
    written   how the user says what stays dense, {} in the place of the names
    """
    problem = _dense_problem(model, list(shapes), others, topology, written)
    if problem is not None:
        return ("topology", "dense"), problem
    masked = {name: shape for name, shape in shapes.items() if topology.masks(name)}
    weights, sparsity = sum(map(prod, masked.values())), 1 - Decimal(str(topology.density))
    if round(topology.density * weights) == weights:
        return ("sparsity",), f"a sparsity of {sparsity} leaves all {weights:,} weights active; allowed: a higher one"
    if topology.distribution == "global":
        return None
    counts = exact_counts(masked, DISTRIBUTIONS[topology.distribution](masked, topology.density))
    empty = next((name for name in masked if not counts[name]), None)
    if empty is None:
        return None
    return ("sparsity",), (
        f"a sparsity of {sparsity} leaves none of the {prod(masked[empty])} weights of {empty}; allowed: one that "
        "leaves every layer a weight"
    )


def _dense_problem(
    model: str, maskable: Sequence[str], others: Mapping[str, str], topology: Topology, written: str
) -> str | None:
    """Return what is wrong with what a topology leaves dense: a name of nothing, nothing left, or too little."""
    known = [*maskable, *others]
    for pattern in topology.dense:
        if not any(names(pattern, name) for name in known):
            modules = dict.fromkeys(name.rpartition(".")[0] for name in known if "." in name)
            nearest = ", ".join(get_close_matches(pattern, [*known, *modules], n=5, cutoff=0))
            return f"{pattern!r} is no weight of two or more dimensions, and no module, of {model}; nearest: {nearest}"
    if left := [name for name in others if topology.masks(name)]:
        named = ", ".join(f'"{name}"' for name in left[:MOST_NAMES])
        more = f", and {len(left) - MOST_NAMES} more" if len(left) > MOST_NAMES else ""
        return (
            f"{left[0]} of {model} cannot be masked: it {others[left[0]]}. Say that it stays dense: "
            f'{written.format(named)}{more}; patterns such as "encoder.*" are allowed'
        )
    if not maskable:
        return f"{model} has no weight that can be masked"
    if not any(topology.masks(name) for name in maskable):
        return f"all weights of {model} are left dense; a sparse network needs one that is masked"
    return None
