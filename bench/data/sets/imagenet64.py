"""ImageNet at 64x64 pixels, as Chrabaszcz et al. 2017 (arXiv 1707.08819) release it: npz files of arrays.

Eleven files hold `data`, uint8 [N, 12288] in channel planes, and `labels`, 1 to 1000 in the release's own order of the
classes, which is not that of sorted WordNet ids; their names are not in the files and not known here. All images are
written once as one array, which is memory-mapped. The pickles of the release are not read: a pickle runs what it says.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from bench.data.alone import alone
from bench.data.cache import default_root
from bench.data.copies import nearest
from bench.data.dataset import Array, fixed_order
from bench.data.files import named, regular
from bench.data.progress import tracked
from bench.data.record import DataSet, Parts
from bench.data.rows import Row
from bench.data.sets.imagenet import IMAGENET
from bench.errors import UserError
from bench.spec.run import Augmentation
from bench.spec.seeds import derived_seed
from bench.store.files import atomic_path

log = logging.getLogger(__name__)

FOLDER = "imagenet64"
TEST = "val_data.npz"
FILES = (*(f"train_data_batch_{part}.npz" for part in range(1, 11)), TEST)
BY_HAND = (
    "By hand: get the npz files of the 64x64 images (not the pickles, which are not read) from https://image-net.org, "
    f"which asks for your name, and put {FILES[0]} to {FILES[-2]} and {TEST} into {FOLDER}/ in the data folder"
)
# Raised when the order of images in the kept array changes.
KEPT_VERSION = 1
# As many images are turned from channel planes at once.
CHUNK = 4096


@dataclass(frozen=True)
class Batches:
    """The files of the release, in imagenet64/ in the data folder or in the folder itself."""

    names: tuple[str, ...] = (FOLDER, *FILES)
    origin: str = "as many images as the release has, no checksum known"

    def read(self, data: DataSet, folder: Path, *, download: bool, progress: bool) -> Parts:  # noqa: ARG002
        """Return all images, memory-mapped; UserError that names files that are missing or not those of the release.

        The training images that validate are drawn; all others, and all labels, stay in the order of the files.
        """
        files = _all_files(data, folder)
        images, labels = _kept(data, files, progress=progress)
        training = data.images - data.test_images
        return Parts(images[:training], labels[:training], images[training:], labels[training:])

    def stored(self, data: DataSet, folder: Path) -> tuple[Path, ...]:
        """Return the files of the one array, written first if they are not there; UserError as `read`."""
        files = _all_files(data, folder)
        _kept(data, files, progress=False)
        path = _kept_path(files)
        return path, _labels_path(path)

    def listed(self, data: DataSet, folder: Path) -> Row:
        """Return what names of files say."""
        files, missing = _found(folder)
        if not files:
            return Row(data.name, data.version, "absent", folder, None, BY_HAND)
        where = files[0].parent
        if missing:
            return Row(data.name, data.version, "damaged", where, None, f"missing: {', '.join(missing)}")
        return Row(data.name, data.version, "ready", where, data.images, "")

    def verified(self, data: DataSet, folder: Path) -> Row:
        """Return the row after reading all files, and comparing the kept array with them if there is one."""
        row = self.listed(data, folder)
        if row.state != "ready":
            return row
        files, _ = _found(folder)
        path = _kept_path(files)
        kept = _mapped(path, data)
        for place, pixels, numbers in _placed(data, files, progress=True):
            if kept and not (np.array_equal(kept[0][place], pixels) and np.array_equal(kept[1][place], numbers)):
                return Row(data.name, data.version, "damaged", path, None, "not what its files hold; delete it")
        return Row(data.name, data.version, "intact", row.where, data.images, "")


def _found(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files that are there, in order, and the names of those that are not."""
    around = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    files = [path for name in FILES if (path := around / name).exists() or path.is_symlink()]
    return files, [name for name in FILES if around / name not in files]


def _all_files(data: DataSet, folder: Path) -> list[Path]:
    files, missing = _found(folder)
    if missing:
        raise UserError(f"{data.name}: missing in {folder.resolve()}: {', '.join(missing)}. {BY_HAND}")
    return files


def _kept_path(files: list[Path]) -> Path:
    """Return where the array of these files, by name, size and time, is kept in the data folder."""
    states = [(path.name, regular(path)) for path in files]
    text = "".join(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n" for name, state in states)
    digest = sha256(f"{KEPT_VERSION}\n{text}".encode()).hexdigest()[:12]
    return default_root() / "cache" / f"{FOLDER}-{digest}.npy"


def _kept(data: DataSet, files: list[Path], *, progress: bool) -> tuple[Array, Array]:
    """Return images uint8 [N, S, S, 3], a memory map, and labels int64 [N]; written by one process, if they are not."""
    path = _kept_path(files)
    if (known := _mapped(path, data)) is not None:
        return known
    with alone(path.with_suffix(".lock"), f"{data.name} is written as one array"):
        if (known := _mapped(path, data)) is not None:
            return known
        labels = np.empty(data.images, dtype=np.int64)
        shape = (data.images, data.image_size, data.image_size, 3)
        try:
            with atomic_path(path) as temporary:
                images = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
                for place, pixels, numbers in _placed(data, files, progress=progress):
                    images[place], labels[place] = pixels, numbers
                images.flush()
                del images
                # First, so that images that are there have labels.
                with atomic_path(_labels_path(path)) as beside, beside.open("wb") as stream:
                    np.save(stream, labels)
        except OSError as error:
            size = data.images * data.image_size**2 * 3 / 1e9
            raise UserError(f"{path}: not written ({error}); {data.name} needs {size:.1f} GB there") from None
    known = _mapped(path, data)
    if known is None:
        raise UserError(f"{path}: cannot be read back; delete it and run again")
    return known


def _labels_path(path: Path) -> Path:
    return path.with_suffix(".labels.npy")


def _mapped(path: Path, data: DataSet) -> tuple[Array, Array] | None:
    """Return the kept arrays; None if there are none or they are not whole."""
    if not path.exists():
        return None
    try:
        images, labels = np.load(nearest(path), mmap_mode="r"), np.load(nearest(_labels_path(path)))
    except (OSError, ValueError, EOFError) as error:
        log.warning("%s: not usable (%s); it is written again", path, error)
        return None
    whole = images.shape == (data.images, data.image_size, data.image_size, 3) and labels.shape == (data.images,)
    return (images, labels) if whole else None


def _placed(data: DataSet, files: list[Path], *, progress: bool) -> Iterator[tuple[Array, Array, Array]]:
    """Yield places int64 [B], images uint8 [B, S, S, 3] and labels int64 [B]: validation after training, tests last.

    UserError unless the files hold as many images as the record says.
    """
    training = data.images - data.test_images
    order = fixed_order(training, derived_seed("validation images", data.name, training))
    validates = np.zeros(training, dtype=bool)
    validates[order[data.train_images :]] = True
    place = np.empty(data.images, dtype=np.int64)
    place[np.concatenate([np.flatnonzero(~validates), np.flatnonzero(validates)])] = np.arange(training)
    place[training:] = np.arange(training, data.images)
    start = 0
    for path in tracked(files, f"reading {data.name}", progress=progress):
        pixels, labels = _read_file(path, data)
        last, stop = path.name == TEST, start + len(labels)
        expected = data.images if last else training
        if stop > expected or (last and (start, stop) != (training, expected)):
            raise UserError(
                f"{path}: with its {len(labels):,} images there are {stop:,}; the release has {training:,} to train on "
                f"and {data.test_images:,} to test on"
            )
        for first in range(0, len(labels), CHUNK):
            part = slice(first, min(first + CHUNK, len(labels)))
            planes = pixels[part].reshape(-1, 3, data.image_size, data.image_size)
            yield place[start + part.start : start + part.stop], planes.transpose(0, 2, 3, 1), labels[part]
        start = stop


def _read_file(path: Path, data: DataSet) -> tuple[Array, Array]:
    """Return data uint8 [N, 3 S S] and labels int64 [N] from 0 on; UserError for anything else."""
    regular(path)
    try:
        with named(path), np.load(path, allow_pickle=False) as arrays:
            pixels, labels = arrays["data"], arrays["labels"]
    except UserError:
        raise
    except Exception as error:  # damaged bytes raise what they like
        raise UserError(f"{path}: not a file of the release ({type(error).__name__}: {error}); get it again") from None
    width = 3 * data.image_size**2
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (width,):
        raise UserError(f"{path}: its data are {pixels.dtype} {list(pixels.shape)}; allowed: uint8 [N, {width}]")
    if labels.shape != (len(pixels),) or labels.dtype.kind not in "iu":
        raise UserError(f"{path}: {len(pixels):,} images, but labels {labels.dtype} {list(labels.shape)}")
    if len(labels) and not 1 <= labels.min() <= labels.max() <= data.classes:
        raise UserError(f"{path}: labels from {labels.min()} to {labels.max()}; allowed: 1 to {data.classes}")
    return pixels, labels.astype(np.int64) - 1


# Mean and standard deviation are those that ImageNet is known by, not measured at this size.
IMAGENET64 = DataSet(
    name="imagenet64",
    classes=1000,
    train_images=IMAGENET.train_images,
    validation_images=IMAGENET.validation_images,
    test_images=IMAGENET.test_images,
    mean=IMAGENET.mean,
    std=IMAGENET.std,
    augmentation=Augmentation(padding=8, padding_mode="zero", flip=True),
    source=Batches(),
    image_size=64,
)
