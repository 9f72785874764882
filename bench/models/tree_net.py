"""TreeNet (Lee et al. 2015): members share a trunk, and each has a head of its own, the last residual blocks and up.

uncertainty-baselines has no such network. As in NeuroTrails' baseline of this name (bramgrooten/neurotrails), a head is
a number of residual blocks with the classifier, and the loss is the mean over heads.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from bench.models.members import Forward, MultiMember, ensemble_loss
from bench.models.parts import Divisible, Segment
from bench.spec.run import TreeNet


class TreeNetwork(MultiMember):
    """images float32 [N, 3, H, W] -> logits [N, members, classes]; targets int64 [N, members]."""

    def __init__(self, backbones: list[Divisible], head_blocks: int) -> None:
        super().__init__(len(backbones))
        parts = backbones[0].parts()
        cut = len(parts) - 1 - head_blocks
        if cut < 1:
            raise ValueError(f"head_blocks is at most {len(parts) - 2}, all residual blocks, not {head_blocks}")
        self.trunk = Segment(backbones[0], parts[:cut])
        self.heads = nn.ModuleList(Segment(backbone, parts[cut:]) for backbone in backbones)

    def forward(self, inputs: Tensor) -> Tensor:
        shared = self.trunk(inputs)
        return torch.stack([head(shared) for head in self.heads], dim=1)

    def training_batch(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the batch as it is, its labels for every member."""
        return images, labels.unsqueeze(1).expand(-1, self.members)

    def member_logits(self, forward: Forward, images: Tensor, seed: int | None) -> Tensor:  # noqa: ARG002, nothing is drawn
        """Run the trunk once for all members."""
        return forward(images).transpose(0, 1)

    def loss(self, logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Return the mean over heads, so that the trunk learns at the pace of a single network."""
        return ensemble_loss(logits, targets, label_smoothing) / self.members


def build_tree_net(factory: Callable[..., nn.Module], classes: int, spec: TreeNet) -> TreeNetwork:
    """Return the tree of a factory(classes) whose networks have parts (bench.models.parts).

    Trunk and first head are drawn as one network, so that a tree of one member is that network; the other heads follow.
    """
    backbones = [factory(classes=classes) for _ in range(spec.members)]
    return TreeNetwork([cast(Divisible, backbone) for backbone in backbones], spec.head_blocks)
