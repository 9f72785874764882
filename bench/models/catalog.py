"""The networks by name: their arguments and the table of their weight layers, without importing torch.

A plan prices thousands of cells, so FLOPs and layer-wise densities come from these tables; the tests hold each table
against the real module, traced.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer: parameter name, weight shape, output positions (height x width; linear: 1)."""

    name: str
    shape: tuple[int, ...]
    positions: int

    @property
    def size(self) -> int:
        """Number of weights."""
        return prod(self.shape)

    @property
    def flops(self) -> int:
        """FLOPs of a dense forward pass of one image, a multiply-add counted as two."""
        return 2 * self.size * self.positions


@dataclass(frozen=True)
class Network:
    """A built-in network: `module:class` to build, arguments with their defaults, and its layer table.

    layers(classes, image_size, **arguments) -> layers in the order of the module's parameters; ValueError for
    arguments that make no network.
    """

    factory: str
    arguments: dict[str, int]
    layers: Callable[..., tuple[Layer, ...]]


def wide_resnet_layers(classes: int, image_size: int, *, depth: int, width: int) -> tuple[Layer, ...]:
    """Weight layers of WRN-depth-width (bench.models.wide_resnet), in parameter order."""
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"a Wide ResNet has depth 6n + 4 (10, 16, 22, 28, ...), not {depth}")
    if width < 1:
        raise ValueError(f"a Wide ResNet has width at least 1, not {width}")
    positions = image_size * image_size
    layers = [Layer("conv1.weight", (16, 3, 3, 3), positions)]
    c_in = 16
    for group, c_out in enumerate((16 * width, 32 * width, 64 * width), start=1):
        if group > 1:
            positions //= 4
        for block in range((depth - 4) // 6):
            prefix = f"block{group}.{block}"
            layers.append(Layer(f"{prefix}.conv1.weight", (c_out, c_in, 3, 3), positions))
            layers.append(Layer(f"{prefix}.conv2.weight", (c_out, c_out, 3, 3), positions))
            if c_in != c_out:
                layers.append(Layer(f"{prefix}.shortcut.weight", (c_out, c_in, 1, 1), positions))
            c_in = c_out
    layers.append(Layer("fc.weight", (classes, c_in), 1))
    return tuple(layers)


NETWORKS: dict[str, Network] = {
    "wide_resnet": Network("bench.models.wide_resnet:WideResNet", {"depth": 28, "width": 10}, wide_resnet_layers),
}
