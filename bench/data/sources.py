"""Where the images come from: embedded, official (torchvision), or a user's image folder or zip of one.

`load` is the one way in. Which images they are is their variant: "official", or the fingerprint of substitute images,
which is part of a run's identity and of every table made from them.
"""

import logging
import os
from pathlib import Path

from bench.data.alone import alone
from bench.data.cache import cache_path, read_if_intact, write_cache
from bench.data.catalog import DATASETS
from bench.data.dataset import Dataset
from bench.data.digits import load_digits
from bench.data.folders import decode_dataset, image_root, open_images
from bench.data.official import FILES, load_official
from bench.errors import UserError, did_you_mean

log = logging.getLogger(__name__)

__all__ = ["Dataset", "default_root", "describe", "find_images", "load", "takes_location", "variant_of"]


def default_root() -> Path:
    """Return the data folder: $FREETICKETS_DATA, or data/ where the command runs."""
    return Path(os.environ.get("FREETICKETS_DATA") or "data")


def load(name: str, location: Path | None, *, root: Path, progress: bool) -> Dataset:
    """Return all images of a data set; a folder or zip of images is decoded once and then cached in `root`.

    location   None: official data in `root`, downloaded if missing; a folder with the official archive or room for it;
               an image folder (train/<class>/*, test/<class>/*); a zip of one
    progress   bars on a terminal; log lines otherwise

    UserError, with what to do, for whatever is missing, damaged or not what the data set needs.
    """
    images = find_images(name, location)
    if images is None:
        return load_digits() if name == "digits" else load_official(name, location or root, progress=progress)
    with open_images(images) as tree:
        path = cache_path(root, name, tree.variant)
        dataset = read_if_intact(path)
        if dataset is not None:
            return dataset
        with alone(path.with_suffix(".lock"), f"images of {images} are decoded"):
            dataset = read_if_intact(path, again=True)  # another process may have decoded them since
            if dataset is None:
                dataset = decode_dataset(name, tree, progress=progress)
                _keep(path, dataset)
    return dataset


def takes_location(name: str) -> bool:
    """Return whether the images of a data set can be given by a user; embedded ones cannot."""
    return name in FILES


def variant_of(name: str, location: Path | None) -> str:
    """Return the variant that `load` would give, without decoding an image; UserErrors likewise."""
    images = find_images(name, location)
    if images is None:
        return "official"
    with open_images(images) as tree:
        return tree.variant


def describe(variant: str) -> str:
    """Return the sentence that every table of substitute images carries; empty for the official ones."""
    if variant == "official":
        return ""
    return (
        f"Images from an image folder ({variant}), not the official files: comparable within this table only, not with "
        "published numbers."
    )


def find_images(name: str, location: Path | None) -> Path | None:
    """Return `location` if it is an image folder, or a file to read as a zip of one; None for official data.

    UserError for a data set that does not exist or takes no location, and for a location that does not exist.
    """
    if name not in DATASETS:
        raise UserError(f"data: unknown data set {name!r}{did_you_mean(name, DATASETS)}")
    if name not in (*FILES, "digits"):
        raise UserError(f"data: the images of {name} can not be read yet: its grids can be planned, not trained")
    if location is None:
        return None
    if name not in FILES:
        raise UserError(f"{location}: {name} is embedded and takes no --data; allowed with: {', '.join(FILES)}")
    if not location.exists():
        raise UserError(f"{location}: no such file or folder; --data names an image folder, a zip of one, or a folder")
    official = FILES[name]
    if location.name in (official.archive, official.folder):
        raise UserError(f"{location}: official data; --data names the folder that this lies in: {location.parent}")
    if location.is_file():
        return location
    if (location / official.folder).exists() or (location / official.archive).exists():
        return None
    return location if image_root(location) else None


def _keep(path: Path, dataset: Dataset) -> None:
    try:
        write_cache(path, dataset)
    except OSError as error:
        log.warning("%s: not written (%s); the images will be decoded again next time", path, error)
