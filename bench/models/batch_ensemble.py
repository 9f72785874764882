"""BatchEnsemble (Wen et al. 2020): members share every weight, scaled by a rank-one factor of their own.

As in uncertainty-baselines, baselines/cifar/batchensemble.py: fast weights on the inputs (alpha) and outputs (gamma) of
every convolution and of the classifier, whose bias is a member's own; batch norm is shared; every member sees every
image of a batch, in member-major order. The fast weights scale a copy of the weight for each member rather than the
activations, which is the same layer up to rounding: weights are the smaller tensors, forward and backward.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.models.members import Forward, SameNames, tiled
from bench.spec.run import BatchEnsemble

# What a layer holds for each member: UB scales the learning rate of all three, and decays the bias alone.
FAST_WEIGHTS = ("alpha", "gamma")
MEMBERS_OWN = (*FAST_WEIGHTS, "bias")


class MemberConv2d(nn.Conv2d):
    """A convolution of an input [members * B, c_in, H, W]; alpha [members, c_in], gamma and bias [members, c_out]."""

    alpha: nn.Parameter
    gamma: nn.Parameter

    def forward(self, input: Tensor) -> Tensor:
        size = self.weight.shape[0] // self.groups, self.weight.shape[1]
        outputs = []
        for member, x in enumerate(input.chunk(len(self.alpha))):
            # One row of the input factors an output channel: those of the group that it reads.
            alpha = self.alpha[member].view(self.groups, 1, -1).expand(self.groups, *size).flatten(0, 1)
            factors = self.gamma[member].unsqueeze(1) * alpha
            bias = None if self.bias is None else self.bias[member]
            outputs.append(self._conv_forward(x, self.weight * factors[:, :, None, None], bias))
        return torch.cat(outputs)


class MemberLinear(nn.Linear):
    """A linear layer of an input [members * B, ..., in]; alpha [members, in], gamma and bias [members, out]."""

    alpha: nn.Parameter
    gamma: nn.Parameter

    def forward(self, input: Tensor) -> Tensor:
        outputs = []
        for member, x in enumerate(input.chunk(len(self.alpha))):
            bias = None if self.bias is None else self.bias[member]
            factors = self.gamma[member].unsqueeze(1) * self.alpha[member]
            outputs.append(functional.linear(x, self.weight * factors, bias))
        return torch.cat(outputs)


MEMBER_LAYERS: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: MemberConv2d, nn.Linear: MemberLinear}


class BatchEnsembleNetwork(SameNames):
    """inputs float32 [members * B, 3, H, W], member-major -> logits [members * B, classes]; targets alike."""

    def __init__(self, backbone: nn.Module, spec: BatchEnsemble) -> None:
        for module in backbone.modules():
            if type(module) in MEMBER_LAYERS:  # a subclass computes something of its own, which stays
                _divide(cast("nn.Conv2d | nn.Linear", module), spec)
        super().__init__(backbone, spec.members)
        self._fast_learning_rate = spec.fast_learning_rate

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.backbone(inputs)
        return logits

    def training_batch(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the batch once for each member, one member after the other."""
        return tiled(images, self.members, dim=0), tiled(labels, self.members, dim=0)

    def member_logits(self, forward: Forward, images: Tensor, seed: int | None) -> Tensor:  # noqa: ARG002, nothing is drawn
        """Predict a share of the images at a time, so that a pass holds about as many inputs as there are images."""
        logits = []
        for share in images.chunk(self.members):
            rows = forward(tiled(share, self.members, dim=0))
            logits.append(rows.reshape(self.members, len(share), -1))
        return torch.cat(logits, dim=1)

    def learning_rate_factors(self) -> dict[str, float]:
        """Return the factor of fast weights and of biases that are a member's own (UB, fast_weight_lr_multiplier)."""
        if self._fast_learning_rate == 1:
            return {}
        return dict.fromkeys(self._own(MEMBERS_OWN), self._fast_learning_rate)

    def undecayed(self) -> set[str]:
        """Return alpha and gamma: edward2's layers regularise kernel and bias alone."""
        return set(self._own(FAST_WEIGHTS))

    def _own(self, kinds: tuple[str, ...]) -> list[str]:
        names = []
        for name, module in self.named_modules():
            if type(module) in MEMBER_LAYERS.values():
                names += [f"{name}.{kind}" for kind in kinds if getattr(module, kind) is not None]
        return names


def build_batch_ensemble(factory: Callable[..., nn.Module], classes: int, spec: BatchEnsemble) -> BatchEnsembleNetwork:
    """Return the network of a factory(classes) with fast weights; its shared weights are those of the plain network."""
    return BatchEnsembleNetwork(factory(classes=classes), spec)


def _divide(layer: nn.Conv2d | nn.Linear, spec: BatchEnsemble) -> None:
    """Give a layer its members, in place: parameter names, configuration and weight stay, as in torch's parametrize."""
    kind = MEMBER_LAYERS[type(layer)]
    c_in = layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features
    c_out = layer.weight.shape[0]
    layer.__class__ = kind  # type: ignore[assignment]
    for name, channels in (("alpha", c_in), ("gamma", c_out)):
        draws = torch.empty(spec.members, channels, device=layer.weight.device).normal_(1.0, spec.fast_std)
        layer.register_parameter(name, nn.Parameter(draws))
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.detach().repeat(spec.members, 1))
