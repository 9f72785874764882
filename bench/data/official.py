"""CIFAR-10 and CIFAR-100 as published: found on disk or downloaded, extracted, checked and read with torchvision.

The archive and the extracted folder appear under their names only when whole, so a killed download leaves nothing that
the next call trips over. What is on disk and damaged is named, never silently replaced.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.alone import alone
from bench.data.dataset import Dataset
from bench.data.download import explained, fetch, temporary_folder
from bench.errors import UserError

# An archive of 170 MB, and 186 MB that come out of it.
DISK_MEGABYTES = 400


@dataclass(frozen=True)
class Files:
    """Names that torchvision expects in a data folder: known here too, since importing it takes seconds."""

    url: str
    folder: str
    batches: tuple[str, ...]

    @property
    def archive(self) -> str:
        """File name of the archive."""
        return self.url.rpartition("/")[2]


FILES: dict[str, Files] = {
    "cifar10": Files(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        folder="cifar-10-batches-py",
        batches=(*(f"data_batch_{part}" for part in range(1, 6)), "test_batch", "batches.meta"),
    ),
    "cifar100": Files(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        folder="cifar-100-python",
        batches=("train", "test", "meta"),
    ),
}


def load_official(name: str, folder: Path, *, progress: bool) -> Dataset:
    """Return the official images in their official order; extract or download them first where needed.

    UserError, with what to do, if a file is damaged, the download fails, or the disk is full.
    """
    extract(name, folder, progress=progress)
    dataset_class = _torchvision_class(name)
    try:
        train, test = (dataset_class(folder, train=part) for part in (True, False))
    except RuntimeError:
        damaged = damaged_batches(name, folder)
        if not damaged:
            raise
        raise UserError(
            f"{damaged[0]}: missing, or its MD5 is not the official one; delete {damaged[0].parent} and run again to "
            f"extract it from {FILES[name].archive} or download it. {by_hand(name, folder)}"
        ) from None
    return Dataset(
        name=name,
        variant="official",
        classes=tuple(train.classes),
        train_images=np.ascontiguousarray(train.data),
        train_labels=np.array(train.targets, dtype=np.int64),
        test_images=np.ascontiguousarray(test.data),
        test_labels=np.array(test.targets, dtype=np.int64),
    )


def extract(name: str, folder: Path, *, progress: bool) -> None:
    """Make sure that the folder of batches exists, from the archive, downloaded if that does not exist either."""
    if not (folder / FILES[name].folder).exists():
        with alone(folder / f".{name}.lock", f"{name} is downloaded or extracted"):
            _extract(name, folder, progress=progress)


def _extract(name: str, folder: Path, *, progress: bool) -> None:
    from torchvision.datasets.utils import extract_archive

    files = FILES[name]
    archive, batches = folder / files.archive, folder / files.folder
    if batches.exists():
        return  # another process was faster
    if not archive.exists():
        md5, ways = _torchvision_class(name).tgz_md5, by_hand(name, folder)
        fetch(name, files.url, archive, md5, megabytes=DISK_MEGABYTES, by_hand=ways, progress=progress)
    elif not archive_is_intact(name, folder):
        raise UserError(
            f"{archive}: not the official archive (its MD5 differs; an incomplete download?); delete it and run again "
            f"to download it. {by_hand(name, folder)}"
        )
    doing, ways = f"extracting {archive}", by_hand(name, folder)
    with explained(name, folder, doing, DISK_MEGABYTES, ways), temporary_folder(folder) as temporary:
        extract_archive(archive, temporary)
        try:
            (temporary / files.folder).rename(batches)
        except OSError:
            # Another process was faster; what it extracted is checked when it is read.
            if not batches.exists():
                raise


def archive_is_intact(name: str, folder: Path) -> bool:
    """Return whether the archive is in the folder with the official MD5."""
    from torchvision.datasets.utils import check_integrity

    return bool(check_integrity(folder / FILES[name].archive, _torchvision_class(name).tgz_md5))


def damaged_batches(name: str, folder: Path) -> list[Path]:
    """Return the extracted files that are missing or whose MD5 is not the official one."""
    from torchvision.datasets.utils import check_integrity

    official = _torchvision_class(name)
    checksums = [*official.train_list, *official.test_list, (official.meta["filename"], official.meta["md5"])]
    paths = [(folder / FILES[name].folder / file, md5) for file, md5 in checksums]
    return [path for path, md5 in paths if not check_integrity(path, md5)]


def by_hand(name: str, folder: Path) -> str:
    """Return the sentences that say how to get the images without a download from this machine."""
    files = FILES[name]
    return (
        f"By hand: put {files.archive} from {files.url} into {folder.resolve()}; or give the images as a folder, or a "
        "zip of one, with --data (train/<class>/*, test/<class>/*)"
    )


def _torchvision_class(name: str) -> Any:
    from torchvision import datasets

    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
