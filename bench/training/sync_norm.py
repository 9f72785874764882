"""Batch norm over a batch that is divided among ranks: statistics of the whole batch, as a process alone has them.

torch.nn.SyncBatchNorm does it on a GPU. On a CPU, where that one refuses, a batch norm of ours computes the same from
all-reduced sums; parameters, buffers and their names are those of the batch norm that was there.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.errors import UserError
from bench.models.ghost import GhostBatchNorm2d
from bench.spec.run import RunSpec


def synchronise(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the model with every batch norm replaced by one over all ranks; parameters and buffers stay the same.

    A network of ghost batches is left as it is: each rank has whole ones.
    """
    if any(isinstance(module, GhostBatchNorm2d) for module in model.modules()):
        return model
    if device.type != "cpu":
        synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return synchronised
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = CpuSyncBatchNorm
    return model


def check_ghosts(spec: RunSpec, ranks: int) -> None:
    """Refuse so many ranks where their ghost batches are not those of a process alone: the run would be another one."""
    ghost = int(spec.model.arguments.get("ghost_batch") or 0)
    for images in (spec.batch_size, spec.data.train_images % spec.batch_size) if ghost else ():
        each, over = divmod(images, ranks)
        shares = [each + (rank < over) for rank in range(ranks)]
        if [size for share in shares for size in _ghosts(share, ghost)] != _ghosts(images, ghost):
            raise UserError(
                f"model.ghost_batch: {ranks} processes divide a batch of {images} into {shares}, which are not the "
                f"ghost batches of {ghost} that one process makes of it"
            )


def _ghosts(images: int, ghost: int) -> list[int]:
    return [min(ghost, images - first) for first in range(0, images, ghost)]


class CpuSyncBatchNorm(_BatchNorm):
    """Batch norm of [N, C, ...], in float32 at least; while training by the statistics of all ranks' inputs."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # a compiled graph cannot hold the all-reduce
    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        others = [0, *range(2, x.ndim)]
        shape = (1, -1, *[1] * (x.ndim - 2))
        count = x.new_full((1,), x.numel() / x.shape[1])
        totals = _total(torch.cat([x.sum(others), count]))
        mean, count = totals[:-1] / totals[-1], totals[-1]
        # Twice over the batch, because the mean of squares less the squared mean cancels where the mean is large.
        centred = x - mean.view(shape)
        variance = _total(centred.square().sum(others)) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        out: Tensor = centred * scale.view(shape)
        if self.bias is not None:
            out = out + self.bias.view(shape)
        return out.to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept what the batch norm that this one replaces accepts, of any number of dimensions."""

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        """Move the running statistics as torch's batch norm does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        factor = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.mul_(1 - factor).add_(mean, alpha=factor)
        self.running_var.mul_(1 - factor).add_(unbiased_variance, alpha=factor)


class _Total(torch.autograd.Function):
    """Sum over ranks; what a rank's summand is worth to the loss of all ranks is the sum of what each gets of it."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        return _all_reduced(values)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _all_reduced(gradient)


def _total(values: Tensor) -> Tensor:
    total: Tensor = _Total.apply(values)
    return total


def _all_reduced(values: Tensor) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
