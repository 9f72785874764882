"""Logits of many classes are stored in half precision, unless that would lose them."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.special import log_softmax

from bench.errors import UserError
from bench.store.logits import MOST_FLOAT32, StoredLogits

LABELS = np.zeros(2, np.int64)


@pytest.mark.parametrize(
    ("classes", "largest", "half", "kind"),
    [
        (MOST_FLOAT32, 1.0, True, np.float32),
        (1000, 1.0, True, np.float16),
        (1000, 1.0, False, np.float32),
        (1000, 65_504.0, True, np.float16),
        (1000, -70_000.0, True, np.float32),
    ],
)
def test_precision_follows_from_classes_and_size(
    classes: int, largest: float, half: bool, kind: type, tmp_path: Path
) -> None:
    logits = np.full((1, 2, classes), largest, np.float32)
    StoredLogits(tmp_path, {}).write("a", logits, LABELS, half=half)
    assert load_file(tmp_path / "logits" / "a.safetensors")["logits"].dtype == kind
    read, labels = StoredLogits(tmp_path, {}).logits("a")
    assert np.array_equal(read, logits)
    assert np.array_equal(labels, LABELS)


def test_labels_of_test_images_come_back_as_pairs_of_place_and_label(tmp_path: Path) -> None:
    pairs = np.array([[1, 2], [1, 0]])
    StoredLogits(tmp_path, {}).write("a", np.empty((0, 2, 3), np.float32), LABELS, label_pairs=pairs)
    read, labels = StoredLogits(tmp_path, {}).label_pairs("a")
    assert (read.tolist(), labels.tolist()) == (pairs.tolist(), [0, 0])
    StoredLogits(tmp_path, {}).write("none", np.empty((0, 2, 3), np.float32), LABELS, label_pairs=pairs[:0])
    assert StoredLogits(tmp_path, {}).label_pairs("none")[0].shape == (0, 2)
    StoredLogits(tmp_path, {}).write("b", np.zeros((1, 2, 3), np.float32), LABELS)
    with pytest.raises(UserError, match=r"b\.safetensors: holds no label_pairs"):
        StoredLogits(tmp_path, {}).label_pairs("b")


@pytest.mark.parametrize(
    ("pairs", "problem"),
    [
        (np.array([[2, 0]]), "not of 2 images and 3 classes"),
        (np.array([[0, 3]]), "not of 2 images and 3 classes"),
        (np.array([[0, -1]]), "not of 2 images and 3 classes"),
        (np.array([0, 1]), r"int64 \[2\]; allowed: whole numbers \[K, 2\]"),
        (np.array([[0.0, 1.0]]), r"float64 \[1, 2\]; allowed: whole numbers"),
    ],
)
def test_pairs_that_fit_no_images_are_refused(tmp_path: Path, pairs: np.ndarray, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        StoredLogits(tmp_path, {}).write("a", np.empty((0, 2, 3), np.float32), LABELS, label_pairs=pairs)


@pytest.mark.parametrize("peak", [0.0, 12.0])
def test_half_precision_moves_the_nll_of_an_image_by_a_thousandth_of_its_largest_logit(
    peak: float, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (1, 300, 1000)).astype(np.float32)
    labels = rng.integers(0, 1000, 300)
    logits[0, np.arange(300), rng.integers(0, 1000, 300)] += np.float32(peak)
    stored = StoredLogits(tmp_path, {})
    stored.write("a", logits, labels, half=True)
    tensors = load_file(tmp_path / "logits" / "a.safetensors")
    before, after = (
        -log_softmax(values[0].astype(np.float64), axis=1)[np.arange(300), labels]
        for values in (logits, tensors["logits"])
    )
    moved = np.abs(after - before)
    # a logit is rounded by 2**-11 of itself at most, and so is the logarithm of the sum of all
    assert np.all(moved <= 2**-10 * np.abs(logits[0]).max(axis=1))
    assert moved.max() > 2**-14
