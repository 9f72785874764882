"""CIFAR-10 and CIFAR-100 as published: found on disk or downloaded, extracted, checked and read with torchvision.

The archive and the extracted folder appear under their names only when whole, so a killed download leaves nothing that
the next call trips over. What is on disk and damaged is named, never silently replaced.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.alone import alone
from bench.data.copies import nearest
from bench.data.download import explained, fetch, temporary_folder
from bench.data.files import regular
from bench.data.lazy import OFFICIAL
from bench.data.record import DataSet, Parts
from bench.data.rows import Row
from bench.errors import UserError
from bench.spec.run import Augmentation

# An archive of 170 MB, and 186 MB that come out of it.
DISK_MEGABYTES = 400
# Sorted, which is also the official order of the labels.
NAMES_10 = "airplane automobile bird cat deer dog frog horse ship truck"
NAMES_100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


@dataclass(frozen=True)
class Official:
    """Names that torchvision expects in a data folder: known here too, since importing it takes seconds.

    reader   the class of torchvision.datasets that reads the files and knows their MD5s
    """

    url: str
    folder: str
    batches: tuple[str, ...]
    reader: str
    origin: str = OFFICIAL

    @property
    def archive(self) -> str:
        """File name of the archive."""
        return self.url.rpartition("/")[2]

    @property
    def names(self) -> tuple[str, ...]:
        """The archive, and the folder that comes out of it."""
        return self.archive, self.folder

    def read(self, data: DataSet, folder: Path, *, download: bool, progress: bool) -> Parts:
        """Return the official images in their official order; extract or download them first where needed.

        UserError, with what to do, if a file is damaged, the download fails, or the disk is full.
        """
        self._make_ready(data, folder, download=download, progress=progress)
        folder = nearest(folder / self.folder).parent
        try:
            train, test = (self._torchvision(folder, train=part) for part in (True, False))
        except RuntimeError:
            damaged = self._damaged_batches(folder)
            if not damaged:
                raise
            raise UserError(
                f"{damaged[0]}: missing, or its MD5 is not the official one; delete {damaged[0].parent} and run again "
                f"to extract it from {self.archive} or download it. {self.by_hand(folder)}"
            ) from None
        return Parts(
            train_images=np.ascontiguousarray(train.data),
            train_labels=np.array(train.targets, dtype=np.int64),
            test_images=np.ascontiguousarray(test.data),
            test_labels=np.array(test.targets, dtype=np.int64),
        )

    def stored(self, data: DataSet, folder: Path) -> tuple[Path, ...]:
        """Return the folder of batches, extracted or downloaded first where needed; UserError as `read`."""
        self._make_ready(data, folder, download=True, progress=False)
        return (folder / self.folder,)

    def listed(self, data: DataSet, folder: Path) -> Row:
        """Return what names of files say."""
        batches, archive = folder / self.folder, folder / self.archive
        if batches.exists():
            missing = [batch for batch in self.batches if not (batches / batch).exists()]
            if missing:
                note = f"missing: {', '.join(missing)}; delete the folder"
                return Row(data.name, "official", "damaged", batches, None, note)
            return Row(data.name, "official", "ready", batches, data.images, "")
        if archive.exists():
            return Row(data.name, "official", "archive only", archive, data.images, "extracted when first used")
        note = f"`python -m bench data prepare {data.name}` downloads it. {self.by_hand(folder)}"
        return Row(data.name, "official", "absent", folder, None, note)

    def verified(self, data: DataSet, folder: Path) -> Row:
        """Return the row after checking the MD5s."""
        row = self.listed(data, folder)
        if row.state == "absent":
            return row
        if row.state == "archive only":
            if self._archive_is_intact(folder):
                note = "archive only; extracted when first used"
                return Row(data.name, "official", "intact", row.where, row.images, note)
            return Row(data.name, "official", "damaged", row.where, None, "its MD5 is not the official one; delete it")
        if damaged := self._damaged_batches(folder):
            files = ", ".join(path.name for path in damaged)
            note = f"missing, or not of the official MD5: {files}; delete the folder"
            return Row(data.name, "official", "damaged", row.where, None, note)
        return Row(data.name, "official", "intact", row.where, row.images, "")

    def by_hand(self, folder: Path) -> str:
        """Return the sentences that say how to get the images without a download from this machine."""
        return (
            f"By hand: put {self.archive} from {self.url} into {folder.resolve()}; or give the images as a folder, or "
            "a zip of one, with --data (train/<class>/*, test/<class>/*)"
        )

    def _make_ready(self, data: DataSet, folder: Path, *, download: bool, progress: bool) -> None:
        if (folder / self.folder).exists():
            return
        if not download and not (folder / self.archive).exists():
            raise UserError(
                f"{data.name}: neither {self.folder} nor {self.archive} is in {folder.resolve()}; `python -m bench "
                f"data prepare {data.name}` downloads it, or put {self.url} there"
            )
        with alone(folder / f".{data.name}.lock", f"{data.name} is downloaded or extracted"):
            self._extract(data.name, folder, progress=progress)

    def _extract(self, name: str, folder: Path, *, progress: bool) -> None:
        """Make sure that the folder of batches exists, from the archive, downloaded if that does not exist either."""
        from torchvision.datasets.utils import extract_archive

        archive, batches, ways = folder / self.archive, folder / self.folder, self.by_hand(folder)
        if batches.exists():
            return  # another process was faster
        if batches.is_symlink():
            regular(batches)  # as `fetch`
        if not archive.exists():
            md5 = self._torchvision.tgz_md5
            fetch(name, self.url, archive, md5, megabytes=DISK_MEGABYTES, by_hand=ways, progress=progress)
        elif not self._archive_is_intact(folder):
            raise UserError(
                f"{archive}: not the official archive (its MD5 differs; an incomplete download?); delete it and run "
                f"again to download it. {ways}"
            )
        doing = f"extracting {archive}"
        with explained(name, folder, doing, DISK_MEGABYTES, ways), temporary_folder(folder) as temporary:
            extract_archive(archive, temporary)
            try:
                (temporary / self.folder).rename(batches)
            except OSError:
                # Another process was faster; what it extracted is checked when it is read.
                if not batches.exists():
                    raise

    def _archive_is_intact(self, folder: Path) -> bool:
        from torchvision.datasets.utils import check_integrity

        return bool(check_integrity(folder / self.archive, self._torchvision.tgz_md5))

    def _damaged_batches(self, folder: Path) -> list[Path]:
        """Return the extracted files that are missing or whose MD5 is not the official one."""
        from torchvision.datasets.utils import check_integrity

        official = self._torchvision
        checksums = [*official.train_list, *official.test_list, (official.meta["filename"], official.meta["md5"])]
        paths = [(folder / self.folder / file, md5) for file, md5 in checksums]
        return [path for path, md5 in paths if not check_integrity(path, md5)]

    @property
    def _torchvision(self) -> Any:
        from torchvision import datasets

        return getattr(datasets, self.reader)


CIFAR10 = DataSet(
    name="cifar10",
    classes=10,
    train_images=45_000,
    validation_images=5_000,
    test_images=10_000,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    augmentation=Augmentation(padding=4, padding_mode="reflect", flip=True),
    source=Official(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        folder="cifar-10-batches-py",
        batches=(*(f"data_batch_{part}" for part in range(1, 6)), "test_batch", "batches.meta"),
        reader="CIFAR10",
    ),
    class_names=tuple(NAMES_10.split()),
)
CIFAR100 = DataSet(
    name="cifar100",
    classes=100,
    train_images=45_000,
    validation_images=5_000,
    test_images=10_000,
    # as in the released code (sparselearning/utils.py), which does not round them
    mean=(0.5070751592371323, 0.48654887331495095, 0.4409178433670343),
    std=(0.2673342858792401, 0.2564384629170883, 0.27615047132568404),
    facts_named=True,
    augmentation=Augmentation(padding=4, padding_mode="zero", flip=True),
    source=Official(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        folder="cifar-100-python",
        batches=("train", "test", "meta"),
        reader="CIFAR100",
    ),
    class_names=tuple(NAMES_100.split()),
)
