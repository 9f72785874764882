"""MIMO (Havasi et al. 2021): one network reads `members` images at once, side by side as channels, and classifies each.

As in uncertainty-baselines, baselines/cifar/mimo.py: a step repeats its batch, every member reads the repeated batch in
an order of its own, and the loss is summed over members. Unlike there the batch is shuffled as a whole, not in the
shards of 8 cores; and channels are ordered by member first, which is the same network with permuted weights.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.models.members import Forward, SameNames, tiled
from bench.spec.run import Mimo
from bench.spec.seeds import derived_seed


class MimoNetwork(SameNames):
    """inputs float32 [N, members * 3, H, W] -> logits [N, members, classes]; targets int64 [N, members]."""

    def __init__(self, backbone: nn.Module, spec: Mimo, classes: int) -> None:
        super().__init__(backbone, spec.members)
        self.classes = classes
        self.loss_terms = spec.members
        self.batch_repetitions = spec.batch_repetitions
        self.input_repetition = spec.input_repetition

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.backbone(inputs)
        return logits.reshape(len(logits), self.members, self.classes)

    def training_batch(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return batch_repetitions * B inputs; N - floor(N * (1 - input_repetition)) show one image to all members."""
        indices = self._draw(len(images), seed).to(images.device)
        inputs = torch.cat([images[index] for index in indices], dim=1)
        return inputs, torch.stack([labels[index] for index in indices], dim=1)

    def member_logits(self, forward: Forward, images: Tensor, seed: int | None) -> Tensor:  # noqa: ARG002, nothing is drawn
        """Show every member the same image."""
        return forward(tiled(images, self.members, dim=1)).transpose(0, 1)

    def _draw(self, batch: int, seed: int) -> Tensor:
        """Return which image each member reads in each input, int64 [members, N], on the CPU."""
        generator = torch.Generator().manual_seed(derived_seed(seed, "mimo"))
        repeated = torch.arange(batch).repeat(self.batch_repetitions)
        order = repeated[torch.randperm(len(repeated), generator=generator)]
        own = int(len(order) * (1 - self.input_repetition))
        shuffled = [order[:own][torch.randperm(own, generator=generator)] for _ in range(self.members)]
        return torch.stack([torch.cat([first, order[own:]]) for first in shuffled])


def build_mimo(factory: Callable[..., nn.Module], classes: int, spec: Mimo) -> MimoNetwork:
    """Return the network of a factory(classes, channels) that reads and classifies `members` images."""
    return MimoNetwork(factory(classes=classes * spec.members, channels=3 * spec.members), spec, classes)
