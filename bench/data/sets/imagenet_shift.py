"""ImageNet under natural shift: other images of its classes (V2, A, R, Sketch), and other labels of its own (ReaL).

Sources: Recht et al. 2019, Hendrycks et al. 2021 (A; R), Wang et al. 2019, Beyer et al. 2020. ImageNet-A and -R have
200 of the 1,000 classes. Networks of all 1,000 are judged by the logits of those 200 alone, as by the authors.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.data.cache import default_root
from bench.data.dataset import Array
from bench.data.rows import Row
from bench.data.sets.by_hand import ByHand, Found
from bench.data.sets.imagenet import IMAGENET
from bench.data.streamed.index import Part, find_part, index_part
from bench.errors import UserError
from bench.store.files import read_json

CLASSES = IMAGENET.class_names


def _listed_classes(file: str) -> tuple[str, ...]:
    return tuple(Path(__file__).with_name(file).read_text(encoding="ascii").split())


@dataclass(frozen=True)
class ShiftedImages(ByHand):
    """A folder, or an uncompressed tar, with a folder for each class.

    folders    what it may be called
    wnids      its classes
    numbered   whether folders are called 0 to 999 instead, by the place of the class among the sorted wnids
    """

    folders: tuple[str, ...] = ()
    wnids: tuple[str, ...] = CLASSES
    numbered: bool = False

    @property
    def labels(self) -> Array:
        """The labels of its classes, int64, ascending."""
        return np.array([CLASSES.index(wnid) for wnid in self.wnids], np.int64)

    def is_there(self, root: Path) -> bool:
        """Whether there is such a folder or tar."""
        return find_part(root, self.folders) is not None

    def find(self, root: Path) -> Found:
        """Return the files with labels 0..999; UserError unless they are all images of all classes."""
        where = find_part(root, self.folders)
        if where is None:
            raise self.absent(root, f"{self.folders[0]}/<class>/<image>")
        part = index_part(where, default_root() / "cache")
        if self.numbered:
            part = replace(part, classes=tuple(_wnid(name, where) for name in part.classes))
        self._check(part, where)
        return Found(part.labelled(CLASSES, where), where, part.fingerprint)

    def _check(self, part: Part, where: Path) -> None:
        part.labelled(CLASSES, where)  # which names a folder that is no class at all
        if odd := sorted(set(part.classes) - set(self.wnids)):
            raise UserError(f"{where / odd[0]}: a class of ImageNet, but none of the {len(self.wnids)} of {self.name}")
        if len(set(part.classes)) < len(part.classes):
            raise UserError(f"{where}: two folders of one class")
        if missing := [wnid for wnid in self.wnids if wnid not in part.classes]:
            raise UserError(f"{where}: no folder of {len(missing)} of the {len(self.wnids)} classes: {missing[0]}, ...")
        if len(part.labels) != self.images:
            raise UserError(f"{where}: {len(part.labels):,} images; {self.name} has {self.images:,}: extract it again")


def _wnid(folder: str, where: Path) -> str:
    """Return the class of a folder that is called by a number: "10" comes after "2"."""
    if not re.fullmatch("[0-9]{1,3}", folder):
        raise UserError(f"{where / folder}: not a class; expected folders 0 to {len(CLASSES) - 1}")
    return CLASSES[int(folder)]


@dataclass(frozen=True)
class OtherLabels:
    """real.json: for each validation image of ImageNet, by its number, the classes that it shows; maybe none."""

    name: str = "imagenet_real"
    images: int = 50_000
    files: tuple[str, ...] = ("real.json", "reassessed-imagenet/real.json", "imagenet/real.json")
    by_hand: str = "put real.json of https://github.com/google-research/reassessed-imagenet there"

    def pairs(self, root: Path, names: Sequence[str]) -> tuple[Array, str]:
        """Return the classes of the images of these file names, int64 [K, 2] of place and label; and their source.

        UserError if the labels are not there or not what they should be, and unless each name is that of another
        validation image of ImageNet.
        """
        path, of_number = self._read(root)
        found = [re.fullmatch(r"ILSVRC2012_val_([0-9]{8})\.JPEG", name.rpartition("/")[2]) for name in names]
        numbers = [int(match[1]) if match else 0 for match in found]
        if odd := [name for name, number in zip(names, numbers, strict=True) if not 1 <= number <= len(of_number)]:
            raise UserError(f"{path}: labels of ImageNet's validation images; {odd[0]} is none of those by its name")
        if len(set(numbers)) < len(numbers):
            raise UserError(f"{path}: two test images have the name of the same validation image")
        pairs = [(place, label) for place, number in enumerate(numbers) for label in of_number[number - 1]]
        array = np.array(pairs, np.int64).reshape(-1, 2)
        return array, f"labels-{hashlib.sha256(array.astype('<i8').tobytes()).hexdigest()[:12]}"

    def listed(self, root: Path) -> Row:
        """Return whether the labels are there."""
        there = self._path(root) is not None
        try:
            path, _ = self._read(root)
        except UserError as error:
            return Row(self.name, "labels", "damaged" if there else "absent", root, None, str(error))
        return Row(self.name, "labels", "ready", path, None, "")

    def verified(self, root: Path) -> Row:
        """Return the row: reading it has checked every label."""
        row = self.listed(root)
        return replace(row, state="intact") if row.state == "ready" else row

    def prepared(self, root: Path, *, progress: bool) -> Row:  # noqa: ARG002
        """Return the row; UserError, with what to do, if it is not there."""
        row = self.listed(root)
        if row.state != "ready":
            raise UserError(f"{self.name}: {row.note}")
        return row

    def _path(self, root: Path) -> Path | None:
        return next((root / file for file in self.files if (root / file).exists()), None)

    def _read(self, root: Path) -> tuple[Path, list[list[int]]]:
        path = self._path(root)
        if path is None:
            raise UserError(f"{root.resolve()}: no {self.files[0]} here. By hand: {self.by_hand}")
        content = read_json(path)
        if not (isinstance(content, list) and len(content) == self.images and all(map(_are_labels, content))):
            raise UserError(f"{path}: expected a list of {self.images:,} lists of different labels, 0 to 999")
        return path, content


def _are_labels(labels: object) -> bool:
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < len(CLASSES) for label in labels):
        return False
    return len(set(labels)) == len(labels)


_HENDRYCKS = "https://people.eecs.berkeley.edu/~hendrycks"
IMAGENET_V2 = ShiftedImages(
    "imagenet_v2",
    10_000,
    "extract imagenetv2-matched-frequency.tar.gz of https://huggingface.co/datasets/vaishaal/ImageNetV2 there",
    ("imagenetv2-matched-frequency-format-val", "imagenetv2-matched-frequency"),
    numbered=True,
)
IMAGENET_A = ShiftedImages(
    "imagenet_a",
    7_500,
    f"put {_HENDRYCKS}/imagenet-a.tar, or what it holds, there",
    ("imagenet-a",),
    _listed_classes("imagenet_a_classes.txt"),
)
IMAGENET_R = ShiftedImages(
    "imagenet_r",
    30_000,
    f"put {_HENDRYCKS}/imagenet-r.tar, or what it holds, there",
    ("imagenet-r",),
    _listed_classes("imagenet_r_classes.txt"),
)
IMAGENET_SKETCH = ShiftedImages(
    "imagenet_sketch",
    50_889,
    "extract the archive of https://github.com/HaohanWang/ImageNet-Sketch there",
    ("sketch", "imagenet-sketch", "ImageNet-Sketch"),
)
IMAGENET_REAL = OtherLabels()
