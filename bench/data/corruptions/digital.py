"""Contrast, brightness, saturation, JPEG, pixels, elastic deformation. `levels` is float64 [B, 3, H, W] in 0..255."""

import io
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.data.corruptions.draws import Draws
from bench.data.corruptions.filters import divide, gaussian


def contrast(levels: Tensor, factor: float) -> Tensor:
    """Shrink the distance of every value to the mean of its channel."""
    # Of integers, so that the order of the summands doesn't matter.
    mean = divide(levels.sum(dim=(2, 3), keepdim=True), levels.shape[2] * levels.shape[3])
    return (levels - mean) * factor + mean


def brightness(levels: Tensor, shift: float) -> Tensor:
    """Add `shift` to the value (HSV) with hue and saturation as they were: channels stay in proportion."""
    value = levels.amax(1, keepdim=True)
    brighter = ((divide(value, 255) + shift) * 255).clamp_(max=255)
    return brighter - (value - levels) * (brighter / value.clamp(min=1))


def saturate(levels: Tensor, factor: float, shift: float) -> Tensor:
    """Multiply the saturation (HSV) by `factor` and add `shift`, with hue and value as they were.

    Grey has hue 0, which is red: where `shift` is not 0, the released code reddens it.
    """
    value = levels.amax(1, keepdim=True)
    chroma = value - levels.amin(1, keepdim=True)
    saturation = chroma / value.clamp(min=1)
    target = (saturation * factor + shift).clamp_(0, 1) * value
    red = torch.tensor([0.0, 1.0, 1.0], dtype=levels.dtype, device=levels.device).view(1, 3, 1, 1)
    # How far below the value a channel is, as a share of the chroma.
    depth = torch.where(chroma > 0, (value - levels) / chroma.clamp(min=1), red)
    return value - depth * target


def jpeg_compression(levels: Tensor, quality: float) -> Tensor:
    """Encode and decode as JPEG with Pillow, image by image, on the host whatever the device."""
    pixels = levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    for image in pixels:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=int(quality))
        image[:] = np.asarray(Image.open(buffer))
    return torch.from_numpy(pixels).to(levels.device).permute(0, 3, 1, 2).double()


def pixelate(levels: Tensor, factor: float) -> Tensor:
    """Resize to int(size * factor) pixels and back with Pillow's box filter, to the same bytes."""
    size = levels.shape[-1]
    small = int(size * factor)
    for matrix in (_box_matrix(size, small, levels.device), _box_matrix(small, size, levels.device)):
        for _ in range(2):
            # Along a row, rounded, then the same along a column, as Pillow does.
            rows = torch.matmul(levels.contiguous(), matrix.T).add_(0.5).floor_()
            levels = rows.transpose(-1, -2)
    return levels


def elastic_transform(levels: Tensor, draws: Draws, alpha: float, sigma: float, affine: float) -> Tensor:
    """Move three points at random by up to `affine`, then every pixel by `alpha` times a smooth random field.

    All three in units of the image's size; `sigma` is the standard deviation of the Gaussian that smooths the field.
    The affine map interpolates at multiples of 1/32 pixel (as OpenCV's warpAffine) and mirrors at the border pixel,
    the deformation at the border (scipy's "reflect").
    """
    size = levels.shape[-1]
    row, column = _affine_positions(size, (draws.uniform(3, 2) * 2 - 1) * (affine * size))
    levels = _sample(levels, row, column, _mirrored)
    if alpha == 0:
        return levels
    # 16 bits, as the exact filters ask.
    field = ((draws.uniform(2, size, size) * 2 - 1) * 2**15).round_() / 2**15
    field = gaussian(field, sigma * size, mode="reflect", truncate=3) * (alpha * size)
    axis = torch.arange(size, dtype=levels.dtype, device=levels.device)
    return _sample(levels, axis[:, None] + field[:, 1], axis + field[:, 0], _reflected)


@cache
def _box_matrix(source: int, target: int, device: torch.device) -> Tensor:
    """Return the box filter of Pillow's resize, [target, source], in its fixed-point arithmetic of 22 bits."""
    scale = source / target
    centre = (np.arange(target)[:, None] + 0.5) * scale
    distance = (np.arange(source) + 0.5 - centre) / max(scale, 1)
    box = ((distance > -0.5) & (distance <= 0.5)).astype(np.float64)
    weights = np.floor(box / box.sum(axis=1, keepdims=True) * 2**22 + 0.5) / 2**22
    return torch.tensor(weights, device=device)


def _affine_positions(size: int, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """Return row and column [B, size, size] where each pixel comes from, multiples of 1/32 pixel.

    shifts float64 [B, 3, 2] (x, y) says where three corners of the middle square end.
    """
    middle, reach = size // 2, size // 3
    corners = torch.tensor([(1, 1), (1, -1), (-1, -1)], dtype=shifts.dtype, device=shifts.device) * reach + middle
    ends = corners + shifts
    # Barycentric coordinates of a pixel in the triangle of ends; the corners mixed by them are its origin.
    (ax, ay), (bx, by), (cx, cy) = (point.unbind(1) for point in ends[..., None, None].unbind(1))
    axis = torch.arange(size, dtype=shifts.dtype, device=shifts.device)
    x, y = axis - ax, axis[:, None] - ay
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    to_b = (x * (cy - ay) - y * (cx - ax)) / area
    to_c = (y * (bx - ax) - x * (by - ay)) / area
    # From the first corner, the second is 2 * reach up and the third 2 * reach up and left.
    row = middle + reach - (to_b + to_c) * (2 * reach)
    column = middle + reach - to_c * (2 * reach)
    return (row * 32).round_() / 32, (column * 32).round_() / 32


def _sample(levels: Tensor, row: Tensor, column: Tensor, fold: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Interpolate linearly at positions [B, H, W]; `fold` brings indices beyond the border back."""
    images, channels, height, width = levels.shape
    pixels = levels.permute(0, 2, 3, 1).reshape(-1, channels)
    first = torch.arange(images, device=levels.device).view(-1, 1, 1) * (height * width)
    top, left = row.floor(), column.floor()
    down, right = (row - top)[..., None], (column - left)[..., None]
    rows = [first + fold(top.long() + step, height) * width for step in (0, 1)]
    columns = [fold(left.long() + step, width) for step in (0, 1)]

    def at(i: int, j: int) -> Tensor:
        return pixels.index_select(0, (rows[i] + columns[j]).flatten()).view(images, height, width, channels)

    upper = at(0, 0) * (1 - right) + at(0, 1) * right
    lower = at(1, 0) * (1 - right) + at(1, 1) * right
    return (upper * (1 - down) + lower * down).permute(0, 3, 1, 2)


def _mirrored(index: Tensor, size: int) -> Tensor:
    """Fold indices back at the border pixel: ... 2 1 0 1 2 ..."""
    index = index.remainder(2 * size - 2)
    return torch.minimum(index, 2 * size - 2 - index)


def _reflected(index: Tensor, size: int) -> Tensor:
    """Fold indices back at the border: ... 1 0 0 1 ..."""
    index = index.remainder(2 * size)
    return torch.minimum(index, 2 * size - 1 - index)
