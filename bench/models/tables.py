"""Layer tables of the built-in networks: every weight of a convolution or linear layer, computed without torch.

A plan prices thousands of cells, so FLOPs and layer-wise densities come from these tables; the tests hold each one
against the real module, traced.
"""

from dataclasses import dataclass
from math import prod

# Residual blocks in each of the four groups (He et al. 2016, table 1), as in torchvision.models.resnet.
RESNET_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
BOTTLENECK_DEPTHS = (50,)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a network: name, shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of weights."""
        return prod(self.shape)


@dataclass(frozen=True)
class Layer(Parameter):
    """The weight of a convolution or linear layer, and its output positions (height x width; linear: 1)."""

    positions: int | float

    @property
    def flops(self) -> int | float:
        """FLOPs of a dense forward pass of one image, a multiply-add counted as two."""
        return 2 * self.size * self.positions


@dataclass(frozen=True)
class Unmaskable(Parameter):
    """A parameter that holds a matrix or kernel and cannot be masked; `why` follows its name in a sentence."""

    why: str


@dataclass(frozen=True)
class Rest:
    """What a network has beside its layers; the built-in ones have nothing, others are traced (bench.models.trace).

    parameters   those that cannot be masked
    flops        of a forward pass of one image, of products that read no layer's weight as it is
    uncounted    names of parameters and operations whose FLOPs torch's counter does not know
    """

    parameters: tuple[Unmaskable, ...] = ()
    flops: int | float = 0
    uncounted: tuple[str, ...] = ()


def wide_resnet_layers(
    classes: int, image_size: int, *, depth: int, width: int, channels: int = 3
) -> tuple[Layer, ...]:
    """Weight layers of WRN-depth-width (bench.models.wide_resnet), in parameter order."""
    blocks = _wide_resnet_group(depth)
    if width < 1:
        raise ValueError(f"a Wide ResNet has width at least 1, not {width}")
    side = image_size
    layers = [Layer("conv1.weight", (16, channels, 3, 3), side * side)]
    c_in = 16
    for group, c_out in enumerate((16 * width, 32 * width, 64 * width), start=1):
        if group > 1:
            side = _halved(side)
        for block in range(blocks):
            prefix = f"block{group}.{block}"
            layers.append(Layer(f"{prefix}.conv1.weight", (c_out, c_in, 3, 3), side * side))
            layers.append(Layer(f"{prefix}.conv2.weight", (c_out, c_out, 3, 3), side * side))
            if c_in != c_out:
                layers.append(Layer(f"{prefix}.shortcut.weight", (c_out, c_in, 1, 1), side * side))
            c_in = c_out
    layers.append(Layer("fc.weight", (classes, c_in), 1))
    return tuple(layers)


def wide_resnet_blocks(*, depth: int, width: int) -> tuple[str, ...]:  # noqa: ARG001, as of every network
    """Names of the residual blocks of a Wide ResNet, in order."""
    blocks = _wide_resnet_group(depth)
    return tuple(f"block{group}.{block}" for group in (1, 2, 3) for block in range(blocks))


def cifar_resnet_layers(classes: int, image_size: int, *, depth: int, channels: int = 3) -> tuple[Layer, ...]:
    """Weight layers of a ResNet whose stem is a 3x3 convolution (bench.models.resnet), in parameter order."""
    stem = Layer("conv1.weight", (64, channels, 3, 3), image_size * image_size)
    return (stem, *_resnet_layers(classes, image_size, depth))


def imagenet_resnet_layers(
    classes: int,
    image_size: int,
    *,
    depth: int,
    channels: int = 3,
    init: str = "fan_out",
    ghost_batch: int = 0,  # noqa: ARG001, of which no layer depends
) -> tuple[Layer, ...]:
    """Weight layers of torchvision's ResNet, in parameter order."""
    if init not in ("fan_out", "fan_in"):
        raise ValueError(f"init is fan_out or fan_in, not {init!r}")
    side = _halved(image_size)
    stem = Layer("conv1.weight", (64, channels, 7, 7), side * side)
    return (stem, *_resnet_layers(classes, _halved(side), depth))


def resnet_blocks(*, depth: int, **_: object) -> tuple[str, ...]:
    """Names of the residual blocks of a ResNet, in order."""
    return tuple(
        f"layer{group}.{block}"
        for group, blocks in enumerate(_resnet_groups(depth), start=1)
        for block in range(blocks)
    )


def _resnet_layers(classes: int, side: int, depth: int) -> list[Layer]:
    """Everything after the stem, whose output is side x side; a bottleneck strides in its 3x3 (torchvision, v1.5)."""
    bottleneck = depth in BOTTLENECK_DEPTHS
    layers = []
    c_in = 64
    for group, blocks in enumerate(_resnet_groups(depth), start=1):
        inner = 64 * 2 ** (group - 1)
        c_out = 4 * inner if bottleneck else inner
        for block in range(blocks):
            before = side * side
            if group > 1 and block == 0:
                side = _halved(side)
            prefix, after = f"layer{group}.{block}", side * side
            if bottleneck:
                layers.append(Layer(f"{prefix}.conv1.weight", (inner, c_in, 1, 1), before))
                layers.append(Layer(f"{prefix}.conv2.weight", (inner, inner, 3, 3), after))
                layers.append(Layer(f"{prefix}.conv3.weight", (c_out, inner, 1, 1), after))
            else:
                layers.append(Layer(f"{prefix}.conv1.weight", (inner, c_in, 3, 3), after))
                layers.append(Layer(f"{prefix}.conv2.weight", (inner, inner, 3, 3), after))
            if c_in != c_out:  # where the stride is 2, the width changes too
                layers.append(Layer(f"{prefix}.downsample.0.weight", (c_out, c_in, 1, 1), after))
            c_in = c_out
    layers.append(Layer("fc.weight", (classes, c_in), 1))
    return layers


def _resnet_groups(depth: int) -> tuple[int, ...]:
    if depth not in RESNET_BLOCKS:
        raise ValueError(f"a ResNet has depth {', '.join(map(str, RESNET_BLOCKS))}, not {depth}")
    return RESNET_BLOCKS[depth]


def _wide_resnet_group(depth: int) -> int:
    """Return the number of blocks in each of the three groups."""
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"a Wide ResNet has depth 6n + 4 (10, 16, 22, 28, ...), not {depth}")
    return (depth - 4) // 6


def _halved(side: int) -> int:
    """Side of an image after stride 2 with the padding that keeps it otherwise."""
    return -(-side // 2)
