"""The part of a data set that a run sees, the fixed order, and the embedded digits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import datasets

from bench.data.catalog import DATASETS
from bench.data.dataset import Dataset, cut, fixed_order, shrunk
from bench.data.sets.digits import DIGITS, enlarge
from bench.data.sources import load
from bench.errors import UserError
from bench.spec.run import DataSpec

NOWHERE = Path("nowhere")


def numbered(trains: int = 10, tests: int = 4) -> Dataset:
    """Images and labels that hold their own position."""
    train, test = (np.arange(count) for count in (trains, tests))
    images = [
        np.broadcast_to(part.astype(np.uint8)[:, None, None, None], (len(part), 32, 32, 3)) for part in (train, test)
    ]
    return Dataset("cifar10", "official", ("a", "b"), images[0], train, images[1], test)


def spec(train: int = 6, validation: int = 2, test: int = 3, **other: str) -> DataSpec:
    counts = {"train_images": train, "validation_images": validation, "test_images": test}
    return DataSpec.model_validate({"name": "cifar10", **counts, **other})


def test_the_first_images_train_the_last_validate_and_the_first_test() -> None:
    split = cut(numbered(), spec())
    for part, expected in ((split.train, range(6)), (split.validation, (8, 9)), (split.test, range(3))):
        assert part.labels.tolist() == list(expected)
        assert part.images[:, 0, 0, 0].tolist() == list(expected)


def test_all_images_can_be_used() -> None:
    split = cut(numbered(), spec(8, 2, 4))
    assert (len(split.train.labels), len(split.validation.labels), len(split.test.labels)) == (8, 2, 4)
    assert not set(split.train.labels) & set(split.validation.labels)


def test_overlapping_parts_are_refused() -> None:
    with pytest.raises(UserError, match=r"data.train_images: 9 .* 2 .*overlap; together at most 10 .*official"):
        cut(numbered(), spec(train=9))


def test_too_few_test_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"data.test_images: 5, but cifar10 \(official\) has 4"):
        cut(numbered(), spec(test=5))


@pytest.mark.parametrize("other", [{"variant": "images-0123456789ab"}, {"name": "cifar100"}])
def test_other_images_than_the_run_names_are_refused(other: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"asks for .* but the images given are cifar10 \(official\)"):
        cut(numbered(), spec(**other))


def test_a_fixed_order_is_a_permutation_that_depends_on_the_seed() -> None:
    assert sorted(fixed_order(1000, 5)) == list(range(1000))
    assert fixed_order(1000, 5).tolist() == fixed_order(1000, 5).tolist()
    assert fixed_order(1000, 5).tolist() != fixed_order(1000, 6).tolist()


def test_digits_hold_every_digit_once_in_the_promised_parts() -> None:
    digits, source = DIGITS.read(NOWHERE), datasets.load_digits()
    assert digits.train_images.shape == (1437, 32, 32, 3)
    assert digits.test_images.shape == (360, 32, 32, 3)
    assert digits.train_images.dtype == np.uint8
    assert digits.train_labels.dtype == np.int64
    images = np.concatenate([digits.train_images, digits.test_images])
    labels = np.concatenate([digits.train_labels, digits.test_labels])
    pairs = sorted((image.tobytes(), label) for image, label in zip(images, labels, strict=True))
    assert pairs == sorted(
        (image.tobytes(), label) for image, label in zip(enlarge(source.images), source.target, strict=True)
    )


def test_every_part_of_digits_holds_every_class() -> None:
    facts = DATASETS["digits"]
    sizes = (facts.train_images, facts.validation_images, facts.test_images)
    split = cut(
        DIGITS.read(NOWHERE),
        DataSpec(name="digits", train_images=sizes[0], validation_images=sizes[1], test_images=sizes[2]),
    )
    for part in (split.train, split.validation, split.test):
        assert set(part.labels) == set(range(10))


def test_digits_are_enlarged_bilinearly() -> None:
    source = datasets.load_digits().images[:20]
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(source)[:, None], size=(32, 32), mode="bilinear", align_corners=False
    )
    got = enlarge(source)
    assert np.abs(got[..., 0] - expected[:, 0].numpy() * 255 / 16).max() <= 0.5
    assert np.array_equal(got[..., 0], got[..., 1])
    assert np.array_equal(got[..., 0], got[..., 2])


def test_the_catalog_states_the_mean_and_deviation_of_the_digits_to_train_on() -> None:
    facts = DATASETS["digits"]
    images = DIGITS.read(NOWHERE).train_images[: facts.train_images] / 255
    assert np.allclose(images.mean((0, 1, 2)), facts.mean, atol=5e-5)
    assert np.allclose(images.std((0, 1, 2)), facts.std, atol=5e-5)


def test_a_smaller_image_is_made_of_means_of_blocks() -> None:
    rows = [[0, 1, 0, 0], [1, 1, 1, 1], [255, 255, 9, 8], [255, 255, 7, 9]]
    images = np.repeat(np.array(rows, np.uint8)[None, :, :, None], 3, axis=3)
    whole = Dataset("tiny", "official", ("a",), images, np.zeros(1, np.int64), images[:0], np.zeros(0, np.int64))
    small = shrunk(whole, 2)
    np.testing.assert_array_equal(small.train_images[0, :, :, 1], [[1, 1], [255, 8]])  # halves up
    assert small.train_images.dtype == np.uint8
    assert small.test_images.shape == (0, 2, 2, 3)
    assert shrunk(whole, 4).train_images is images


def test_images_in_memory_are_loaded_in_the_size_that_a_run_names(tmp_path: Path) -> None:
    whole = load("digits", None, root=tmp_path, progress=False)
    small = load("digits", None, root=tmp_path, progress=False, size=8)
    blocks = whole.test_images[0].reshape(8, 4, 8, 4, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(small.test_images[0] - blocks).max() <= 0.5
    np.testing.assert_array_equal(small.test_labels, whole.test_labels)
