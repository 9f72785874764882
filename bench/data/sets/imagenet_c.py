"""ImageNet-C as released (Hendrycks & Dietterich 2019): JPEG files in [group/]<type>/<severity>/<wnid>/<name>.JPEG.

Folders, or the five tars of the release, read in place. Any subset of types, severities and images, as long as all hold
the same images, which come in the same fixed order as the test images of ImageNet. "imagenet-c-<n>" are the first n of
them. The files have no published checksums.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.data.cache import default_root
from bench.data.corruptions.catalog import CORRUPTIONS, SEVERITIES
from bench.data.lazy import EvaluationImages
from bench.data.progress import tracked
from bench.data.record import Corruptions
from bench.data.rows import Row, State
from bench.data.sets.imagenet import IMAGENET
from bench.data.streamed.files import Entry
from bench.data.streamed.index import Part, index_part, index_tar, part_of
from bench.data.streamed.source import BATCH, exact, test_order
from bench.errors import UserError, counted, did_you_mean

FOLDER = "ImageNet-C"
GROUPS = ("blur", "digital", "extra", "noise", "weather")
SIZE = 224
LAYOUT = "[group/]<type>/<severity>/<wnid>/<name>.JPEG"
BY_HAND = (
    "By hand: put the archives of https://zenodo.org/records/2235448, or what they hold, into a folder "
    f"{FOLDER} of the data folder"
)


class ImageNetC:
    """An ImageNet-C, or a part of it; images are decoded when they are read.

    where    the folder that holds the types, groups of them, or tars
    places   the folder of each type, or the tar that holds it
    """

    def __init__(self, where: Path, places: Mapping[str, Path]) -> None:
        self.where = where
        self.types = tuple(sorted(places))
        self._places = places
        self._images: Part | None = None
        self._tars: dict[Path, dict[str, list[Entry]]] = {}

    @property
    def count(self) -> int:
        """Return the number of images of a type and severity; UserErrors as of `read`."""
        return len(self._reference().labels)

    @property
    def name(self) -> str:
        """Return "imagenet-c", with the number of images unless it is 50,000; UserErrors as of `read`."""
        return IMAGENET_C.family(self.count, self.count)[0]

    def severities(self, type: str) -> tuple[int, ...]:
        """Return the severities that there are of a type; UserError for a folder that is none, or if it has none."""
        place = self._place(type)
        found = sorted(self._in_tar(place, type)) if place.is_file() else [path.name for path in _folders_in(place)]
        allowed = [str(severity) for severity in SEVERITIES]
        strange = [name for name in found if name not in allowed]
        if strange or not found:
            what = f"folder {strange[0]!r}" if strange else "no folder of a severity"
            raise UserError(f"{place}: {what}; expected the severities, {', '.join(allowed)}, in {LAYOUT}")
        return tuple(map(int, found))

    def read(self, type: str, severity: int, images: int | None = None, size: int = SIZE) -> EvaluationImages:
        """Return the first images of a type and severity, all if None: LazyImages uint8 [N, size, size, 3].

        Labels are positions among the 1,000 sorted wnids. The source is a fingerprint of the names of the files, not of
        their bytes. ValueError for a type that does not exist. UserError that names the file or folder: for a type or
        severity that is not there, a class that ImageNet has not, an image that is not in all folders (those of the
        first type at its first severity are taken for the right ones); when a slice is read, for an image that cannot
        be decoded or is not of 224x224 pixels.
        """
        part, right = self._part(type, severity), self._reference()
        labelled = part.labelled(IMAGENET.class_names, self._folder(type, severity))
        if part.fingerprint != right.fingerprint:
            self._refuse(type, severity, part, right)
        order = test_order(IMAGENET.name, len(part.labels))[:images]
        shown = exact(labelled.images[order], SIZE, size)
        return EvaluationImages(shown, labelled.labels[order], f"names-{part.fingerprint}")

    def _refuse(self, type: str, severity: int, part: Part, right: Part) -> None:
        """Name an image that one folder has and the other has not."""
        here, reference = self._folder(type, severity), self._folder(*self._first())
        odd = min(part.paths() ^ right.paths())
        has, lacks = (here, reference) if odd in part.paths() else (reference, here)
        raise UserError(f"{lacks / odd}: missing, but {has / odd} is there; all folders must hold the same images")

    def _place(self, type: str) -> Path:
        if type not in CORRUPTIONS:
            raise ValueError(f"no type {type!r}; types: {CORRUPTIONS}")
        if type not in self._places:
            raise UserError(f"{self.where}: no folder {type}; found: {', '.join(self.types)}; expected {LAYOUT}")
        return self._places[type]

    def _folder(self, type: str, severity: int) -> Path:
        """Return what messages call the folder of a type and severity."""
        place = self._place(type)
        return (place / type if place.is_file() else place) / str(severity)

    def _part(self, type: str, severity: int) -> Part:
        place, folder = self._place(type), self._folder(type, severity)
        if place.is_file():
            by_class = self._in_tar(place, type).get(str(severity))
            if by_class is None:
                raise UserError(f"{folder}: no such folder; expected {LAYOUT}")
            return part_of(by_class)
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; expected {LAYOUT}")
        return index_part(folder, default_root() / "cache")

    def _in_tar(self, tar: Path, type: str) -> dict[str, dict[str, list[Entry]]]:
        """Return the images of a type in a tar, by severity and class."""
        if tar not in self._tars:
            self._tars[tar] = index_tar(tar, default_root() / "cache")
        found: dict[str, dict[str, list[Entry]]] = {}
        for folder, entries in self._tars[tar].items():
            of, severity, wnid = ([""] * 3 + folder.split("/"))[-3:]
            if of == type:
                found.setdefault(severity, {})[wnid] = entries
        return found

    def _first(self) -> tuple[str, int]:
        return self.types[0], self.severities(self.types[0])[0]

    def _reference(self) -> Part:
        if self._images is None:
            self._images = self._part(*self._first())
        return self._images


def find_imagenet_c(root: Path) -> Path | None:
    """Return the folder called ImageNet-C, in large or small letters, in a data folder; None if there is none."""
    named = [path for path in _folders_in(root) if path.name.lower() == FOLDER.lower()] if root.is_dir() else []
    return min(named, default=None)


def open_imagenet_c(root: Path) -> ImageNetC:
    """Open the folder ImageNet-C in a data folder, or the folder itself; lists the types, reads no image.

    UserError if it holds no type, one twice, or a folder that is neither type nor group.
    """
    where = find_imagenet_c(root) or root
    top = _folders_in(where) if where.is_dir() else []
    candidates = [(path.name, path) for path in top if path.name not in GROUPS]
    candidates += [(path.name, path) for group in top if group.name in GROUPS for path in _folders_in(group)]
    for tar in (where / f"{group}.tar" for group in GROUPS):
        if tar.is_file():
            folders = index_tar(tar, default_root() / "cache")
            types = dict.fromkeys(folder.split("/")[-3] for folder in folders if folder.count("/") > 1)
            candidates += [(name, tar) for name in types]
    places: dict[str, Path] = {}
    strange = []
    for name, path in candidates:
        if name not in CORRUPTIONS:
            strange.append((name, path))
        elif name in places:
            raise UserError(f"{path}: the same type is in {places[name]}; leave one of them")
        else:
            places[name] = path
    if not places:
        raise UserError(f"{root.resolve()}: no {FOLDER} here; expected {LAYOUT} in its folder {FOLDER}. {BY_HAND}")
    if strange:
        name, path = strange[0]
        raise UserError(f"{path}: {name} is not a type of corruption{did_you_mean(name, CORRUPTIONS)}")
    return ImageNetC(where, places)


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


class _First:
    """The images of ImageNet-C that a family names: as many of the first ones as its name says, in a size."""

    def __init__(self, images: ImageNetC, family: str, size: int) -> None:
        wanted = int(family.removeprefix(f"{IMAGENET_C.name}-")) if family != IMAGENET_C.name else IMAGENET_C.images
        if images.count < wanted:
            raise UserError(
                f"evaluations.imagenet_c: {family} is asked for, but what is there is {images.name}; set images: to "
                "how many it has, or to less"
            )
        self._images, self._wanted, self._size = images, wanted, size

    def read(self, type: str, severity: int, images: int) -> EvaluationImages:
        del images  # as many as the family says
        return self._images.read(type, severity, self._wanted, self._size)


@dataclass(frozen=True)
class Folders:
    """The record of ImageNet-C: no command gets it, and how many images are meant is part of the family's name."""

    name: str = "imagenet-c"
    of: str = IMAGENET.name
    key: str = "imagenet_c"
    images: int = IMAGENET.test_images

    def family(self, images: int | None, available: int) -> tuple[str, int | None]:  # noqa: ARG002
        """Return "imagenet-c", with the number of images unless it is all; and that its images are meant."""
        return self.name if images in (None, self.images) else f"{self.name}-{images}", None

    def open(self, family: str, root: Path, *, download: bool, size: int = SIZE) -> Corruptions:  # noqa: ARG002
        """Return the images; UserError if they are not there, or fewer than the family names."""
        return _First(open_imagenet_c(root), family, size)

    def listed(self, root: Path) -> Row | None:
        """Return what names say, the images of the first folder times the number of folders; None if there is none."""
        return self._row(root) if find_imagenet_c(root) else None

    def verified(self, root: Path) -> Row:
        """Return the row after decoding every image, since there are no published checksums."""
        row = self._row(root)
        if row.state == "absent":
            return row
        try:
            _decode_all(open_imagenet_c(root))
        except UserError as error:
            return replace(row, state="damaged", images=None, note=str(error))
        return replace(row, state="intact")

    def prepared(self, root: Path, *, progress: bool) -> Row:  # noqa: ARG002
        """Return the row; UserError, with what to do, if it is not there."""
        row = self._row(root)
        if row.state != "ready":
            raise UserError(f"{self.name}: {row.note}")
        return row

    def _row(self, root: Path) -> Row:
        try:
            found = open_imagenet_c(root)
            folders = sum(len(found.severities(type)) for type in found.types)
            types = counted(len(found.types), "type")
            note = f"{counted(folders, 'folder')} of {counted(found.count, 'image')}, of {types}"
            return Row(found.name, "image folders", "ready", found.where, folders * found.count, note)
        except UserError as error:
            state: State = "damaged" if find_imagenet_c(root) else "absent"
            return Row(self.name, "image folders", state, root, None, str(error))


def _decode_all(found: ImageNetC) -> None:
    folders = [(type, severity) for type in found.types for severity in found.severities(type)]
    for type, severity in folders:
        images = found.read(type, severity).images
        for start in tracked(range(0, len(images), BATCH), f"decoding {type}/{severity}", progress=True):
            images[start : start + BATCH]


IMAGENET_C = Folders()
