"""The embedded data set: scikit-learn's 1,797 handwritten digits, made to look like CIFAR (32x32, three channels).

UCI "Optical Recognition of Handwritten Digits" (its test part): 8x8 grey images of 17 levels. No file, no download.
"""

import numpy as np

from bench.data.dataset import Array, fixed_order
from bench.data.record import DataSet, Embedded, Parts
from bench.spec.run import Augmentation
from bench.spec.seeds import derived_seed

TESTS = 360


def load_digits() -> Parts:
    """Return the digits in a fixed seeded order: 1,437 to train and validate on, then 360 to test on."""
    from sklearn import datasets

    source = datasets.load_digits()
    order = fixed_order(len(source.images), derived_seed("digits split", len(source.images)))
    images = enlarge(source.images[order])
    labels = source.target[order].astype(np.int64)
    return Parts(images[:-TESTS], labels[:-TESTS], images[-TESTS:], labels[-TESTS:])


def enlarge(images: Array) -> Array:
    """Return uint8 [N, 32, 32, 3] from levels 0..16 [N, 8, 8]: bilinear, half-pixel centres, edges repeated.

    Weights are multiples of 1/8, so every product and sum is exact and the bytes are the same on any machine.
    """
    centres = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    weights = np.clip(1 - np.abs(centres[:, None] - np.arange(8)), 0, 1)
    grey = np.rint(weights @ images @ weights.T * 255 / 16).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


DIGITS = DataSet(
    name="digits",
    classes=10,
    train_images=1257,
    validation_images=180,
    test_images=TESTS,
    mean=(0.3060, 0.3060, 0.3060),
    std=(0.3241, 0.3241, 0.3241),
    # A mirrored digit is another sign; a shift of 4 pixels is one pixel of the 8x8 original.
    augmentation=Augmentation(padding=4, padding_mode="zero", flip=False),
    source=Embedded(load_digits, note="comes with scikit-learn"),
    class_names=tuple("0123456789"),
    ood_whole=True,
)
