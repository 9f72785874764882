"""What a history says of a run besides numbers: it learns nothing, its weights never moved, a layer has no weight."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.models.predict import member_logits
from bench.spec.run import RunSpec

# A mean training loss of this share of that of guessing, or more, is chance.
CHANCE = 0.99
# A bias that began at zero moves by this much at any rate, however small.
ROUNDING = 1e-12
UNMOVED = "no weight differs from its initial value"


class CutOffError(Exception):
    """No path is left from the images to the output of a network."""


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


def check_connected(model: nn.Module, image_size: int, empty: str) -> None:
    """Raise CutOffError if the output no longer depends on the images: its gradient by them is zero, exactly.

    That of a layer without a weight is, and so it is of all before it; a residual branch may be empty. `empty` says
    which layers are, for the message.
    """
    device = next(model.parameters()).device
    images = torch.randn(8, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    images = images.to(device).requires_grad_()
    mode = model.training
    logits = member_logits(model.eval(), model, images, None)
    model.train(mode)
    # Not their sum: a last batch norm, or a softmax, may hold that constant.
    (gradient,) = torch.autograd.grad(logits.square().sum(), images, allow_unused=True)
    if gradient is None or not gradient.any():
        raise CutOffError(f"{empty}, and its output no longer depends on its images; lower the sparsity")
