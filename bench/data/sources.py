"""Where the images of a data set come from: its own source, or a user's image folder or zip of one in its place.

Which images they are is their variant: "official", or the fingerprint of the images that a user gave, which is part of
a run's identity and of every table made from them.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.data.cache import cache_path, cached
from bench.data.catalog import DATASETS, RELEASES, SHIFTED, find_data_set
from bench.data.copies import nearest
from bench.data.dataset import Dataset, shrunk
from bench.data.files import folders_in, image_files, is_hidden, named
from bench.data.folders import decode_substitute, open_images
from bench.data.layout import SUBSTITUTE, TRAIN, image_root, layout_mistake
from bench.data.record import DataSet, StoredSource, unreadable
from bench.data.streamed.source import FileSource
from bench.errors import UserError

# Folders of a data folder, in small letters, that hold image files and are no image folder: sets to evaluate on, and
# what this suite keeps.
IGNORED = (
    *("cache", "imagenet-c", "imagenet-o", "images_largescale", "images_classic", "openood"),
    *(folder.lower() for images in SHIFTED.values() for folder in images.folders),
)
ARCHIVES = (".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip", ".zst")


def load(name: str, location: Path | None, *, root: Path, progress: bool, size: int | None = None) -> Dataset:
    """Return all images of a data set; a folder or zip of images is decoded once and then cached in `root`.

    location   None: official data in `root`, downloaded if missing; a folder with the official archive or room for it;
               an image folder (train/<class>/*, test/<class>/*); a zip of one
    progress   bars on a terminal; log lines otherwise
    size       of the images, of a set that is decoded from files; None: as its record says

    UserError, with what to do, for whatever is missing, damaged or not what the data set needs.
    """
    data, images = find_data_set(name), find_images(name, location)
    if size is not None and is_streamed(data):
        data = replace(data, image_size=size)
    read = _read(data, images, location, root=root, progress=progress)
    return read if size is None or is_streamed(data) else shrunk(read, size)


def _read(data: DataSet, images: Path | None, location: Path | None, *, root: Path, progress: bool) -> Dataset:
    if images is None:
        return data.read(location or root, progress=progress)
    with open_images(nearest(images)) as tree:

        def decode() -> Dataset:
            classes, parts = decode_substitute(data, tree, progress=progress)
            return Dataset(data.name, tree.variant, classes, *parts)

        return cached(root, data.name, tree.variant, f"images of {images} are decoded", decode)


def stored(name: str, variant: str, location: Path | None, *, root: Path) -> Sequence[Path]:
    """Return the files and folders that `load` reads, made first if they are made once; none of a set without such.

    UserError as `load`.
    """
    data, images = find_data_set(name, variant), find_images(name, location)
    if images is None:
        return data.source.stored(data, location or root) if isinstance(data.source, StoredSource) else ()
    cache = cache_path(root, name, variant)
    if not cache.exists():
        load(name, location, root=root, progress=False)
    return images, cache


def variant_of(name: str, location: Path | None) -> str:
    """Return the variant that `load` would give, without decoding an image; UserErrors likewise."""
    data, images = find_data_set(name), find_images(name, location)
    if images is None:
        if location is not None and isinstance(data.source, FileSource):
            return data.source.version(data, location)
        return data.version
    with open_images(images) as tree:
        return tree.variant


def describe(variant: str) -> str:
    """Return the sentence that every table of images that are not the official ones carries; empty for those."""
    if variant.startswith("images-"):
        return (
            f"Images from an image folder ({variant}), not the official files: comparable within this table only, not "
            "with published numbers."
        )
    return "" if variant == "official" else f"Images of the user's own ({variant})."


def takes_location(name: str) -> bool:
    """Return whether the images of a data set can be given with --data; embedded ones, for instance, cannot."""
    try:
        source = find_data_set(name).source
    except UserError:
        return False
    return source is not None and bool(source.names)


def is_streamed(data: DataSet) -> bool:
    """Return whether the images of a data set stay in their files until a batch is due."""
    return isinstance(data.source, FileSource)


def find_images(name: str, location: Path | None) -> Path | None:
    """Return `location` if it is an image folder, or a file to read as a zip of one; None for a data set's own source.

    UserError for a data set that does not exist or takes no location, for a location that does not exist, and for a
    folder that holds images in another layout.
    """
    data = find_data_set(name)
    if data.source is None:
        raise unreadable(name)
    if location is None:
        return None
    if not data.source.names:
        allowed = ", ".join(filter(takes_location, DATASETS))
        raise UserError(f"{location}: {name} brings its own images and takes no --data; allowed with: {allowed}")
    with named(location):
        if not location.exists():
            raise UserError(f"{location}: no such file or folder; --data names an image folder or a zip of one")
        if is_streamed(data) and location.is_dir():
            return None
        if location.name in data.source.names:
            raise UserError(f"{location}: official data; --data names the folder that this lies in: {location.parent}")
        if not location.is_dir():
            return location
        if any((location / own).exists() for own in data.source.names):
            return None
        if image_root(location):
            return location
        _refuse_other_images(data.name, data.source.names[0], location)
        return None


def _refuse_other_images(name: str, archive: str, location: Path) -> None:
    """Refuse a folder of images in another layout, or of other archives, as a place to download official data to."""
    renamed = SUBSTITUTE.wrong_names([path.name for path in folders_in(location)])
    if TRAIN in renamed.values() or any(image_files(location, IGNORED)):
        problem = f"holds images, but not as {SUBSTITUTE.expected}; {layout_mistake(location)}"
    elif others := [path.name for path in sorted(location.iterdir()) if _is_other_archive(path)]:
        problem = (
            f"holds {', '.join(others[:3])}, not {archive}; to use the images of a zip, name the zip itself; archives "
            "of other kinds must be unpacked"
        )
    else:
        return
    raise UserError(f"{location}: {problem}. To download {name}, name a folder without images and archives")


def _is_other_archive(path: Path) -> bool:
    known = {file for data in DATASETS.values() if data.source is not None for file in data.source.names}
    released = path.suffix == ".tar" and path.stem.lower() in (*RELEASES, *IGNORED)
    return path.suffix.lower() in ARCHIVES and path.name not in known and not released and not is_hidden(path.name)
