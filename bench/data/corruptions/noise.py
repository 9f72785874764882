"""Noise on the values of the pixels: Gaussian, Poisson (shot), salt and pepper (impulse), multiplicative (speckle).

As everywhere in this package, `levels` is float64 [B, 3, H, W] in 0..255; `apply` clips and truncates what comes back.
"""

from functools import cache

import numpy as np
import torch
from scipy.special import pdtr
from torch import Tensor

from bench.data.corruptions.draws import Draws
from bench.data.corruptions.filters import divide


def gaussian_noise(levels: Tensor, draws: Draws, scale: float) -> Tensor:
    """Add normal noise of standard deviation `scale`, in units of the range of grey levels."""
    return (divide(levels, 255) + draws.normal(*levels.shape[1:]) * scale) * 255


def speckle_noise(levels: Tensor, draws: Draws, scale: float) -> Tensor:
    """Add normal noise of standard deviation `scale` times the value."""
    values = divide(levels, 255)
    return (values + values * (draws.normal(*levels.shape[1:]) * scale)) * 255


def impulse_noise(levels: Tensor, draws: Draws, amount: float) -> Tensor:
    """Set a share `amount` of the values to 255 or 0, half of them each; channels are hit one by one."""
    uniform = draws.uniform(*levels.shape[1:])
    salted = torch.where(uniform < amount / 2, 255.0, levels)
    return torch.where((uniform >= amount / 2) & (uniform < amount), 0.0, salted)


def shot_noise(levels: Tensor, draws: Draws, photons: float) -> Tensor:
    """Replace a value by the relative count of a Poisson variable of mean value * photons."""
    table, row = _poisson_table(photons, levels.device)
    # One search for all levels: the distribution function of level g occupies (g, g + 1].
    found = torch.searchsorted(table, levels + draws.uniform(*levels.shape[1:]), right=True)
    return divide(found - levels * row, photons) * 255


@cache
def _poisson_table(photons: float, device: torch.device) -> tuple[Tensor, int]:
    """Return level + P(count <= k), for each level k = 0..row - 1, ascending, and the length of a row."""
    means = np.arange(256) / 255 * photons
    # Sixteen standard deviations: beyond the resolution of a uniform variable, also for small means.
    row = int(photons + 16 * photons**0.5) + 1
    below = pdtr(np.arange(row), means[:, None])
    below[:, -1] = 1
    return torch.tensor((np.arange(256)[:, None] + below).ravel(), device=device), row
