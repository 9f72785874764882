"""Spatter: drops of water or splashes of mud, where blurred noise exceeds a threshold.

The water's relief comes from OpenCV's Canny edges, chamfer distance and histogram equalisation, each here as batched
tensor code on [B, H, W] with the same integer arithmetic. One departure: noise above 1 is white, where the released
code's conversion to 8 bits wraps around.
"""

import torch
from torch import Tensor
from torch.nn import functional

from bench.data.corruptions.draws import Draws
from bench.data.corruptions.filters import divide, gaussian

WATER = (175.0, 238.0, 238.0)
MUD = (63.0, 42.0, 20.0)
CANNY_LOW, CANNY_HIGH = 50, 150
# tan(22.5 degrees) in OpenCV's fixed-point arithmetic of 15 bits.
_TAN_22 = 13573
# The steps of OpenCV's 5x5 chamfer distance (straight, diagonal, knight's move) in units of which sums are exact.
UNITS = 10_000
_STEPS = {1: 10_000, 2: 14_000, 5: 21_969}
_MOVES = [(i, j, _STEPS[i * i + j * j]) for i in range(-2, 3) for j in range(-2, 3) if i * i + j * j in _STEPS]
# In pixels.
FARTHEST = 20
_RELIEF = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))


def spatter(
    levels: Tensor, draws: Draws, mean: float, deviation: float, sigma: float, threshold: float, last: float, mud: float
) -> Tensor:
    """Cover the image with water (`mud` 0; `last` is its intensity) or mud (1; the blur of its edge, in pixels).

    The liquid is noise of `mean` and `deviation`, blurred by `sigma` pixels, where it exceeds `threshold`.
    """
    size = levels.shape[-1]
    liquid = gaussian(draws.normal(size, size), sigma) * deviation + mean
    if mud:
        cover = gaussian((liquid > threshold).double(), last)
        cover = torch.where(cover < 0.8, 0.0, cover)[:, None]
        return levels * (1 - cover) + _colour(MUD, levels) * cover
    liquid = (torch.where(liquid < threshold, 0.0, liquid) * 255).clamp_(max=255).floor_()
    drops = liquid * relief(liquid)
    # Without a drop there is nothing to divide (the released code would divide 0 by 0).
    drops = drops / drops.amax(dim=(1, 2), keepdim=True).clamp_(min=1) * last
    return levels + _colour(WATER, levels) * drops[:, None]


def relief(liquid: Tensor) -> Tensor:
    """Return how water shines, levels float64 [B, H, W], from the distance of each pixel to the edges of the liquid."""
    distance = chamfer_distance(canny(liquid))
    distance = equalize(divide(_sum_3x3(distance), 9 * UNITS).floor_())
    lit = _correlate_3x3(distance, _RELIEF).clamp_(0, 255)
    return divide(_sum_3x3(lit), 9).round_()


def canny(levels: Tensor) -> Tensor:
    """Return the edges of integer levels float64 [B, H, W] as bool: cv2.Canny(levels, CANNY_LOW, CANNY_HIGH)."""
    padded = functional.pad(levels, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    along = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    dx, dy = across[:, :, 2:] - across[:, :, :-2], along[:, 2:] - along[:, :-2]
    x, y = dx.abs(), dy.abs()
    strength = x + y
    around = functional.pad(strength, (1, 1, 1, 1))

    def neighbour(i: int, j: int) -> Tensor:
        return _window(around, i, j, 1)

    horizontal = y * 2**15 < x * _TAN_22
    vertical = y * 2**15 > x * (_TAN_22 + 2**16)
    falling = dx * dy >= 0
    # Larger than one neighbour across the edge, and not smaller than (on a diagonal: larger than) the other.
    largest = torch.where(
        falling,
        _peak(strength, neighbour(-1, -1), neighbour(1, 1)),
        _peak(strength, neighbour(-1, 1), neighbour(1, -1)),
    )
    largest = torch.where(vertical, (strength > neighbour(-1, 0)) & (strength >= neighbour(1, 0)), largest)
    largest = torch.where(horizontal, (strength > neighbour(0, -1)) & (strength >= neighbour(0, 1)), largest)
    weak = largest & (strength > CANNY_LOW)
    edges = weak & (strength > CANNY_HIGH)
    # Weak pixels are edges if a chain of weak ones connects them with a strong one.
    while True:
        grown = weak & (functional.max_pool2d(edges.double(), 3, stride=1, padding=1) > 0)
        if torch.equal(grown, edges):
            return edges
        edges = grown


def chamfer_distance(edges: Tensor) -> Tensor:
    """Return the distance to the next edge in units of 1/UNITS pixel, at most FARTHEST, float64 from bool [B, H, W].

    cv2.distanceTransform of the other pixels with DIST_L2 and a 5x5 mask: the cheapest way of straight, diagonal and
    knight's moves.
    """
    distance = torch.where(edges, 0, FARTHEST * UNITS).double()
    while True:
        padded = functional.pad(distance, (2, 2, 2, 2), value=FARTHEST * UNITS)
        shorter = distance
        for i, j, cost in _MOVES:
            shorter = torch.minimum(shorter, _window(padded, i, j, 2) + cost)
        if torch.equal(shorter, distance):
            return distance
        distance = shorter


def equalize(values: Tensor) -> Tensor:
    """Return cv2.equalizeHist of float64 [B, H, W] of integers 0..FARTHEST: levels that fill 0..255 evenly."""
    flat = values.flatten(1).long()
    total = flat.shape[1]
    histogram = functional.one_hot(flat, FARTHEST + 1).sum(1)
    lowest = flat.amin(1, keepdim=True)
    others = total - histogram.gather(1, lowest)
    below = histogram.cumsum(1) - (total - others)
    # In float32, as OpenCV (255 / others would multiply by a rounded reciprocal). An image of one value keeps it.
    scale = torch.full_like(others, 255, dtype=torch.float32) / others
    table = (below.float() * scale).round_()
    table = torch.where(others == 0, lowest.float(), table)
    return table.gather(1, flat).view_as(values).to(values.dtype)


def _peak(strength: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return (strength > one) & (strength > other)


def _window(padded: Tensor, i: int, j: int, reach: int) -> Tensor:
    """Return the neighbour (i, j) of every pixel of [B, H, W], from what was padded by `reach`."""
    height, width = padded.shape[1] - 2 * reach, padded.shape[2] - 2 * reach
    return padded[:, reach + i : reach + i + height, reach + j : reach + j + width]


def _correlate_3x3(values: Tensor, kernel: tuple[tuple[int, ...], ...]) -> Tensor:
    padded = functional.pad(values, (1, 1, 1, 1), mode="reflect")
    terms = [_window(padded, i - 1, j - 1, 1) * kernel[i][j] for i in range(3) for j in range(3)]
    return torch.stack(terms).sum(0)


def _sum_3x3(values: Tensor) -> Tensor:
    return _correlate_3x3(values, ((1, 1, 1),) * 3)


def _colour(colour: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(colour, dtype=like.dtype, device=like.device).view(1, 3, 1, 1)
