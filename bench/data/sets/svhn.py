"""SVHN (street view house numbers): its test images, to evaluate on."""

from pathlib import Path

import numpy as np

from bench.data.dataset import Array
from bench.data.published import PublishedFile


def _decode(path: Path) -> Array:
    from scipy.io import loadmat

    return np.ascontiguousarray(loadmat(path, variable_names=["X"])["X"].transpose(3, 0, 1, 2))


# As torchvision has them, which takes seconds to import.
SVHN = PublishedFile(
    name="svhn",
    path="test_32x32.mat",
    url="http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
    md5="eb5a983be6a315427106f1b164d9cef3",
    images=26_032,
    decode=_decode,
)
