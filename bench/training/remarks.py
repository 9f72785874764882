"""What a history says of a run besides numbers: it learns nothing, its weights never moved, a layer has no weight."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.catalog import facts_of
from bench.models.predict import member_logits
from bench.sparsity.network import SparseWeights
from bench.spec.run import RunSpec

# A mean training loss of this share of that of guessing, or more, is chance.
CHANCE = 0.99
# A bias that began at zero moves by this much at any rate, however small.
ROUNDING = 1e-12
UNMOVED = "no weight differs from its initial value"


class CutOffError(Exception):
    """No path is left from the images to the output of a network."""


def remarks(
    spec: RunSpec,
    history: Sequence[Mapping[str, Any]],
    model: nn.Module,
    sparse: SparseWeights | None,
    guessing: float,
    initial: Callable[[], Mapping[str, Tensor] | None],
) -> list[str]:
    """Return what the last of the epochs in the history shows for the first time; CutOffError as check_layers.

    guessing is the loss, in nats, of a uniform prediction; initial returns the weights of the start, if they are known.
    """
    empty = without_weight(sparse.nonzeros()) if sparse is not None else None
    found = [at_chance(spec, history, guessing), empty]
    if len(history) == spec.epochs and any(phase.lr.highest for phase in spec.phases):
        began = initial()
        found.append(UNMOVED if began is not None and unmoved(model, began) else None)
    said = {remark for line in history for remark in line.get("warnings", ())}
    new = [remark for remark in found if remark is not None and remark not in said]
    if empty in new:
        check_layers(model, sparse, spec)
    return new


def at_chance(spec: RunSpec, history: Sequence[Mapping[str, Any]], guessing: float) -> str | None:
    """Return what to say when a tenth of the run's epochs in a row, two at least, end at chance; else None.

    history are the epochs so far; guessing is the loss, in nats, of a uniform prediction.
    """
    patience = min(spec.epochs, max(2, math.ceil(spec.epochs / 10)))
    losses = [line["train_loss"] for line in history]
    streak = next((n for n, loss in enumerate(reversed(losses)) if loss < CHANCE * guessing), len(losses))
    if streak != patience:  # it is said once
        return None
    return f"at chance for {streak} epochs: a training loss of {losses[-1]:.4g}, and guessing has {guessing:.4g}"


def without_weight(counts: Mapping[str, int]) -> str | None:
    """Return what to say of layers that are left without an active weight, None if there are none."""
    empty = [name for name, count in counts.items() if not count]
    return f"no weight is left in {', '.join(empty)}" if empty else None


def unmoved(model: nn.Module, initial: Mapping[str, Tensor]) -> bool:
    """Return whether every parameter has its initial value, those apart that are zero: masked, or grown since."""
    return all(
        bool(((weight == 0) | ((weight - initial[name].to(weight.device)).abs() <= ROUNDING)).all())
        for name, weight in model.named_parameters()
    )


def check_layers(model: nn.Module, sparse: SparseWeights | None, spec: RunSpec) -> None:
    """Raise CutOffError if layers are without a weight and none is left through which images reach the output.

    A residual branch may be empty.
    """
    empty = without_weight(sparse.nonzeros()) if sparse is not None else None
    if sparse is not None and empty is not None and not connected(model, sparse.masks, facts_of(spec.data).image_size):
        raise CutOffError(f"{empty}, and its output no longer depends on its images; lower the sparsity")


def connected(model: nn.Module, masks: Mapping[str, Tensor], image_size: int) -> bool:
    """Return whether the output can depend on the images: its gradient by them is exactly zero if it cannot.

    Weights are as they are, or drawn where the masks have them: one that is zero now may learn. The mode of
    the model stays.
    """
    device, mode = next(model.parameters()).device, model.training
    draws = torch.Generator().manual_seed(0)
    drawn = {name: (torch.randn(mask.shape, generator=draws) * mask.cpu()).to(device) for name, mask in masks.items()}
    model.eval()
    try:
        for weights in ({}, drawn):
            images = torch.randn(8, 3, image_size, image_size, generator=draws).to(device).requires_grad_()
            logits = member_logits(model, partial(_with_weights, model, weights), images, None)
            somewhere = torch.randn(logits.shape, generator=draws).to(device)
            (gradient,) = torch.autograd.grad((logits * somewhere).sum(), images, allow_unused=True)
            if gradient is not None and gradient.any():
                return True
    finally:
        model.train(mode)
    return False


def _with_weights(model: nn.Module, weights: dict[str, Tensor], images: Tensor) -> Tensor:
    logits: Tensor = torch.func.functional_call(model, weights, (images,))
    return logits
