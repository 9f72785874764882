"""Wide ResNet for 32x32 images (Zagoruyko & Komodakis 2016), the paper's network on CIFAR.

Pre-activation blocks; 3x3 convolutions without bias; a 1x1 convolution where the width changes; initialised as in the
released code: convolutions N(0, sqrt(2 / (k*k*c_out))), batch norm 1/0, linear layer torch's default with zero bias.
"""

import math
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from bench.models.parts import Part, chain


class WideBasicBlock(nn.Module):
    """BN-ReLU-conv3x3-BN-ReLU-conv3x3 plus identity; [N, c_in, H, W] -> [N, c_out, H/stride, W/stride]."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.dropout: nn.Module = nn.Identity()  # where MC dropout acts (bench.models.dropout)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.shortcut = None if c_in == c_out else nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = functional.relu(self.bn1(x), inplace=True)
        # As released: where the width changes, the shortcut reads the activated input, not the raw one.
        residual = x if self.shortcut is None else self.shortcut(activated)
        out = self.dropout(self.conv1(activated))
        out = self.conv2(functional.relu(self.bn2(out), inplace=True))
        return cast(Tensor, out + residual)


class WideResNet(nn.Module):
    """WRN-depth-width; float images [N, channels, H, W] (H and W multiples of 4) -> logits [N, classes]."""

    def __init__(self, depth: int, width: int, classes: int, channels: int = 3) -> None:
        super().__init__()
        per_group = (depth - 4) // 6  # the catalog refuses other depths
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.block1 = _group(per_group, 16, 16 * width, stride=1)
        self.block2 = _group(per_group, 16 * width, 32 * width, stride=2)
        self.block3 = _group(per_group, 32 * width, 64 * width, stride=2)
        self.bn = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, classes)
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        return _classify(self, self.block3(self.block2(self.block1(self.conv1(x)))))

    def parts(self) -> tuple[Part, ...]:
        """Return stem, blocks and classifier (bench.models.parts)."""
        groups = {"block1": self.block1, "block2": self.block2, "block3": self.block3}
        blocks = [chain(f"{name}.{index}") for name, group in groups.items() for index in range(len(group))]
        return (chain("conv1"), *blocks, Part(("bn", "fc"), _classify))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
        nn.init.zeros_(self.fc.bias)


def _group(blocks: int, c_in: int, c_out: int, stride: int) -> nn.Sequential:
    first = WideBasicBlock(c_in, c_out, stride)
    return nn.Sequential(first, *(WideBasicBlock(c_out, c_out, 1) for _ in range(blocks - 1)))


def _classify(owner: nn.Module, x: Tensor) -> Tensor:
    x = functional.relu(owner.get_submodule("bn")(x), inplace=True)
    return cast(Tensor, owner.get_submodule("fc")(x.mean(dim=(2, 3))))
