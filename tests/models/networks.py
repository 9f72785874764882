"""Networks of a user's own whose weights are not all `weight` of a convolution or linear layer."""

import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VisionTransformer


def with_head(*layers: nn.Module, classes: int) -> nn.Sequential:
    """Return layers that end in 8 channels, pooled and classified."""
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


def plain(classes: int) -> nn.Module:
    return with_head(nn.Conv2d(3, 1, 3), nn.Conv2d(1, 8, 1), classes=classes)


def vision_transformer(classes: int) -> nn.Module:
    return VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=classes)


def weight_norm(classes: int) -> nn.Module:
    return with_head(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3)), classes=classes)


def old_weight_norm(classes: int) -> nn.Module:
    return with_head(nn.utils.weight_norm(nn.Conv2d(3, 8, 3)), classes=classes)


def spectral_norm(classes: int) -> nn.Module:
    return with_head(nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 8, 3)), classes=classes)


def old_spectral_norm(classes: int) -> nn.Module:
    return with_head(nn.utils.spectral_norm(nn.Conv2d(3, 8, 3)), classes=classes)


def orthogonal(classes: int) -> nn.Module:
    """Return a network that cannot be built without values."""
    return with_head(nn.utils.parametrizations.orthogonal(nn.Conv2d(3, 8, 3)), classes=classes)


def transposed(classes: int) -> nn.Module:
    return with_head(nn.Conv2d(3, 8, 3, 2), nn.ConvTranspose2d(8, 8, 3), classes=classes)


class Volume(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.volume = nn.Conv3d(1, 8, (3, 5, 5))
        self.line = nn.Conv1d(8, 8, 3)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.line(self.volume(x.unsqueeze(1)).flatten(2)).mean(dim=2))


class Standardised(nn.Conv2d):
    """Weight standardisation: what the images are convolved with has no zeros where the weight has."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.conv2d(input, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)


def standardised(classes: int) -> nn.Module:
    return with_head(Standardised(3, 8, 3), classes=classes)


def shared(classes: int) -> nn.Module:
    first, again = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
    again.weight = first.weight
    return with_head(nn.Conv2d(3, 8, 3), first, again, classes=classes)


class Tied(nn.Module):
    """Classifies by the table of an embedding."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.token = nn.Embedding(classes, 8)
        self.stem = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, classes, bias=False)
        self.head.weight = self.token.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).mean((2, 3)) + self.token(torch.zeros(1, dtype=torch.long, device=x.device)))


def with_gaps(classes: int) -> nn.Module:
    network = with_head(nn.Conv2d(3, 8, 3), classes=classes)
    network[0].weight = nn.Parameter(torch.randn(8, 6, 3, 3)[:, ::2])
    return network


def one_memory(classes: int) -> nn.Module:
    """Return two layers whose weights are different parameters over the same memory."""
    network = with_head(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), classes=classes)
    network[2].weight = nn.Parameter(network[1].weight.detach().transpose(0, 1))
    return network


def frozen(classes: int) -> nn.Module:
    network = with_head(nn.Conv2d(3, 8, 3), classes=classes)
    network[0].weight.requires_grad_(False)
    return network


def unused(classes: int) -> nn.Module:
    network = with_head(nn.Conv2d(3, 8, 3), classes=classes)
    network[0].spare = nn.Linear(2, 2)
    return network


class Recurrent(nn.Module):
    def __init__(self, classes: int, kind: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.rows = kind(96, 8, batch_first=True)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rows(x.transpose(1, 2).flatten(2))[0][:, -1])


def gru(classes: int) -> nn.Module:
    return Recurrent(classes, nn.GRU)


class Bare(nn.Module):
    """Matrices that are no layer's, one of them of one dimension; a bilinear layer and an embedding."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(3, 8))
        self.flat = nn.Parameter(torch.randn(64))
        self.pair = nn.Bilinear(8, 8, 8)
        self.token = nn.Embedding(4, 8)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = (x.flatten(2).transpose(1, 2) @ self.matrix @ self.flat.view(8, 8)).mean(dim=1)
        return self.head(self.pair(x, x) + self.token(torch.zeros(1, dtype=torch.long, device=x.device)))


class Drawing(nn.Module):
    """Draws from every global generator, when it is built and at every pass, in either mode."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.head = nn.Linear(8, classes)
        with torch.no_grad():
            self.stem.weight *= 1 + 0.1 * random.random() + 0.1 * np.random.rand()  # noqa: NPY002

    def forward(self, x: Tensor) -> Tensor:
        x = functional.dropout(self.stem(x).relu(), 0.2, training=True)
        x = x * (0.9 + 0.2 * random.random()) + 0.1 * np.random.rand()  # noqa: NPY002
        if not x.is_cpu:
            x = x * (0.9 + 0.2 * torch.rand(x.shape).to(x.device))  # of the CPU's generator too
        return self.head(x.mean((2, 3)))


def lazy(classes: int) -> nn.Module:
    return with_head(nn.LazyConv2d(8, 3), classes=classes)
