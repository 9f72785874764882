"""Blurs: Gaussian, glass, defocus, motion, zoom. `levels` is float64 [B, 3, H, W] in 0..255."""

from functools import cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from bench.data.corruptions.draws import Draws
from bench.data.corruptions.filters import (
    Doubles,
    clipped_zoom_matrix,
    correlate,
    divide,
    exact_weights,
    gaussian,
    motion,
)


def gaussian_blur(levels: Tensor, sigma: float) -> Tensor:
    """Blur with a Gaussian of `sigma` pixels."""
    return gaussian(levels, sigma)


def glass_blur(levels: Tensor, draws: Draws, sigma: float, iterations: float) -> Tensor:
    """Blur, move pixels by at most one, `iterations` times, and blur again.

    The released code means to swap a pixel with its neighbour at (0 or -1, 0 or -1), from the last pixel to the third
    row and column. Its operands are views of one array, so that it copies the neighbour instead; and since a neighbour
    is always visited later, the whole pass is one gather.
    """
    size = levels.shape[-1]
    blurred = gaussian(levels, sigma).floor_()
    pixel = torch.arange(size * size, device=levels.device).view(size, size)
    for _ in range(int(iterations)):
        moved = draws.uniform(2, size - 2, size - 2) < 0.5
        source = pixel.repeat(len(levels), 1, 1)
        source[:, 2:, 2:] -= moved[:, 0] * size + moved[:, 1].long()
        blurred = blurred.flatten(2).gather(2, source.flatten(1)[:, None].expand(-1, 3, -1)).view_as(blurred)
    return gaussian(blurred, sigma)


def defocus_blur(levels: Tensor, radius: float, alias_sigma: float) -> Tensor:
    """Average over a disk of `radius` pixels whose edge is smoothed by a 3x3 Gaussian of `alias_sigma` pixels."""
    return correlate(levels, _disk(radius, alias_sigma))


def motion_blur(levels: Tensor, draws: Draws, radius: float, sigma: float) -> Tensor:
    """Blur with half a Gaussian along a ray, at an angle from -45 to 45 degrees of each image's own."""
    return motion(levels, draws.uniform() * 90 - 45, radius, sigma)


def zoom_blur(levels: Tensor, largest: float) -> Tensor:
    """Average the image and its enlargements by 1, 1.01, 1.02... up to `largest` (as numpy.arange rounds it)."""
    size = levels.shape[-1]
    columns, rows, images = _zooms(size, largest, levels.device)
    # All enlargements at once: along the rows into [..., H, zoom, W], then sums over (zoom, H) along the columns.
    stretched = torch.matmul(levels.contiguous(), columns).view(*levels.shape[:3], -1, size)
    total = torch.matmul(stretched.permute(0, 1, 4, 3, 2).flatten(3), rows).transpose(-1, -2)
    return divide(levels + total, images)


@cache
def _disk(radius: float, alias_sigma: float) -> Doubles:
    """Return the kernel, square and odd, as exact weights."""
    reach = int(radius) + 1
    axis = np.arange(-reach, reach + 1)
    disk = (axis[:, None] ** 2 + axis**2 <= radius**2).astype(np.float64)
    edge = np.exp(-np.array([1, 0, 1]) / (2 * alias_sigma**2))
    smooth = ndimage.convolve(disk / disk.sum(), np.outer(edge, edge) / edge.sum() ** 2, mode="constant")
    return exact_weights(smooth.ravel()).reshape(smooth.shape)


@cache
def _zooms(size: int, largest: float, device: torch.device) -> tuple[Tensor, Tensor, int]:
    """Return matrices [W, zooms * W] and [zooms * H, H] of the different zooms, and how many images are averaged.

    On few pixels neighbouring factors often give the same enlargement, which then counts as often.
    """
    factors = np.arange(1, largest, 0.01)
    matrices = np.stack([clipped_zoom_matrix(size, factor) for factor in factors])
    different, counts = np.unique(matrices, axis=0, return_counts=True)
    columns = different.transpose(2, 0, 1).reshape(size, -1)
    rows = (different * counts[:, None, None]).transpose(0, 2, 1).reshape(-1, size)
    return torch.tensor(columns, device=device), torch.tensor(rows, device=device), len(factors) + 1
