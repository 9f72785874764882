"""Augmentation on the device does what torchvision does to one PIL image at a time, and draws what it should."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision import transforms
from torchvision.transforms import functional

from bench.data.augment import NONE, DeviceImages, draw_epoch
from bench.data.catalog import DATASETS
from bench.data.dataset import LabelledImages
from bench.spec.run import Augmentation

MEAN, STD = DATASETS["cifar10"].mean, DATASETS["cifar10"].std
REFLECT = Augmentation(padding=4, padding_mode="reflect", flip=True)
ZERO = Augmentation(padding=4, padding_mode="zero", flip=True)


def source(count: int) -> LabelledImages:
    rng = np.random.default_rng(0)
    return LabelledImages(rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), np.arange(count))


def torchvision_image(
    pixels: np.ndarray, augmentation: Augmentation, row: int, column: int, flip: bool
) -> torch.Tensor:
    """What RandomCrop(32, padding, padding_mode), RandomHorizontalFlip, ToTensor and Normalize do, given the draw."""
    mode = "reflect" if augmentation.padding_mode == "reflect" else "constant"
    image = functional.pad(Image.fromarray(pixels), [augmentation.padding], fill=0, padding_mode=mode)
    image = functional.crop(image, row, column, 32, 32)
    image = functional.hflip(image) if flip else image
    return functional.normalize(functional.to_tensor(image), list(MEAN), list(STD))


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("augmentation", [REFLECT, ZERO, Augmentation(padding=1, padding_mode="reflect", flip=True)])
def test_every_offset_and_flip_is_torchvisions_to_the_last_bit(augmentation: Augmentation, channels_last: bool) -> None:
    windows = 2 * augmentation.padding + 1
    draws = [(row, column, flip) for row in range(windows) for column in range(windows) for flip in (False, True)]
    images = source(len(draws))
    on_device = DeviceImages(images, MEAN, STD, augmentation=augmentation, channels_last=channels_last)
    order = torch.randperm(len(draws), generator=torch.Generator().manual_seed(1))
    offsets = torch.tensor([[row, column] for row, column, _ in draws])
    flips = torch.tensor([flip for *_, flip in draws])
    batch = on_device.batch(order, offsets, flips)
    for number, (index, draw) in enumerate(zip(order.tolist(), draws, strict=True)):
        assert torch.equal(batch[number], torchvision_image(images.images[index], augmentation, *draw))


def test_zero_padding_is_black_before_normalisation() -> None:
    white = LabelledImages(np.full((1, 32, 32, 3), 255, dtype=np.uint8), np.zeros(1, dtype=np.int64))
    images = DeviceImages(white, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), augmentation=ZERO)
    corner = images.batch(torch.tensor([0]), torch.tensor([[0, 8]]), torch.tensor([False]))[0, 0]
    # Window from the top right of the padded image: 4 black rows above, 4 black columns to the right.
    assert torch.all(corner[:4] == -2)
    assert torch.all(corner[:, 28:] == -2)
    assert torch.all(corner[4:, :28] == 2)


@pytest.mark.parametrize("augmentation", [NONE, REFLECT, ZERO])
def test_plain_images_are_only_normalised(augmentation: Augmentation) -> None:
    images = source(5)
    plain = DeviceImages(images, MEAN, STD, augmentation=augmentation).plain(1, 4)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    assert plain.shape == (3, 3, 32, 32)
    assert all(
        torch.equal(got, transform(Image.fromarray(pixels)))
        for got, pixels in zip(plain, images.images[1:4], strict=True)
    )


def test_an_augmentation_without_flips_ignores_them() -> None:
    images = DeviceImages(source(2), MEAN, STD, augmentation=Augmentation(padding=0, padding_mode="zero", flip=False))
    zero = torch.zeros(2, 2, dtype=torch.long)
    assert torch.equal(images.batch(torch.arange(2), zero, torch.ones(2, dtype=torch.bool)), images.plain(0, 2))


@pytest.mark.parametrize("channels_last", [True, False])
def test_batches_have_the_memory_layout_asked_for(channels_last: bool) -> None:
    images = DeviceImages(source(8), MEAN, STD, augmentation=REFLECT, channels_last=channels_last)
    draws = draw_epoch(8, REFLECT, 0, "train", 0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for batch in (images.batch(draws.order, draws.offsets, draws.flips), images.plain(0, 8)):
        assert batch.dtype == torch.float32
        assert batch.is_contiguous(memory_format=layout)


def test_labels_and_length_are_those_of_the_images() -> None:
    images = DeviceImages(source(7), MEAN, STD)
    assert len(images) == 7
    assert images.labels.dtype == torch.int64
    assert images.labels.tolist() == list(range(7))


def test_every_offset_is_drawn_equally_often_and_independently() -> None:
    offsets = draw_epoch(81_000, ZERO, 0, "train", 0).offsets
    counts = torch.bincount(offsets[:, 0] * 9 + offsets[:, 1], minlength=81)
    assert offsets.min() == 0
    assert offsets.max() == 8
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_flips_are_fair_and_independent_of_the_offsets() -> None:
    draws = draw_epoch(50_000, REFLECT, 3, "train", 1)
    table = np.stack([torch.bincount(draws.offsets[draws.flips == flip][:, 0], minlength=9) for flip in (False, True)])
    assert stats.binomtest(int(draws.flips.sum()), 50_000).pvalue > 1e-3
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_an_epoch_is_a_permutation_drawn_from_its_name_alone() -> None:
    state = torch.get_rng_state()
    first, again = (draw_epoch(1000, REFLECT, 7, "train", 2) for _ in range(2))
    others = [draw_epoch(1000, REFLECT, *parts) for parts in ((8, "train", 2), (7, "train", 3), (7, "validation", 2))]
    assert sorted(first.order.tolist()) == list(range(1000))
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in ("order", "offsets", "flips"))
    for other in others:
        assert not any(
            torch.equal(getattr(first, name), getattr(other, name)) for name in ("order", "offsets", "flips")
        )
    assert torch.equal(state, torch.get_rng_state())


def test_switching_the_flip_off_leaves_order_and_offsets_as_they_were() -> None:
    flipped, unflipped = (draw_epoch(100, REFLECT.model_copy(update={"flip": flip}), 0) for flip in (True, False))
    assert torch.equal(flipped.order, unflipped.order)
    assert torch.equal(flipped.offsets, unflipped.offsets)
    assert flipped.flips.any()
    assert not unflipped.flips.any()


def test_no_batch_waits_for_the_device() -> None:
    """The meta device has no values: whatever would copy one to the host raises."""
    images = DeviceImages(source(4), MEAN, STD, augmentation=REFLECT, device="meta")
    draws = draw_epoch(4, REFLECT, 0).to("meta")
    assert images.batch(draws.order, draws.offsets, draws.flips).device.type == "meta"
    assert images.plain(0, 4).device.type == "meta"
