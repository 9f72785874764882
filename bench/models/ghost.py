"""Batch norm over a fixed number of images at a time, whatever the batch is (Hoffer et al. 2017).

The released ImageNet code trains on two GPUs, whose batch norms see 64 images each. With ghost batches of 64 one
process, or two, compute the same.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

M = TypeVar("M", bound=nn.Module)


class GhostBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of [N, C, H, W], in training over each `ghost_batch` images of it; running statistics of the first."""

    ghost_batch: int

    def forward(self, input: Tensor) -> Tensor:
        """Return [N, C, H, W], normalised."""
        if not self.training or len(input) <= self.ghost_batch:
            return super().forward(input)
        size, own = self.ghost_batch, (self.weight, self.bias, True, 0.0, self.eps)
        first, *others = (input[start : start + size] for start in range(0, len(input), size))
        return torch.cat([super().forward(first), *(functional.batch_norm(part, None, None, *own) for part in others)])


def ghosts(model: M, ghost_batch: int) -> M:
    """Return the model, its batch norms over so many images at a time; parameters and buffers stay the same."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = GhostBatchNorm2d
            module.ghost_batch = ghost_batch  # type: ignore[assignment]
    return model
