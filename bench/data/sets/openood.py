"""Images of none of ImageNet's classes: ImageNet-O, and the near and far sets of OpenOOD v1.5 (Zhang et al. 2023).

A set of OpenOOD is the images on its list, which leaves out those of the folder that do show a class of ImageNet.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.data.cache import default_root
from bench.data.dataset import LabelledImages
from bench.data.files import image_files as images_below
from bench.data.files import named
from bench.data.ood import no_labels
from bench.data.sets.by_hand import ByHand, Found
from bench.data.streamed.files import image_files
from bench.data.streamed.index import find_part, index_part
from bench.errors import UserError

# Folders of a data folder that those of OpenOOD may lie in.
PLACES = ("", "openood", "OpenOOD/data")


@dataclass(frozen=True)
class OpenOodSet(ByHand):
    """The images on benchmark_imglist/imagenet/test_<name>.txt, whose paths are relative to `folder`."""

    folder: str = "images_largescale"
    by_hand: str = "put lists and folders of https://github.com/Jingkang50/OpenOOD (scripts/download) there"

    def is_there(self, root: Path) -> bool:
        """Whether there is the list."""
        return self._list(root).is_file()

    def find(self, root: Path) -> Found:
        """Return the images on the list, labels -1; UserError that names one that is not there."""
        file = self._list(root)
        if not file.is_file():
            raise self.absent(root, str(file.relative_to(root)))
        with named(file):
            lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        paths = sorted(line.rpartition(" ")[0] for line in lines if line)
        where = file.parents[2] / self.folder
        if odd := [path for path in paths if not path or path.startswith("/") or ".." in path.split("/")]:
            raise UserError(f"{file}: expected lines of a path and a label, found the path {odd[0]!r}")
        there = set(_below(where, {path.partition("/")[0] for path in paths}))
        if not paths:
            raise UserError(f"{file}: names no image")
        if missing := [path for path in paths if path not in there]:
            raise UserError(
                f"{where / missing[0]}: missing, like {len(missing):,} of the {len(paths):,} images of {file}"
            )
        files = image_files([(path, str(where), -1, -1, -1) for path in paths])
        digest = hashlib.sha256("\0".join(paths).encode(errors="surrogateescape")).hexdigest()[:12]
        return Found(LabelledImages(files.as_array(), no_labels(len(paths))), where, digest)

    def _list(self, root: Path) -> Path:
        files = [root / place / "benchmark_imglist" / "imagenet" / f"test_{self.name}.txt" for place in PLACES]
        return next((file for file in files if file.is_file()), files[0])


def _below(where: Path, folders: set[str]) -> Iterator[str]:
    for folder in folders:
        if (where / folder).is_dir():
            yield from (f"{folder}/{path}" for path in images_below(where / folder))


@dataclass(frozen=True)
class ImageNetO(ByHand):
    """The folder imagenet-o, or a tar of it, by classes that are none of ImageNet's."""

    name: str = "imagenet_o"
    images: int = 2_000
    by_hand: str = "put https://people.eecs.berkeley.edu/~hendrycks/imagenet-o.tar, or what it holds, there"

    def is_there(self, root: Path) -> bool:
        """Whether there is such a folder or tar."""
        return find_part(root, ("imagenet-o",)) is not None

    def find(self, root: Path) -> Found:
        """Return all images, labels -1; UserError if they are fewer or more."""
        where = find_part(root, ("imagenet-o",))
        if where is None:
            raise self.absent(root, "imagenet-o/<class>/<image>")
        part = index_part(where, default_root() / "cache")
        if len(part.labels) != self.images:
            raise UserError(f"{where}: {len(part.labels):,} images; {self.name} has {self.images:,}: extract it again")
        return Found(LabelledImages(part.files.as_array(), no_labels(self.images)), where, part.fingerprint)


IMAGENET_O = ImageNetO()
# Numbers of images, to estimate hours by: the list says which they are.
NEAR = (OpenOodSet("ssb_hard", 49_000), OpenOodSet("ninco", 5_879))
FAR = (
    OpenOodSet("inaturalist", 10_000),
    OpenOodSet("textures", 5_160, folder="images_classic"),
    OpenOodSet("openimage_o", 15_869),
)
