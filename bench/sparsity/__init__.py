"""The heart of the suite: layer-wise density, masks, and the drop-and-grow updates of dynamic sparse training."""

from bench.sparsity.distribution import DISTRIBUTIONS, erdos_renyi_kernel, exact_counts, uniform

__all__ = ["DISTRIBUTIONS", "erdos_renyi_kernel", "exact_counts", "uniform"]
