"""What `corrupt` promises of every type: shape, damage, and bytes that depend on nothing but what they should."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.data.corruptions.apply import RANDOM, corrupt
from bench.data.corruptions.catalog import CORRUPTIONS, SEVERITIES
from tests.data.corruptions.pictures import drawn, photographed

for_each_type = pytest.mark.parametrize("type", CORRUPTIONS)

# Severities from which the next one does not damage more (mean absolute difference), by the released parameters.
NOT_MONOTONE = {
    "elastic_transform": ((1, 2, 3, 4), "the affine part, which moves most, shrinks from .08 to .03"),
    "frost": ((3, 4), "the image's weight falls where the ice's hardly rises: what darkens and what brightens cancel"),
    "glass_blur": ((1, 2, 4), "two and three move pixels as one does, five as four; only the Gaussian is wider"),
    "motion_blur": ((3,), "radius 6 to 8 at the same sigma of 2: the further pixels weigh next to nothing"),
    "saturate": ((2, 3, 4), "one and two take colour away, three to five add it"),
    "spatter": ((3, 4), "three is water, four and five are mud"),
}


def index_of(images: Tensor) -> Tensor:
    return torch.arange(len(images)) * 3


@pytest.mark.parametrize("pictures", [drawn, photographed])
@for_each_type
def test_damage_grows_with_severity(type: str, pictures: Callable[[int], Tensor]) -> None:
    images = pictures(64)
    damage = [
        (corrupt(images, type, severity, index_of(images), 0).float() - images.float()).abs().mean().item()
        for severity in SEVERITIES
    ]
    assert damage[0] > 0.2
    for severity, (milder, stronger) in enumerate(itertools.pairwise(damage), 1):
        if severity not in NOT_MONOTONE.get(type, ((), ""))[0]:
            assert stronger > milder
        else:
            assert stronger > milder / 4


@for_each_type
def test_the_result_is_8_bit_images_of_the_same_shape_and_the_images_are_left_alone(type: str) -> None:
    images = photographed(5)
    before = images.clone()
    for severity in SEVERITIES:
        result = corrupt(images, type, severity, index_of(images), 0)
        assert (result.dtype, result.shape, result.device) == (torch.uint8, images.shape, images.device)
        assert result.is_contiguous()
    assert torch.equal(images, before)


@for_each_type
def test_an_image_is_the_same_bytes_in_any_batch_order_and_number_of_threads(type: str) -> None:
    images = torch.cat([drawn(35), photographed(35)])
    index = index_of(images)
    whole = corrupt(images, type, 4, index, 1)
    for size in (1, 7, 64):
        parts = [slice(start, start + size) for start in range(0, len(images), size)]
        assert torch.equal(torch.cat([corrupt(images[part], type, 4, index[part], 1) for part in parts]), whole)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    assert torch.equal(corrupt(images[order], type, 4, index[order], 1), whole[order])
    torch.set_num_threads(2)
    assert torch.equal(corrupt(images, type, 4, index, 1), whole)
    torch.set_num_threads(1)


@for_each_type
def test_memory_layout_does_not_matter(type: str) -> None:
    images = photographed(4)
    strided = images.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    expected = corrupt(images, type, 2, index_of(images), 0)
    assert torch.equal(corrupt(strided, type, 2, index_of(images), 0), expected)


@for_each_type
def test_only_random_types_depend_on_seed_and_index(type: str) -> None:
    image = drawn(1)
    copies = image.expand(8, -1, -1, -1)
    # Severity 3, since a milder spatter may leave no trace; similar angles of motion make the same image.
    ours, others = (corrupt(copies, type, 3, torch.arange(8), seed) for seed in (0, 1))
    different = {result.numpy().tobytes() for result in (*ours, *others)}
    assert 8 < len(different) <= 16 if type in RANDOM else len(different) == 1


@for_each_type
def test_no_images_are_no_images(type: str) -> None:
    empty = torch.zeros(0, 32, 32, 3, dtype=torch.uint8)
    assert corrupt(empty, type, 1, torch.zeros(0, dtype=torch.int64), 0).shape == empty.shape


@for_each_type
def test_the_smallest_images_are_corrupted_too(type: str) -> None:
    images = photographed(3, 8)
    for severity in SEVERITIES:
        assert corrupt(images, type, severity, index_of(images), 0).shape == images.shape


@pytest.mark.parametrize(
    "type", ["brightness", "defocus_blur", "gaussian_blur", "motion_blur", "pixelate", "zoom_blur"]
)
def test_filters_leave_a_flat_image_exactly_flat(type: str) -> None:
    images = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 16, 16, 3)
    for severity in SEVERITIES:
        result = corrupt(images, type, severity, index_of(images), 0)
        assert torch.equal(result, result[:, :1, :1].expand_as(result))
        assert type == "brightness" or torch.equal(result, images)


def test_misuse_is_refused() -> None:
    images, index = drawn(2), torch.arange(2)
    cases: list[tuple[tuple[Tensor, str, int, Tensor], str]] = [
        ((images, "gauss", 1, index), "brightness, contrast"),
        ((images, "fog", 0, index), r"\(1, 2, 3, 4, 5\), not 0"),
        ((images, "fog", 6, index), "not 6"),
        ((images.float(), "fog", 1, index), r"uint8 \[B, H, H, 3\], not torch.float32"),
        ((images.permute(0, 3, 1, 2), "fog", 1, index), r"\[2, 3, 32, 32\]"),
        ((images[:, :16], "fog", 1, index), r"\[2, 16, 32, 3\]"),
        ((images[:, :7, :7], "fog", 1, index), "at least 8 pixels"),
        ((images, "fog", 1, index[:1]), r"int64 \[2\]"),
        ((images, "fog", 1, index.int()), r"int64 \[2\]"),
    ]
    for arguments, words in cases:
        with pytest.raises(ValueError, match=words):
            corrupt(*arguments, 0)
