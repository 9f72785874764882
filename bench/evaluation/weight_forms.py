"""Weights of tickets in other forms: as bits and values, as sparse rows, and whether kernels for them would help."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.evaluation.clock import compare_times
from bench.spec.run import MASK_PREFIX
from bench.store.latency import SparseLinear, WeightBytes
from bench.store.run_folder import Array

INDEX, BIT = 4, 1 / 8  # bytes


def without_masks(tickets: Sequence[Mapping[str, Array]]) -> tuple[list[dict[str, Array]], list[dict[str, Array]]]:
    """Return the tensors of stored tickets without their masks, and the masks of each by the name of a parameter."""
    tensors = [{n: tensor for n, tensor in ticket.items() if not n.startswith(MASK_PREFIX)} for ticket in tickets]
    masks = [
        {n.removeprefix(MASK_PREFIX): mask for n, mask in ticket.items() if n.startswith(MASK_PREFIX)}
        for ticket in tickets
    ]
    return tensors, masks


def weight_bytes(tickets: Sequence[Mapping[str, Array]], masks: Sequence[Mapping[str, Array]]) -> WeightBytes:
    """Return what the weights of tickets take; masks: bool, by parameter name, of each ticket.

    A convolution's weights are a matrix of output channels by all that they read.
    """
    dense = bits = csr = 0.0
    for tensors, masked in zip(tickets, masks, strict=True):
        for name, tensor in tensors.items():
            dense += tensor.nbytes
            mask = masked.get(name)
            if mask is None:
                bits += tensor.nbytes
                csr += tensor.nbytes
            else:
                kept = int(np.count_nonzero(mask)) * tensor.itemsize
                bits += kept + np.ceil(mask.size * BIT)
                csr += kept + kept // tensor.itemsize * INDEX + (len(mask) + 1) * INDEX
    return WeightBytes(dense=int(dense), bits=int(bits), csr=int(csr))


def two_to_four(masks: Sequence[Mapping[str, Array]]) -> bool | None:
    """Return whether every four weights in a row keep at most two, in all masked layers; None without masks."""
    rows = [mask.reshape(len(mask), -1) for masked in masks for mask in masked.values()]
    if not rows:
        return None
    fours = (np.pad(row, ((0, 0), (0, -row.shape[1] % 4))).reshape(-1, 4) for row in rows)
    return all(bool((four.sum(axis=1) <= 2).all()) for four in fours)


def time_sparse_linear(
    model: nn.Module, masked: Mapping[str, Array], device: torch.device, batch: int, seconds: float
) -> SparseLinear | None:
    """Return the time of the masked linear layers as CSR matrices over that of dense ones, in float32.

    None if there is no such layer, or torch has no such product on this device.
    """
    names = [name for name in masked if isinstance(_layer(model, name), nn.Linear) and name.endswith("weight")]
    if not names:
        return None
    weights = [
        model.get_parameter(name).detach().float().masked_fill(~_mask(masked[name], device), 0) for name in names
    ]
    inputs = [torch.randn(batch, weight.shape[1], device=device) for weight in weights]

    def dense(_: Tensor) -> Tensor:
        return torch.stack([functional.linear(x, w).sum() for x, w in zip(inputs, weights, strict=True)])

    try:
        with warnings.catch_warnings():  # that sparse tensors are in beta
            warnings.simplefilter("ignore", UserWarning)
            rows = [weight.to_sparse_csr() for weight in weights]

        def sparse(_: Tensor) -> Tensor:
            return torch.stack([(w @ x.T).sum() for x, w in zip(inputs, rows, strict=True)])

        sparse(inputs[0])
    except (RuntimeError, NotImplementedError):
        return None
    (timed,) = compare_times({"sparse": sparse}, dense, inputs[0], seconds).values()
    return SparseLinear(layers=len(names), batch=batch, over_dense=timed.over_reference)


def _layer(model: nn.Module, parameter: str) -> nn.Module:
    return model.get_submodule(parameter.rpartition(".")[0])


def _mask(mask: Array, device: torch.device) -> Tensor:
    return torch.from_numpy(mask).to(device=device, dtype=torch.bool)
