"""A GPU gives the batches and the corrupted bytes of the CPU."""

import pytest
import torch

from bench.data.augment import DeviceImages, Normalise, draw_epoch
from bench.data.corruptions.apply import corrupt
from bench.data.corruptions.catalog import CORRUPTIONS, SEVERITIES
from bench.data.stream import StreamedImages
from tests.data.corruptions.pictures import photographed
from tests.data.test_augment import MEAN, REFLECT, STD, source
from tests.data.test_stream import FACTS, LAYOUTS, each_layout, normalise


@pytest.mark.parametrize("channels_last", [True, False])
def test_an_augmented_batch(channels_last: bool) -> None:
    draws = draw_epoch(64, REFLECT, 0, "train", 0)
    batches = []
    for device in ("cpu", "cuda"):
        here = draws.to(device)
        images = DeviceImages(source(64), MEAN, STD, augmentation=REFLECT, device=device, channels_last=channels_last)
        batches.append(images.batch(here.order, here.offsets, here.flips).cpu())
    torch.testing.assert_close(batches[1], batches[0])


@each_layout
def test_a_streamed_batch(channels_last: bool) -> None:
    there = Normalise(FACTS.mean, FACTS.std, (32, 32), device="cuda", layout=LAYOUTS[channels_last])
    got = StreamedImages(source(9), there).plain(0, 9)
    assert got.device.type == "cuda"
    assert got.is_contiguous(memory_format=LAYOUTS[channels_last])
    torch.testing.assert_close(got.cpu(), StreamedImages(source(9), normalise(channels_last)).plain(0, 9))


@pytest.mark.parametrize("type", CORRUPTIONS)
def test_a_corruption_is_the_same_bytes(type: str) -> None:
    images = photographed(40)
    index = 3 * torch.arange(len(images))
    for severity in SEVERITIES:
        host = corrupt(images, type, severity, index, 0)
        device = corrupt(images.cuda(), type, severity, index.cuda(), 0)
        assert torch.equal(device.cpu(), host)
