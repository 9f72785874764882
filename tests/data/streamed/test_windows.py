"""Windows are those of torchvision's RandomResizedCrop and CenterCrop, and counted rather than drawn."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torchvision.transforms import CenterCrop, RandomResizedCrop, Resize

from bench.data.streamed.windows import DRAWS, middle_window, random_window, uniforms
from bench.spec.run import ResizedCrop

CROP = ResizedCrop()
SIZES = np.random.default_rng(0).integers(1, 700, (10_000, 2)).tolist()


class Draws:
    """In the place of torch in torchvision's module: the numbers that it draws are those given."""

    def __init__(self, draws: Any) -> None:
        self._tries, self._place = list(draws[:-2]), list(draws[-2:])

    def empty(self, _: int) -> Any:
        draw = self._tries.pop(0)

        class Uniform:
            def uniform_(self, low: float, high: float) -> Any:
                return torch.as_tensor(low + (high - low) * draw, dtype=torch.float64)

        return Uniform()

    def randint(self, low: int, high: int, size: tuple[int]) -> torch.Tensor:
        assert (low, size) == (0, (1,))
        return torch.tensor([int(self._place.pop(0) * high)])

    def tensor(self, values: Any) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)

    log, exp = torch.log, torch.exp


def test_windows_are_torchvisions_of_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = uniforms(3, 0, len(SIZES))
    image = torch.empty(0)
    monkeypatch.setattr("torchvision.transforms.functional.get_dimensions", lambda _: (3, height, width))
    different = 0
    for (height, width), drawn in zip(SIZES, draws, strict=True):
        monkeypatch.setattr(torchvision.transforms.transforms, "torch", Draws(drawn))
        theirs = RandomResizedCrop.get_params(image, list(CROP.scale), list(CROP.ratio))
        different += tuple(random_window(height, width, drawn, CROP)) != theirs
    assert different == 0


def test_draws_do_not_depend_on_how_many_are_made_at_once() -> None:
    whole = uniforms(11, 0, 100)
    assert whole.shape == (100, DRAWS)
    assert 0 <= whole.min() < whole.max() < 1
    np.testing.assert_array_equal(
        np.concatenate([uniforms(11, 0, 33), uniforms(11, 33, 1), uniforms(11, 34, 66)]), whole
    )
    assert not np.array_equal(uniforms(12, 0, 100), whole)


def test_areas_and_ratios_are_spread_as_they_should_be() -> None:
    """Of a square image wide enough, the first try fits nearly always: area uniform, logarithm of the ratio too."""
    windows = [random_window(2000, 2000, drawn, ResizedCrop(scale=(0.1, 0.5))) for drawn in uniforms(5, 0, 4000)]
    areas = np.array([window.height * window.width / 2000**2 for window in windows])
    ratios = np.log([window.width / window.height for window in windows])
    for values, low, high in ((areas, 0.1, 0.5), (ratios, math.log(3 / 4), math.log(4 / 3))):
        expected = np.linspace(low, high, len(values))
        assert np.abs(np.sort(values) - expected).max() < 0.03 * (high - low)  # Kolmogorov-Smirnov: p < 0.001 at 0.031


@pytest.mark.parametrize("size", [64, 128, 224])
def test_evaluation_sees_what_resize_and_centre_crop_show(size: int) -> None:
    side = {64: 73, 128: 146, 224: 256}[size]
    for height, width in ((300, 401), (401, 300), (224, 224), (90, 333), (37, 20)):
        (tall, wide), window = middle_window(height, width, size)
        image = torch.arange(height * width, dtype=torch.float32).view(1, height, width)
        scaled = Resize(side, antialias=True)(image)
        assert scaled.shape[1:] == (tall, wide)
        shown = scaled[:, window.top : window.top + size, window.left : window.left + size]
        assert torch.equal(shown, CenterCrop(size)(scaled))
