"""How a global density is divided over layers, and how densities become exact counts. Pure Python: plans use it.

Erdos-Renyi-kernel: Evci et al. 2020 (RigL), section 3; Mocanu et al. 2018 for the linear case.
"""

from collections.abc import Mapping
from decimal import Decimal
from math import floor, prod


def density_of(sparsity: float) -> float:
    """Return 1 - sparsity as it is written: of 0.8 the float 0.2, which 1 - 0.8 is not."""
    return float(1 - Decimal(str(sparsity)))


def erdos_renyi_kernel(shapes: Mapping[str, tuple[int, ...]], density: float) -> dict[str, float]:
    """Return the density of each layer: eps * sum(shape) / prod(shape), with the mean over weights equal to `density`.

    Layers that would exceed 1 become dense and eps is solved again, the largest first. ValueError unless there is a
    layer and 0 < density <= 1.
    """
    _check(shapes, density)
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    raw = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    dense: set[str] = set()
    while len(dense) < len(shapes):
        budget = density * sum(sizes.values()) - sum(sizes[name] for name in dense)
        epsilon = budget / sum(raw[name] * sizes[name] for name in shapes if name not in dense)
        largest = max(raw[name] for name in shapes if name not in dense)
        if epsilon * largest <= 1:
            return {name: 1.0 if name in dense else epsilon * raw[name] for name in shapes}
        dense |= {name for name in shapes if raw[name] == largest}
    return dict.fromkeys(shapes, 1.0)


def uniform(shapes: Mapping[str, tuple[int, ...]], density: float) -> dict[str, float]:
    """Return the same density for every layer; ValueError as for erdos_renyi_kernel."""
    _check(shapes, density)
    return dict.fromkeys(shapes, density)


DISTRIBUTIONS = {"erk": erdos_renyi_kernel, "uniform": uniform}


def exact_counts(shapes: Mapping[str, tuple[int, ...]], densities: Mapping[str, float]) -> dict[str, int]:
    """Return the number of nonzeros of each layer, summing to the rounded total (largest remainders are rounded up).

    Each count is within 1 of density * size; ties between remainders go to the layer that comes first.
    """
    ideal = {name: densities[name] * prod(shape) for name, shape in shapes.items()}
    # A density of 1 means all weights, whatever the last bit of the product says.
    counts = {name: min(prod(shape), floor(ideal[name] + 1e-9)) for name, shape in shapes.items()}
    missing = round(sum(ideal.values())) - sum(counts.values())
    by_remainder = sorted(shapes, key=lambda name: counts[name] - ideal[name])
    for name in by_remainder[:missing]:
        counts[name] += 1
    return counts


def _check(shapes: Mapping[str, tuple[int, ...]], density: float) -> None:
    if not shapes:
        raise ValueError("no layer to divide the density over")
    if not 0 < density <= 1:
        raise ValueError(f"density must be in (0, 1], not {density}")
