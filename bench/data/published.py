"""A set to evaluate on that is one published file of test images, checked against its MD5."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.data.alone import alone
from bench.data.dataset import Array
from bench.data.download import fetch, md5_of
from bench.data.files import named
from bench.data.lazy import OFFICIAL, EvaluationImages
from bench.data.ood import first_images
from bench.data.rows import Row
from bench.errors import UserError

MEGABYTES = 100


@dataclass(frozen=True)
class PublishedFile:
    """A file of test images: where torchvision keeps it in a data folder, its address, MD5, number of images, reader.

    decode   returns the images of the file, uint8 [N, S, S, 3]
    """

    name: str
    path: str
    url: str
    md5: str
    images: int
    decode: Callable[[Path], Array]

    def open(self, size: int, images: int | None, root: Path, *, download: bool, progress: bool) -> EvaluationImages:
        """Return the images at another size, labels -1; UserError, with what to do, if they are not to be had."""
        if download:
            self._download(root, progress=progress)
        return first_images(self.read(root), images, size, OFFICIAL)

    def read(self, root: Path) -> Array:
        """Return the images at their size; UserError if the file is missing, or not of the published MD5."""
        path = root / self.path
        if not path.is_file():
            raise UserError(
                f"{self.name}: no file {root.resolve() / self.path}; {self._prepare}. {self._by_hand(root)}"
            )
        with named(path):
            if (md5 := md5_of(path)) != self.md5:
                raise UserError(
                    f"{path}: its MD5 is {md5}, not the published {self.md5}: altered or damaged; delete it, then "
                    f"{self._prepare} again. {self._by_hand(root)}"
                )
            return self.decode(path)

    def listed(self, root: Path) -> Row:
        """Return whether the file is there."""
        if (root / self.path).is_file():
            return Row(self.name, "official", "ready", root / self.path, self.images, "")
        return Row(self.name, "official", "absent", root, None, f"{self._prepare}. {self._by_hand(root)}")

    def verified(self, root: Path) -> Row:
        """Return the row after checking the MD5."""
        row = self.listed(root)
        if row.state == "absent":
            return row
        try:
            self.read(root)
        except UserError as error:
            return replace(row, state="damaged", images=None, note=str(error))
        return replace(row, state="intact")

    def prepared(self, root: Path, *, progress: bool) -> Row:
        """Download the file unless it is there; UserError if that fails."""
        self._download(root, progress=progress)
        return self.listed(root)

    @property
    def _prepare(self) -> str:
        return f"`python -m bench data prepare {self.name}` downloads it"

    def _by_hand(self, root: Path) -> str:
        return f"By hand: put {self.url} there as {root.resolve() / self.path}"

    def _download(self, root: Path, *, progress: bool) -> None:
        path, ways = root / self.path, self._by_hand(root)
        if not path.exists():
            with alone(root / f".{self.name}.lock", f"{self.name} is downloaded"):
                if not path.exists():
                    fetch(self.name, self.url, path, self.md5, megabytes=MEGABYTES, by_hand=ways, progress=progress)
