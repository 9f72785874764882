"""MNIST (handwritten digits): its test images, grey, 28x28, to evaluate on."""

import gzip
from pathlib import Path

import numpy as np

from bench.data.dataset import Array
from bench.data.published import PublishedFile


def _decode(path: Path) -> Array:
    """Read the IDX format: 16 bytes of header, then the images row by row; three equal channels."""
    data = np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=16)
    return np.repeat(data.reshape(-1, 28, 28, 1), 3, axis=-1)


# As torchvision has them, which takes seconds to import.
MNIST = PublishedFile(
    name="mnist",
    path="MNIST/raw/t10k-images-idx3-ubyte.gz",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz",
    md5="9fb629c4189551a2d022fa330f9573f3",
    images=10_000,
    decode=_decode,
)
