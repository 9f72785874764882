"""Sets of image files to evaluate on that a user puts into the data folder: no command gets them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, cast

from bench.data.dataset import LabelledImages
from bench.data.lazy import EvaluationImages
from bench.data.rows import Row, State
from bench.data.streamed.files import ImageFiles
from bench.data.streamed.source import first_problems, shown, test_order
from bench.errors import UserError


class Found(NamedTuple):
    """Image files (bench.data.streamed) with their labels, where they are, and a digest of their names."""

    files: LabelledImages
    where: Path
    fingerprint: str


@dataclass(frozen=True)
class ByHand(ABC):
    """A set by name: how many images it has, and how to get them."""

    name: str
    images: int
    by_hand: str

    @abstractmethod
    def is_there(self, root: Path) -> bool:
        """Whether anything of the set is in a data folder."""

    @abstractmethod
    def find(self, root: Path) -> Found:
        """Return the files, sorted by folder and name; UserError if they are not those of the set. Reads no image."""

    def open(self, size: int, images: int | None, root: Path, *, download: bool, progress: bool) -> EvaluationImages:  # noqa: ARG002
        """Return the first images, all if None, in a fixed order: LazyImages uint8 [N, size, size, 3], as test images.

        UserError, with what to do, if they are not to be had; when a slice is read, for one that cannot be decoded.
        """
        found = self.find(root)
        labels = found.files.labels
        order = test_order(self.name, len(labels))[:images]
        return EvaluationImages(shown(found.files.images[order], size), labels[order], f"names-{found.fingerprint}")

    def listed(self, root: Path) -> Row:
        """Return what names of files say."""
        try:
            found = self.find(root)
        except UserError as error:
            state: State = "damaged" if self.is_there(root) else "absent"
            return Row(self.name, "image folders", state, root, None, str(error))
        return Row(self.name, "image folders", "ready", found.where, len(found.files.labels), "")

    def verified(self, root: Path) -> Row:
        """Return the row after decoding every image, since there are no published checksums."""
        row = self.listed(root)
        if row.state != "ready":
            return row
        damage = first_problems(cast("ImageFiles", self.find(root).files.images), f"decoding {self.name}")
        return replace(row, state="damaged" if damage else "intact", note="; ".join(damage))

    def prepared(self, root: Path, *, progress: bool) -> Row:  # noqa: ARG002
        """Return the row; UserError, with what to do, if it is not there."""
        row = self.listed(root)
        if row.state != "ready":
            raise UserError(f"{self.name}: {row.note}")
        return row

    def absent(self, root: Path, looked_for: str) -> UserError:
        """Return what to tell a user who lacks the set."""
        return UserError(f"{root.resolve()}: no {looked_for} here. By hand: {self.by_hand}")
