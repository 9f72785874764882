"""Streamed images are those of DeviceImages and of torchvision to the last bit, whatever they are stored in."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from bench.data.augment import DeviceImages, Normalise
from bench.data.catalog import DATASETS
from bench.data.dataset import LabelledImages
from bench.data.lazy import LazyImages
from bench.data.stream import StreamedImages
from bench.spec.run import Augmentation

FACTS = DATASETS["cifar10"]
LAYOUTS = {True: torch.channels_last, False: torch.contiguous_format}
each_layout = pytest.mark.parametrize("channels_last", [True, False], ids=["channels_last", "contiguous"])


def source(count: int = 9) -> LabelledImages:
    """Return images in which every channel has every level."""
    levels = np.arange(count * 32 * 32 * 3).reshape(count, 32, 32, 3) * 7 + np.arange(count)[:, None, None, None]
    return LabelledImages((levels % 256).astype(np.uint8), np.arange(count))


def normalise(channels_last: bool) -> Normalise:
    return Normalise(FACTS.mean, FACTS.std, (32, 32), device="cpu", layout=LAYOUTS[channels_last])


@each_layout
def test_streamed_images_are_those_on_the_device_to_the_bit(channels_last: bool) -> None:
    augmentation = Augmentation(padding=4, padding_mode="zero", flip=False)
    streamed = StreamedImages(source(), normalise(channels_last))
    on_device = DeviceImages(source(), FACTS.mean, FACTS.std, augmentation=augmentation, channels_last=channels_last)
    assert len(streamed) == len(on_device) == 9
    for start, stop in ((0, 9), (0, 4), (4, 9), (8, 9)):
        got, expected = streamed.plain(start, stop), on_device.plain(start, stop)
        assert got.dtype == torch.float32
        assert torch.equal(got, expected)
        assert got.is_contiguous(memory_format=LAYOUTS[channels_last])


@each_layout
def test_normalisation_is_torchvisions_to_the_bit_for_every_level(channels_last: bool) -> None:
    images = source()
    assert all(len(np.unique(images.images[..., channel])) == 256 for channel in range(3))
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(FACTS.mean, FACTS.std)])
    expected = torch.stack([transform(Image.fromarray(pixels)) for pixels in images.images])
    assert torch.equal(StreamedImages(images, normalise(channels_last)).plain(0, 9), expected)


@each_layout
def test_images_in_the_unit_interval_are_normalised_to_the_same_bits(channels_last: bool) -> None:
    pixels = torch.from_numpy(source().images).permute(0, 3, 1, 2)
    unit = pixels.float() / 255
    before = unit.clone()
    assert torch.equal(normalise(channels_last).unit(unit), normalise(channels_last)(pixels))
    assert torch.equal(unit, before)


def test_the_gradient_passes_through_the_normalisation() -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(normalise(True).unit(images).sum(), images)
    expected = (1 / torch.tensor(FACTS.std)).view(1, 3, 1, 1).expand(2, 3, 32, 32)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.filterwarnings("error")
def test_a_read_only_memory_map_is_read_and_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "images.npy"
    np.save(file, source().images)
    before = file.read_bytes()
    mapped = LabelledImages(np.load(file, mmap_mode="r"), source().labels)
    got = StreamedImages(mapped, normalise(True)).plain(2, 7)
    assert torch.equal(got, StreamedImages(source(), normalise(True)).plain(2, 7))
    assert file.read_bytes() == before


def test_what_is_made_when_read_is_made_batch_by_batch() -> None:
    images, made = source().images, []

    def make(start: int, stop: int) -> np.ndarray:
        made.append((start, stop))
        return images[start:stop]

    lazy = LabelledImages(LazyImages(9, 32, make).as_array(), source().labels)
    streamed = StreamedImages(lazy, normalise(False))
    assert len(streamed) == 9
    assert made == []
    got = torch.cat([streamed.plain(0, 5), streamed.plain(5, 9)])
    assert made == [(0, 5), (5, 9)]
    assert torch.equal(got, StreamedImages(source(), normalise(False)).plain(0, 9))
    assert np.array_equal(images, source().images)
