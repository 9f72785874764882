"""Class-wise accuracy against torchmetrics and scikit-learn, and by hand for a class without images."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import recall_score
from torchmetrics.functional.classification import multiclass_accuracy

from bench.metrics import accuracy, class_accuracy


@given(st.integers(0, 2**32), st.integers(1, 80), st.integers(2, 8))
def test_class_accuracy_equals_recall(seed, images, classes):
    rng = np.random.default_rng(seed)
    probabilities, labels = rng.dirichlet(np.full(classes, 0.3), size=images), rng.integers(0, classes, images)
    predicted = probabilities.argmax(axis=1)
    expected = recall_score(labels, predicted, labels=range(classes), average=None, zero_division=np.nan)
    actual = class_accuracy(probabilities, labels)
    np.testing.assert_allclose(actual, expected, rtol=1e-14)
    sizes = np.bincount(labels, minlength=classes)
    assert np.nansum(actual * sizes) / images == pytest.approx(accuracy(probabilities, labels))


def test_class_accuracy_equals_torchmetrics():
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.full(10, 0.3), size=5000), rng.integers(0, 10, 5000)
    expected = multiclass_accuracy(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=10, average="none"
    )
    np.testing.assert_allclose(class_accuracy(probabilities, labels), expected.numpy(), rtol=1e-6)


def test_class_accuracy_by_hand():
    probabilities = np.array([[0.5, 0.5, 0.0], [0.1, 0.9, 0.0], [0.2, 0.8, 0.0], [0.9, 0.1, 0.0]])
    # A tie goes to the lowest class; class 2 has no image.
    np.testing.assert_array_equal(class_accuracy(probabilities, np.array([0, 1, 0, 0])), [2 / 3, 1, np.nan])


def test_logits_are_refused():
    with pytest.raises(ValueError, match="are these logits"):
        class_accuracy(np.array([[3.0, -1.0]]), np.array([0]))
