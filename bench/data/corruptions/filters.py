"""Linear filters whose result no order of summation can change: every product and every sum is exact in float64.

Weights are multiples of 2**-18 and inputs have at most 16 bits, so that two passes need 52 of the 53 bits. A filter
along one axis is a matrix; the rounding of the weights moves a grey level by less than 0.01. What is constant stays so
exactly, because weights sum to one.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

Doubles = NDArray[np.float64]
WEIGHT_STEP = 2.0**-18


def divide(values: Tensor, divisor: float) -> Tensor:
    """Return the correctly rounded quotient; a plain values / divisor on CUDA multiplies by the rounded reciprocal."""
    return values / values.new_full((), divisor)


def exact_weights(weights: Doubles) -> Doubles:
    """Return weights rounded to multiples of WEIGHT_STEP whose last axis sums to exactly 1; the largest makes up."""
    rounded = np.round(weights / WEIGHT_STEP) * WEIGHT_STEP
    largest = rounded.argmax(axis=-1, keepdims=True)
    missing = 1 - rounded.sum(axis=-1, keepdims=True)
    np.put_along_axis(rounded, largest, np.take_along_axis(rounded, largest, -1) + missing, -1)
    return rounded


@cache
def gaussian_matrix(size: int, sigma: float, mode: str, truncate: float, device: torch.device) -> Tensor:
    """Return float64 [size, size], the Gaussian filter of scipy.ndimage along an axis of `size` pixels."""
    response = ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, mode=mode, truncate=truncate)
    return torch.tensor(exact_weights(response), device=device)


def clipped_zoom_matrix(size: int, factor: float) -> Doubles:
    """Return float64 [size, size]: cut out the middle ceil(size / factor), enlarge it linearly, cut out the middle.

    clipped_zoom of the released generator along one axis, with the coordinates of scipy.ndimage.zoom.
    """
    cut = int(np.ceil(size / factor))
    start = (size - cut) // 2
    enlarged = ndimage.zoom(np.eye(cut), (factor, 1), order=1)
    trim = (len(enlarged) - size) // 2
    matrix = np.zeros((size, size))
    matrix[:, start : start + cut] = enlarged[trim : trim + size]
    return exact_weights(matrix)


def along_rows_and_columns(values: Tensor, matrix: Tensor) -> Tensor:
    """Apply a matrix [out, in] to both axes: float64 [..., in, in] -> [..., out, out]; exact for 16-bit inputs."""
    rows = torch.matmul(values.contiguous(), matrix.T)
    return torch.matmul(rows.transpose(-1, -2).contiguous(), matrix.T).transpose(-1, -2)


def gaussian(values: Tensor, sigma: float, *, mode: str = "nearest", truncate: float = 4.0) -> Tensor:
    """Return the Gaussian blur of float64 [..., H, H] as skimage.filters.gaussian; exact for 16-bit inputs."""
    matrix = gaussian_matrix(values.shape[-1], sigma, mode, truncate, values.device)
    return along_rows_and_columns(values, matrix)


def correlate(values: Tensor, kernel: Doubles) -> Tensor:
    """Correlate float64 [B, C, H, W] with an odd, square kernel; at borders as OpenCV: mirrored at the border pixel."""
    reach = len(kernel) // 2
    height, width = values.shape[2:]
    padded = functional.pad(values, (reach, reach, reach, reach), mode="reflect")
    result = torch.zeros_like(values)
    for row, column in np.argwhere(kernel):
        result += padded[:, :, row : row + height, column : column + width] * kernel[row, column]
    return result


def motion(values: Tensor, angles: Tensor, radius: float, sigma: float) -> Tensor:
    """Return the motion blur of ImageMagick, rounded: levels float64 [B, C, H, W], angles float64 [B] in degrees.

    Half a Gaussian along a ray of 2 * ceil(radius) + 1 pixels; pixels beyond the border repeat it.
    """
    images, _, height, width = values.shape
    taps = np.arange(2 * int(np.ceil(radius)) + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    weights = np.trim_zeros(exact_weights(weights / weights.sum()), "b")
    reach = len(weights) - 1
    padded = functional.pad(values, (reach, reach, reach, reach), mode="replicate")
    # A view [B, row offset, column offset, C, H, W] of all windows: picking one per image is a single gather.
    windows = padded.unfold(2, height, 1).unfold(3, width, 1).permute(0, 2, 3, 1, 4, 5)
    radians = torch.deg2rad(angles)[:, None]
    steps = torch.arange(reach + 1, device=values.device)
    rows = torch.ceil(steps * torch.sin(radians) - 0.5).long() + reach
    columns = torch.ceil(steps * torch.cos(radians) - 0.5).long() + reach
    image = torch.arange(images, device=values.device)
    result = torch.zeros_like(values)
    for tap, weight in enumerate(weights.tolist()):
        result += windows[image, rows[:, tap], columns[:, tap]] * weight
    return result.add_(0.5).floor_()
