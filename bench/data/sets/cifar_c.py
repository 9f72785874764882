"""CIFAR-10-C and CIFAR-100-C as released (Hendrycks & Dietterich 2019): 19 types of corruption at 5 severities.

`<type>.npy` holds the official test images, in their order, at severity 1, then 2, ... 5. Files are memory-mapped, in
their folder or inside the archive, whose members are not compressed; each is checked against its published MD5 when it
is first used. What is wrong with one file says nothing about the others, which can still be read.
"""

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.data.alone import alone
from bench.data.corruptions.catalog import SEVERITIES
from bench.data.dataset import Array
from bench.data.download import fetch, md5_of
from bench.data.files import named, regular
from bench.data.lazy import OFFICIAL, EvaluationImages
from bench.data.progress import tracked
from bench.data.rows import Row
from bench.data.sets.cifar import CIFAR10, CIFAR100
from bench.errors import UserError
from bench.store.files import read_json

# MD5s of the released arrays by set and file; "_archive" is the tar file.
CHECKSUMS = Path(__file__).with_name("cifar_c_md5.json")
LABELS = "labels.npy"
MEGABYTES = 3000
IMAGE_BYTES = 32 * 32 * 3


@dataclass(frozen=True)
class StoredFile:
    """Where the bytes of a released file lie: in a file of their own, or in a stretch of the archive."""

    path: Path
    offset: int
    size: int


class ReleasedFiles:
    """The files of one released set, found in a folder or an archive; nothing is read before it is asked for.

    where   the folder or the archive
    files   names of all the released files, missing and damaged ones included
    types   likewise
    """

    def __init__(self, release: "Release", where: Path, files: Mapping[str, StoredFile]) -> None:
        self.where = where
        self._release = release
        self._files = files
        self._md5 = {file: md5 for file, md5 in release.md5().items() if file != "_archive"}
        self.files = tuple(sorted(self._md5))
        self.types = tuple(Path(file).stem for file in self.files if file != LABELS)

    def read(self, type: str, severity: int, images: int) -> EvaluationImages:
        """Return the first images of a type and severity: a read-only np.memmap uint8 [images, 32, 32, 3].

        ValueError for an unknown type or severity. UserError, with what to do, if the file of this type or that of the
        labels is missing, truncated or not of the published MD5, or if more images are asked for than there are.
        """
        if type not in self.types or severity not in SEVERITIES:
            raise ValueError(
                f"no type {type!r} at severity {severity!r}; types: {self.types}, severities: {SEVERITIES}"
            )
        every, labels = self._array(f"{type}.npy"), self._array(LABELS)
        available = len(every) // len(SEVERITIES)
        if not 0 < images <= available:
            raise UserError(f"{self._release.folder}: {images:,} images asked for; it has {available:,} a severity")
        part = slice((severity - 1) * available, (severity - 1) * available + images)
        return EvaluationImages(every[part], labels[part].astype(np.int64), OFFICIAL)

    def missing(self) -> list[str]:
        """Return the names of the files that are not there, or only in part, by their sizes alone."""
        return [file for file in self.files if file not in self._files or self._cut(self._files[file])]

    def problem(self, file: str) -> str | None:
        """Return what is wrong with one of the released files, after checking every byte of it; None if nothing is."""
        try:
            self._array(file)
        except UserError as error:
            return str(error)
        return None

    def images(self) -> int:
        """Return how many images there are, of all types and severities together, by the sizes of the files alone."""
        without = {LABELS, *self.missing()}
        return sum(self._files[file].size // IMAGE_BYTES for file in self.files if file not in without)

    def _array(self, file: str) -> Array:
        """Return a released file, memory-mapped and verified; UserError that names it."""
        inside = self.where.is_file()
        label = f"{self.where}: {file}" if inside else f"{self.where / file}:"
        way_out = (
            f"the rest of the archive can still be used; to repair it, delete it and get {self._release.url} again"
            if inside
            else f"put the released file there, from {self._release.archive} ({self._release.url})"
        )
        stored = self._files.get(file)
        if stored is None:
            part = f" in what can be read of the archive ({self.where.stat().st_size:,} bytes)" if inside else ""
            raise UserError(f"{label} missing{part}; {way_out}")
        with named(stored.path):
            if problem := self._damage(file, stored):
                raise UserError(f"{label} {problem}; {way_out}")
            shape, dtype, start = _header(stored)
            return np.memmap(stored.path, dtype, "r", start, shape)

    def _damage(self, file: str, stored: StoredFile) -> str | None:
        """Return what is wrong with a file that is there; the sentence "<file> ..." goes on with it."""
        if self._cut(stored):
            return f"truncated: {stored.size:,} bytes begin at {stored.offset:,}, beyond the end of the archive"
        try:
            shape, dtype, start = _header(stored)
        except ValueError as error:
            return f"not a .npy array ({error})"
        expected = "integers [N]" if file == LABELS else "uint8 [N, 32, 32, 3], N a multiple of 5"
        fits = dtype.kind in "iu" and len(shape) == 1 if file == LABELS else _fits(shape, dtype)
        if not fits:
            return f"holds {dtype} {list(shape)}, not {expected}"
        whole = start - stored.offset + int(np.prod(shape)) * dtype.itemsize
        if stored.size != whole:
            return f"truncated or altered: {stored.size:,} bytes, where its header promises {whole:,}"
        md5 = md5_of(stored.path, stored.offset, stored.size)
        if md5 != self._md5[file]:
            return f"its MD5 is {md5}, not the published {self._md5[file]}: altered or damaged"
        return None

    @staticmethod
    def _cut(stored: StoredFile) -> bool:
        return stored.offset + stored.size > stored.path.stat().st_size


def _members(archive: Path) -> dict[str, StoredFile]:
    """Return where the files of an uncompressed tar archive lie, as far as it can be read."""
    regular(archive)
    found = {}
    try:
        with tarfile.open(archive, "r:") as tar:
            while member := tar.next():
                if member.isreg():
                    found[Path(member.name).name] = StoredFile(archive, member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        # Where an archive ends too early, what lies before can still be used.
        if not found:
            raise UserError(f"{archive}: not an uncompressed tar archive ({error}); delete it, get it again") from None
    return found


def _fits(shape: tuple[int, ...], dtype: "np.dtype[np.generic]") -> bool:
    return dtype == np.uint8 and len(shape) == 4 and shape[1:] == (32, 32, 3) and shape[0] > 0 and shape[0] % 5 == 0


def _header(stored: StoredFile) -> tuple[tuple[int, ...], "np.dtype[np.generic]", int]:
    """Return shape, dtype and first byte of a .npy array; ValueError if it is none of version 1 in C order."""
    with stored.path.open("rb") as stream:
        stream.seek(stored.offset)
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another version of the format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if fortran:
            raise ValueError("in Fortran order")
        return shape, dtype, stream.tell()


@dataclass(frozen=True)
class Release:
    """A released set: its folder (also what it is called), the data set it shows, where its archive is published."""

    folder: str
    of: str
    url: str
    key: str = "cifar_c"

    @property
    def archive(self) -> str:
        """File name of the archive."""
        return f"{self.folder}.tar"

    @property
    def name(self) -> str:
        """Its name for `bench data`, and in the names of evaluation sets."""
        return self.folder.lower()

    def md5(self) -> dict[str, str]:
        """Return the published MD5 of every file; of the archive as "_archive"."""
        return {str(file): str(md5) for file, md5 in read_json(CHECKSUMS)[self.folder].items()}

    def family(self, images: int | None, available: int) -> tuple[str, int | None]:
        """Return the name, and how many of the test images; None for all."""
        return self.name, None if images is None or images >= available else images

    def find(self, root: Path) -> ReleasedFiles | None:
        """Return the set in a data folder: its folder if that holds an array, else its archive, else None.

        UserError if the archive is not a tar archive at all.
        """
        folder, archive = root / self.folder, root / self.archive
        with named(folder):
            if folder.is_symlink():
                folder.stat()  # a link to nowhere is named
            sizes = {path.name: path.stat().st_size for path in folder.glob("*.npy") if path.is_file()}
        if sizes:
            return ReleasedFiles(
                self, folder, {file: StoredFile(folder / file, 0, size) for file, size in sizes.items()}
            )
        if archive.is_file():
            return ReleasedFiles(self, archive, _members(archive))
        return None

    def open(
        self,
        family: str,  # noqa: ARG002
        root: Path,
        *,
        download: bool,
        progress: bool = False,
        size: int = 32,  # noqa: ARG002
    ) -> ReleasedFiles:
        """Return the files in a data folder; a missing set is downloaded if asked to.

        UserError, with what to do, if it is not there, its archive is no archive, or the download fails.
        """
        found, by_hand = self.find(root), self._by_hand(root)
        if found is None and not download:
            raise UserError(
                f"{self.folder}: neither the folder {self.folder} nor {self.archive} is in {root.resolve()}; "
                f"{self._prepare}. {by_hand}"
            )
        if found is None:
            archive, md5 = root / self.archive, self.md5()["_archive"]
            with alone(root / f".{self.name}.lock", f"{self.folder} is downloaded"):
                if not archive.exists():
                    fetch(self.folder, self.url, archive, md5, megabytes=MEGABYTES, by_hand=by_hand, progress=progress)
            found = ReleasedFiles(self, archive, _members(archive))
        return found

    def listed(self, root: Path) -> Row:
        """Return what names and sizes of files say."""
        try:
            found = self.find(root)
        except UserError as error:
            return Row(self.name, "official", "damaged", root / self.archive, None, str(error))
        if found is None:
            return Row(self.name, "official", "absent", root, None, f"{self._prepare}. {self._by_hand(root)}")
        missing = found.missing()
        note = f"missing or cut short: {', '.join(missing)}; the other files can be used" if missing else ""
        return Row(self.name, "official", "damaged" if missing else "ready", found.where, found.images(), note)

    def verified(self, root: Path) -> Row:
        """Return the row after checking the MD5 of every file."""
        row = self.listed(root)
        found = self.find(root) if row.images is not None else None
        if found is None:
            return row
        files = tracked(found.files, f"checking {found.where.name}", progress=True)
        problems = [problem for file in files if (problem := found.problem(file))]
        if problems:
            return replace(row, state="damaged", note="; ".join(problems))
        return replace(row, state="intact")

    def prepared(self, root: Path, *, progress: bool) -> Row:
        """Download the set unless it is there; UserError if that fails."""
        self.open(self.name, root, download=True, progress=progress)
        return self.listed(root)

    @property
    def _prepare(self) -> str:
        return f"`python -m bench data prepare {self.name}` downloads it (2.9 GB)"

    def _by_hand(self, root: Path) -> str:
        return f"By hand: put {self.archive} from {self.url} into {root.resolve()}"


CIFAR10_C = Release("CIFAR-10-C", CIFAR10.name, "https://zenodo.org/records/2535967/files/CIFAR-10-C.tar")
CIFAR100_C = Release("CIFAR-100-C", CIFAR100.name, "https://zenodo.org/records/3555552/files/CIFAR-100-C.tar")
