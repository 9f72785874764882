"""What training and evaluation ask of a network that holds several members.

It says how a batch is fed, which of its parameters learn differently, and how each member predicts; it knows nothing
of phases, masks or optimisers, and they know nothing of it but this.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Forward = Callable[[Tensor], Tensor]


class MultiMember(nn.Module, ABC):
    """A network that makes `members` predictions of an image.

    forward takes what training_batch returns; logits are [N, classes], or [N, members, classes] where every input is
    classified by all members. The loss is the sum of loss_terms cross-entropies, which the history divides by.
    """

    loss_terms = 1

    def __init__(self, members: int) -> None:
        super().__init__()
        self.members = members

    @abstractmethod
    def training_batch(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return the inputs [N, ...] and targets ([N] or [N, members], as the logits) of a training step.

        images float32 [B, 3, H, W] and labels int64 [B] on the device. The seed names every random draw of the step,
        those of the forward pass that follows included; no draw touches torch's global generators.
        """

    @abstractmethod
    def member_logits(self, forward: Forward, images: Tensor, seed: int | None) -> Tensor:
        """Return the logits [members, B, classes] of images float32 [B, 3, H, W], the module being in evaluation mode.

        forward is this module, possibly compiled or in autocast; the seed names the random draws, so batches that
        should not share them have seeds of their own. None draws nothing: a network that draws its members makes its
        one deterministic prediction, [1, B, classes].
        """

    def loss(self, logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Return the training loss, a scalar: ensemble_loss where a member's class says no other."""
        return ensemble_loss(logits, targets, label_smoothing)

    def learning_rate_factors(self) -> dict[str, float]:
        """Return by parameter name what the learning rate is multiplied with, where that is not 1."""
        return {}

    def undecayed(self) -> set[str]:
        """Return the names of the parameters without weight decay."""
        return set()


class SameNames(MultiMember):
    """A MultiMember that is a backbone, under the backbone's own parameter names: masks and tables fit as they are."""

    backbone: nn.Module

    def __init__(self, backbone: nn.Module, members: int) -> None:
        super().__init__(members)
        # As a submodule the backbone would prefix every name; so both modules hold the same parameters and children.
        self._parameters, self._buffers, self._modules = backbone._parameters, backbone._buffers, backbone._modules
        self._non_persistent_buffers_set = backbone._non_persistent_buffers_set
        object.__setattr__(self, "backbone", backbone)

    def train(self, mode: bool = True) -> "SameNames":
        """Set the mode of the backbone too, whose forward pass may ask for it."""
        self.backbone.training = mode
        super().train(mode)
        return self


def ensemble_loss(logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    """Return the cross-entropy: mean over inputs, sum over the members that classify an input (UB, mimo.py).

    logits [N, classes] with targets [N], or [N, members, classes] with [N, members].
    """
    if logits.ndim == 2:
        return functional.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    mean = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=label_smoothing)
    return mean * logits.shape[1]


def tiled(images: Tensor, times: int, dim: int) -> Tensor:
    """Return the images `times` over along a dimension, in their memory format (Tensor.repeat loses it)."""
    return torch.cat([images] * times, dim=dim)
