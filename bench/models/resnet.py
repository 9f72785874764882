"""ResNets (He et al. 2016) as torchvision builds and initialises them: v1.5, stride in the 3x3 of a bottleneck.

For 32x32 images the stem is one 3x3 convolution with stride 1 and there is no max-pool, as is common for CIFAR
(kuangliu/pytorch-cifar); everything else, parameter names included, stays torchvision's.
"""

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.resnet import ResNet as TorchvisionResNet

from bench.models.ghost import ghosts
from bench.models.parts import Part, chain
from bench.models.tables import BOTTLENECK_DEPTHS, RESNET_BLOCKS


class ResNet(TorchvisionResNet):  # type: ignore[misc]  # torchvision is not typed
    """torchvision's ResNet that can be cut in parts; float images [N, channels, H, W] -> logits [N, classes]."""

    def __init__(self, depth: int, classes: int, stem: nn.Conv2d) -> None:
        block = Bottleneck if depth in BOTTLENECK_DEPTHS else BasicBlock
        super().__init__(block, list(RESNET_BLOCKS[depth]), num_classes=classes)  # the catalog refuses other depths
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's own
        self.conv1 = stem

    def parts(self) -> tuple[Part, ...]:
        """Return stem, blocks and classifier (bench.models.parts)."""
        blocks = [
            chain(f"layer{group}.{i}") for group in (1, 2, 3, 4) for i in range(len(getattr(self, f"layer{group}")))
        ]
        pooled = chain("avgpool", "fc")
        return (
            chain("conv1", "bn1", "relu", "maxpool"),
            *blocks,
            Part(
                pooled.modules, lambda owner, x: owner.get_submodule("fc")(owner.get_submodule("avgpool")(x).flatten(1))
            ),
        )


def imagenet_resnet(classes: int, depth: int, channels: int = 3, init: str = "fan_out", ghost_batch: int = 0) -> ResNet:
    """Return torchvision's ResNet of depth 18, 34 or 50.

    init          of convolutions, N(0, 2 / fan): "fan_out" as torchvision, "fan_in" as the released ImageNet code
    ghost_batch   batch norm over so many images at a time (bench.models.ghost); 0: over all of a batch
    """
    network = ResNet(depth, classes, nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False))
    if init == "fan_in":
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    return ghosts(network, ghost_batch) if ghost_batch else network


def cifar_resnet(classes: int, depth: int, channels: int = 3) -> ResNet:
    """Return the ResNet of depth 18, 34 or 50 for images of 32x32."""
    network = ResNet(depth, classes, nn.Conv2d(channels, 64, 3, padding=1, bias=False))
    network.maxpool = nn.Identity()
    return network
