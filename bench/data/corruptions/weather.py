"""Fog, frost and snow. `levels` is float64 [B, 3, H, W] in 0..255."""

from functools import cache

import torch
from torch import Tensor

from bench.data.corruptions.draws import Draws
from bench.data.corruptions.filters import along_rows_and_columns, clipped_zoom_matrix, divide, motion

FROST_TINT = (0.80, 0.92, 1.0)


def fog(levels: Tensor, draws: Draws, amount: float, decay: float) -> Tensor:
    """Add `amount` times a plasma fractal and rescale, so that the largest value of the image stays the largest."""
    values = divide(levels, 255)
    size = levels.shape[-1]
    brightest = values.amax(dim=(1, 2, 3), keepdim=True)
    clouds = plasma(draws, size, decay)[:, None, :size, :size]
    return (values + amount * clouds) * brightest / (brightest + amount) * 255


def snow(
    levels: Tensor,
    draws: Draws,
    mean: float,
    deviation: float,
    zoom: float,
    threshold: float,
    radius: float,
    sigma: float,
    keep: float,
) -> Tensor:
    """Bleach the image by 1 - `keep`, and let flakes fall: enlarged normal noise above a threshold, blurred by motion.

    The angle of the fall is between -135 and -45 degrees, each image's own; the flakes are added again turned by 180.
    """
    size = levels.shape[-1]
    flakes = along_rows_and_columns(draws.normal(size, size), _zoom(size, zoom, levels.device)) * deviation + mean
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp_(max=1)
    flakes = motion((flakes * 255).floor_()[:, None], draws.uniform() * 90 - 135, radius, sigma)
    grey = levels[:, :1] * 0.299 + levels[:, 1:2] * 0.587 + levels[:, 2:] * 0.114
    bleached = levels * keep + torch.maximum(levels, grey * 1.5 + 127.5) * (1 - keep)
    return bleached + flakes + flakes.flip(2, 3)


def frost(levels: Tensor, draws: Draws, keep: float, amount: float) -> Tensor:
    """Blend `keep` times the image with `amount` times ice.

    The released generator cuts the ice out of six photographs, which are not at hand: `ice` draws a texture in their
    place, so that this type resembles the released one in strength and look, not in its pixels.
    """
    return levels * keep + ice(draws, levels.shape[-1]) * amount


def ice(draws: Draws, size: int) -> Tensor:
    """Return an icy texture, float64 [B, 3, size, size] in 0..255: bluish plasma, white ridges, and streaks."""
    sheet = plasma(draws, size, 2.0)[:, :size, :size]
    ridges = 1 - (2 * plasma(draws, size, 1.6)[:, :size, :size] - 1).abs()
    specks = torch.where(draws.uniform(size, size) < 0.12, 255.0, 0.0)
    streaks = divide(motion(specks[:, None], draws.uniform() * 360, 8, 3)[:, 0], 255)
    white = (ridges * ridges * ridges * 0.75 + streaks * 0.9).clamp_(max=1)[:, None]
    tint = torch.tensor(FROST_TINT, dtype=torch.float64, device=sheet.device).view(1, 3, 1, 1)
    blue = (sheet * 0.6 + 0.15)[:, None] * tint
    return (blue + (1 - blue) * white) * 255


def plasma(draws: Draws, size: int, decay: float) -> Tensor:
    """Return plasma fractals, float64 [B, S, S] from 0 to 1, S the power of two from `size` on.

    The diamond-square algorithm on a torus; the wobble is 100 squared at first, whatever the size, and shrinks by
    `decay` squared at each halving of the step.
    """
    side = 1 << (size - 1).bit_length()
    signed = draws.uniform(side * side - 1) * 2 - 1
    heights = signed.new_zeros(len(signed), 1, 1)
    wobble, used = 100.0, 0

    def wobbled(total: Tensor) -> Tensor:
        nonlocal used
        part = signed[:, used : used + total[0].numel()].view_as(total)
        used += total[0].numel()
        return total / 4 + part * (wobble * wobble)

    while heights.shape[-1] < side:
        count = heights.shape[-1]
        # [B, row, row between, column, column between]: corners at (0, 0), centres at (1, 1), edges elsewhere.
        finer = heights.new_empty(len(heights), count, 2, count, 2)
        pairs = heights + heights.roll(-1, 1)
        centres = wobbled(pairs + pairs.roll(-1, 2))
        finer[:, :, 0, :, 0], finer[:, :, 1, :, 1] = heights, centres
        finer[:, :, 0, :, 1] = wobbled(centres + centres.roll(1, 1) + heights + heights.roll(-1, 2))
        finer[:, :, 1, :, 0] = wobbled(centres + centres.roll(1, 2) + pairs)
        heights = finer.flatten(3).flatten(1, 2)
        wobble /= decay
    heights = heights - heights.amin(dim=(1, 2), keepdim=True)
    return heights / heights.amax(dim=(1, 2), keepdim=True)


@cache
def _zoom(size: int, factor: float, device: torch.device) -> Tensor:
    return torch.tensor(clipped_zoom_matrix(size, factor), device=device)
