"""Images as training reads them, uint8 on the device: crop, flip and normalisation are batched tensor code.

Semantics of torchvision's RandomCrop(size, padding) on the uint8 image, RandomHorizontalFlip, ToTensor and Normalize,
as the released code composes them; what is drawn depends on the seed and the epoch alone, on no device. Keeping the
data set on the device and cropping by batched tensor code: airbench (Keller Jordan).
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from bench.data.dataset import Array, LabelledImages
from bench.spec.run import Augmentation
from bench.spec.seeds import derived_seed

NONE = Augmentation(padding=0, padding_mode="zero", flip=False)


@dataclass(frozen=True, eq=False)
class EpochDraws:
    """The random choices of an epoch: order int64 [N], window offsets (row, column) int64 [N, 2], flips bool [N].

    offsets[i] and flips[i] belong to the i-th image of the epoch, image order[i].
    """

    order: Tensor
    offsets: Tensor
    flips: Tensor

    def to(self, device: torch.device | str) -> "EpochDraws":
        """Return the draws on another device."""
        return EpochDraws(self.order.to(device), self.offsets.to(device), self.flips.to(device))


def draw_epoch(images: int, augmentation: Augmentation, *parts: str | int) -> EpochDraws:
    """Draw an epoch over `images` images on the CPU; `parts` name the draw, such as (run seed, "train", epoch).

    Order, offsets and flips come from a generator each, so that switching one off leaves the others as they were.
    """

    windows = 2 * augmentation.padding + 1
    return EpochDraws(
        order=draw_order(images, *parts),
        offsets=torch.randint(windows, (images, 2), generator=_generator(*parts, "offsets")),
        flips=draw_flips(images, augmentation.flip, *parts),
    )


def draw_order(images: int, *parts: str | int) -> Tensor:
    """Return the order of an epoch, int64 [images]; `parts` as of draw_epoch."""
    return torch.randperm(images, generator=_generator(*parts, "order"))


def draw_flips(images: int, flip: bool, *parts: str | int) -> Tensor:
    """Return which images of an epoch's order are flipped, bool [images]; `parts` as of draw_epoch."""
    if not flip:
        return torch.zeros(images, dtype=torch.bool)
    return torch.randint(2, (images,), generator=_generator(*parts, "flips")).bool()


def _generator(*parts: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(derived_seed(*parts))


class Normalise:
    """Turns uint8 pixels into what a network reads: the numbers of ToTensor and Normalize, to the last bit.

    mean, std   per channel, of images scaled to [0, 1]
    size        height and width of the images
    """

    def __init__(
        self,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        size: tuple[int, int],
        *,
        device: torch.device | str,
        layout: torch.memory_format,
    ) -> None:
        self.device = device
        self._layout = layout
        # As large as an image, because a broadcast over the innermost three channels would not be vectorised.
        self._mean, self._std = (
            torch.tensor(value, device=device).view(1, 3, 1, 1).expand(1, 3, *size).contiguous(memory_format=layout)
            for value in (mean, std)
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return uint8 [B, 3, H, W] as float32, normalised."""
        scaled = pixels.to(torch.float32, memory_format=self._layout).div_(255)
        return scaled.sub_(self._mean).div_(self._std)

    def unit(self, images: Tensor) -> Tensor:
        """Return float32 images in [0, 1], normalised; differentiable."""
        return ((images - self._mean) / self._std).contiguous(memory_format=self._layout)


class TrainingImages(Protocol):
    """Labelled images as training reads them, resident on a device or decoded ahead of the steps.

    What is drawn for an image is a function of the epoch's draws and its place in the epoch, so an interrupted run sees
    the same images when it goes on, whatever the source.
    """

    def __len__(self) -> int: ...

    def epoch(
        self, parts: Sequence[slice], *draws: str | int
    ) -> AbstractContextManager[Iterator[tuple[Tensor, Tensor]]]:
        """Give the batches of an epoch: augmented images float32 [B, 3, H, W], labels int64 [B], on the device.

        parts   which part of the epoch's order each batch is, in the order in which they are taken
        draws   name the epoch's draws, such as (run seed, "train", epoch)
        """


class DeviceImages:
    """TrainingImages that are all on a device, padded once, served in normalised float32 batches.

    source         uint8 [N, H, W, 3] and int64 [N], on the host
    mean, std      per channel, of images scaled to [0, 1]
    channels_last  memory layout of the padded images and of every batch

    `labels` is int64 [N] on the device.
    """

    def __init__(
        self,
        source: LabelledImages,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        *,
        augmentation: Augmentation = NONE,
        device: torch.device | str = "cpu",
        channels_last: bool = True,
    ) -> None:
        _, height, width, _ = source.images.shape
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._augmentation = augmentation
        self._normalise = Normalise(mean, std, (height, width), device=device, layout=layout)
        self.labels = torch.as_tensor(source.labels, device=device)
        padded = torch.from_numpy(_pad(source.images, augmentation)).permute(0, 3, 1, 2)
        padded = padded.to(device).contiguous(memory_format=layout)
        # A view [N, row offset, column offset, 3, H, W] of all windows: picking one per image is a single gather.
        self._windows = padded.unfold(2, height, 1).unfold(3, width, 1).permute(0, 2, 3, 1, 4, 5)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def side(self) -> int:
        """Height and width of an image, in pixels."""
        return int(self._windows.shape[-1])

    @contextmanager
    def epoch(self, parts: Sequence[slice], *draws: str | int) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
        """Give the batches of an epoch, as TrainingImages."""
        drawn = self.draw(*draws)

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for part in parts:
                index = drawn.order[part]
                yield self.batch(index, drawn.offsets[part], drawn.flips[part]), self.labels[index]

        yield batches()

    def draw(self, *draws: str | int) -> EpochDraws:
        """Return the draws of an epoch over these images, on the device."""
        return draw_epoch(len(self), self._augmentation, *draws).to(self.labels.device)

    def batch(self, index: Tensor, offsets: Tensor, flips: Tensor) -> Tensor:
        """Return augmented images float32 [B, 3, H, W].

        index int64 [B], offsets int64 [B, 2] in 0..2 * padding (rows, columns), flips bool [B]; all on the device.
        """
        pixels = self._windows[index, offsets[:, 0], offsets[:, 1]]
        if self._augmentation.flip:
            pixels = torch.where(flips.view(-1, 1, 1, 1), pixels.flip(3), pixels)
        return self._normalise(pixels)

    def plain(self, start: int, stop: int) -> Tensor:
        """Return images start..stop - 1, not augmented, float32 [B, 3, H, W]."""
        middle = self._windows.shape[1] // 2
        return self._normalise(self._windows[start:stop, middle, middle])


def _pad(images: Array, augmentation: Augmentation) -> Array:
    border = (augmentation.padding, augmentation.padding)
    mode: Literal["reflect", "constant"] = "reflect" if augmentation.padding_mode == "reflect" else "constant"
    return np.pad(images, ((0, 0), border, border, (0, 0)), mode=mode)
