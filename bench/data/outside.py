"""Images from outside the distribution a network was trained on, all of label -1, at the size the network takes.

SVHN and MNIST (test images, checked against their published MD5), CIFAR-10/100 and digits, noise as in ODIN (Liang et
al. 2018), and an image folder of one's own. Images of another size are resized, bilinearly, when they are read.
"""

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bench.data import official, sources
from bench.data.alone import alone
from bench.data.dataset import Array
from bench.data.digits import load_digits
from bench.data.download import fetch, md5_of
from bench.data.folders import IMAGE_SUFFIXES
from bench.data.lazy import OFFICIAL, EvaluationImages, LazyImages, rgb
from bench.errors import UserError, did_you_mean
from bench.spec.seeds import derived_seed

NOISE_IMAGES = 10_000
MEGABYTES = 100


@dataclass(frozen=True)
class OutsideFile:
    """A file of test images: where torchvision keeps it in a data folder, its address, MD5 and number of images."""

    path: str
    url: str
    md5: str
    images: int

    def by_hand(self, root: Path) -> str:
        """Return the sentence that says how to get the file without a download from this machine."""
        return f"By hand: put {self.url} there as {(root / self.path).resolve()}"


# As torchvision has them, which takes seconds to import.
FILES: dict[str, OutsideFile] = {
    "svhn": OutsideFile(
        path="test_32x32.mat",
        url="http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
        md5="eb5a983be6a315427106f1b164d9cef3",
        images=26_032,
    ),
    "mnist": OutsideFile(
        path="MNIST/raw/t10k-images-idx3-ubyte.gz",
        url="https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz",
        md5="9fb629c4189551a2d022fa330f9573f3",
        images=10_000,
    ),
}
NAMES = (*FILES, *official.FILES, "digits", "gaussian", "uniform", "folder")


def open_outside(
    name: str,
    *,
    size: int,
    images: int | None,
    root: Path,
    folder: Path | None,
    download: bool,
    progress: bool = False,
) -> EvaluationImages:
    """Return a set of NAMES: uint8 [N, size, size, 3], an array or LazyImages, with labels -1.

    size      side of the images of the network's own data set
    images    the first so many; None: all there are, 10,000 of noise
    root      data folder, where files are looked for and downloaded to
    folder    of "folder": all images below it, in the order of their paths

    UserError for an unknown name, too many images, a folder without a set that needs one or the reverse; and, with what
    to do, for files that are missing or damaged, or cannot be downloaded.
    """
    if name not in NAMES:
        raise UserError(f"out of distribution: unknown set {name!r}{did_you_mean(name, NAMES)}")
    if (folder is None) == (name == "folder"):
        raise UserError(f"out of distribution: {name!r} {'needs a' if folder is None else 'takes no'} folder of images")
    if folder is not None:
        return _own(folder, size, images)
    if name in ("gaussian", "uniform"):
        return _noise(name, size, NOISE_IMAGES if images is None else images)
    array, source = _stored(name, root, download=download, progress=progress)
    count = _first(name, images, len(array))
    return EvaluationImages(_of_size(array[:count], size), _labels(count), source)


def read_file(name: str, root: Path) -> Array:
    """Return the test images of svhn, uint8 [26032, 32, 32, 3], or mnist, grey uint8 [10000, 28, 28, 3].

    UserError if the file is not in the data folder, or not of the published MD5.
    """
    file = FILES[name]
    path = root / file.path
    if not path.is_file():
        raise UserError(
            f"{name}: no file {path.resolve()}; `python -m bench data prepare {name}` downloads it. "
            f"{file.by_hand(root)}"
        )
    if (md5 := md5_of(path)) != file.md5:
        raise UserError(
            f"{path}: its MD5 is {md5}, not the published {file.md5}: altered or damaged; delete it, then "
            f"`python -m bench data prepare {name}` downloads it again. {file.by_hand(root)}"
        )
    return _svhn(path) if name == "svhn" else _mnist(path)


def download_file(name: str, root: Path, *, progress: bool) -> None:
    """Download the file of svhn or mnist, unless there is one; UserError if that fails."""
    file = FILES[name]
    path, ways = root / file.path, file.by_hand(root)
    if not path.exists():
        with alone(root / f".{name}.lock", f"{name} is downloaded"):
            if not path.exists():
                fetch(name, file.url, path, file.md5, megabytes=MEGABYTES, by_hand=ways, progress=progress)


def _stored(name: str, root: Path, *, download: bool, progress: bool) -> tuple[Array, str]:
    """Return images of a data set and which they are: test images; of digits all, since nothing else is published."""
    if name == "digits":
        digits = load_digits()
        return np.concatenate([digits.train_images, digits.test_images]), "official"
    if name in FILES:
        if download:
            download_file(name, root, progress=progress)
        return read_file(name, root), OFFICIAL
    files = official.FILES[name]
    if not download and not any((root / file).exists() for file in (files.folder, files.archive)):
        raise UserError(
            f"{name}: neither {files.folder} nor {files.archive} is in {root.resolve()}; `python -m bench data prepare "
            f"{name}` downloads it, or put {files.url} there"
        )
    return sources.load(name, None, root=root, progress=progress).test_images, OFFICIAL


def _svhn(path: Path) -> Array:
    from scipy.io import loadmat

    return np.ascontiguousarray(loadmat(path, variable_names=["X"])["X"].transpose(3, 0, 1, 2))


def _mnist(path: Path) -> Array:
    """Read the IDX format: 16 bytes of header, then the images row by row; three equal channels."""
    data = np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=16)
    return np.repeat(data.reshape(-1, 28, 28, 1), 3, axis=-1)


def _noise(name: str, size: int, count: int) -> EvaluationImages:
    """Return noise, independent in every channel of every pixel: uniform on [0, 1], or N(0.5, 1) clipped to [0, 1].

    Image i is the same in whatever slice, and whatever the release of NumPy (as bench.data.dataset.fixed_order).
    """
    _first(name, count, count)
    values = size * size * 3

    def make(start: int, stop: int) -> Array:
        generator = np.random.PCG64(derived_seed("noise", name)).advance(start * values)
        words = generator.random_raw((stop - start) * values)
        # 53 bits, in the open interval (0, 1).
        uniform = ((words >> np.uint64(11)) + 0.5) * 2.0**-53
        levels = uniform if name == "uniform" else np.clip(0.5 + _normal(uniform), 0, 1)
        return np.rint(255 * levels).astype(np.uint8).reshape(-1, size, size, 3)

    return EvaluationImages(LazyImages(count, size, make).as_array(), _labels(count), f"generated {name} noise")


def _normal(uniform: Array) -> Array:
    from scipy.special import ndtri

    return np.asarray(ndtri(uniform))


def _own(folder: Path, size: int, images: int | None) -> EvaluationImages:
    """Return the images below a folder; the source is a digest of path, CRC-32 and size of those that are used.

    UserError if it is no folder or holds no image; when a slice is read, for a file that cannot be decoded.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one with images below it")
    found = sorted(
        (Path(where) / file).relative_to(folder).as_posix()
        for where, _, files in os.walk(folder, followlinks=True)
        for file in files
        if file.lower().endswith(IMAGE_SUFFIXES)
    )
    paths = [path for path in found if not any(name.startswith(".") for name in path.split("/"))]
    if not paths:
        raise UserError(f"{folder}: no images below it; allowed: {', '.join(IMAGE_SUFFIXES)}")
    used = paths[: _first(str(folder), images, len(paths))]
    digest = hashlib.sha256()
    for path in used:
        data = _bytes(folder / path)
        digest.update(f"{path}\0{zlib.crc32(data):08x}\0{len(data)}\n".encode())

    def make(index: int) -> Image.Image:
        try:
            return _square(rgb(_bytes(folder / used[index])), size)
        except ValueError as error:
            raise UserError(f"{folder / used[index]}: {error}") from None

    lazy = _one_by_one(len(used), size, make)
    return EvaluationImages(lazy, _labels(len(used)), f"images-{digest.hexdigest()[:12]}")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _square(image: Image.Image, size: int) -> Image.Image:
    """Resize the short side to `size`, bilinearly, and cut out the middle: torchvision's Resize and CenterCrop."""
    short = min(image.size)
    width, height = (size * side // short for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))


def _of_size(array: Array, size: int) -> Array:
    """Return images at another size; those of the right size as they are."""
    if array.shape[1] == size:
        return array
    return _one_by_one(len(array), size, lambda index: _square(Image.fromarray(array[index]), size))


def _one_by_one(count: int, size: int, make: Callable[[int], Image.Image]) -> Array:
    def several(start: int, stop: int) -> Array:
        images = np.empty((stop - start, size, size, 3), dtype=np.uint8)
        for index in range(start, stop):
            images[index - start] = np.asarray(make(index))
        return images

    return LazyImages(count, size, several).as_array()


def _first(name: str, images: int | None, available: int) -> int:
    """Return how many images to use; UserError for less than one, and for more than there are."""
    if images is not None and not 0 < images <= available:
        raise UserError(f"out of distribution: {images:,} images of {name} asked for; allowed: 1 to {available:,}")
    return available if images is None else images


def _labels(count: int) -> Array:
    return np.full(count, -1, dtype=np.int64)
