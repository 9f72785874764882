"""Every type and severity against an implementation of its own for one image, at 32, 64 and an odd number of pixels.

Tolerance: at most one grey level for 99.9% of the values. A value that is a whole number of levels in exact arithmetic
is truncated to the level below or not, as the rounding of either side falls.
"""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench.data.corruptions.apply import corrupt
from bench.data.corruptions.catalog import CORRUPTIONS, SEVERITIES
from tests.data.corruptions import reference
from tests.data.corruptions.pictures import drawn, photographed

SEED = 3
# The same numbers in the same order of operations, or the same integer arithmetic and the same codec.
IDENTICAL = {"contrast", "fog", "gaussian_noise", "impulse_noise", "jpeg_compression", "pixelate", "shot_noise"}


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("type", CORRUPTIONS)
def test_a_corruption_is_what_the_reference_makes(type: str, severity: int) -> None:
    pictures = torch.cat([drawn(2), photographed(2)])
    apart = differences(pictures, type, severity)
    assert apart.mean() < 0.2
    if type in IDENTICAL:
        assert not apart.any()


@pytest.mark.parametrize("size", [19, 64])
@pytest.mark.parametrize("type", CORRUPTIONS)
def test_other_sizes_are_what_the_reference_makes(type: str, size: int) -> None:
    differences(photographed(1, size), type, 3)


@pytest.mark.parametrize("type", CORRUPTIONS)
def test_black_white_and_grey_images_are_what_the_reference_makes(type: str) -> None:
    flat = torch.tensor([0, 255, 128], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 32, 32, 3)
    differences(flat, type, 5)


def differences(pictures: torch.Tensor, type: str, severity: int) -> NDArray[np.int64]:
    """Return |corrupt - reference| of each picture, once it is within the tolerance."""
    index = torch.arange(len(pictures)) + 7
    ours = corrupt(pictures, type, severity, index, SEED).numpy()
    theirs = [
        reference.corrupt(p, type, severity, i, SEED) for p, i in zip(pictures.numpy(), index.tolist(), strict=True)
    ]
    apart = np.abs(ours.astype(np.int64) - np.stack(theirs))
    assert np.all(np.mean(apart <= 1, axis=(1, 2, 3)) >= 0.999)
    return apart
