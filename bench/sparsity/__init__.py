"""The heart of the suite: layer-wise density, masks, and the drop-and-grow updates of dynamic sparse training.

DynamicSparsity brings them into a training loop of one's own. It is imported when it is asked for, since plans need
densities alone, and no torch.
"""

from typing import TYPE_CHECKING, Any

from bench.sparsity.distribution import DISTRIBUTIONS, erdos_renyi_kernel, exact_counts, uniform

if TYPE_CHECKING:
    from bench.sparsity.dynamic import DynamicSparsity

__all__ = ["DISTRIBUTIONS", "DynamicSparsity", "erdos_renyi_kernel", "exact_counts", "uniform"]


def __getattr__(name: str) -> Any:
    if name == "DynamicSparsity":
        from bench.sparsity.dynamic import DynamicSparsity

        return DynamicSparsity
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
