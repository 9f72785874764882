"""Decoded image folders, kept as one checked safetensors file each: 60,000 images are read back in under a second."""

import errno
import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bench.data.alone import alone
from bench.data.copies import nearest
from bench.data.dataset import Array, Dataset
from bench.store.files import atomic_path

log = logging.getLogger(__name__)

# Raised when decoding or order change meaning, so that files of the old meaning are not read.
CACHE_VERSION = 2
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class DamagedCacheError(Exception):
    """A cache file that is truncated or altered; the message says how that shows."""


def default_root() -> Path:
    """Return the data folder: $FREETICKETS_DATA, or data/ where the command runs."""
    return Path(os.environ.get("FREETICKETS_DATA") or "data")


def cache_path(root: Path, name: str, variant: str) -> Path:
    """Return where the decoded images of a variant are kept."""
    return root / "cache" / f"{name}-{variant}.safetensors"


def cached_files(root: Path) -> list[Path]:
    """Return the cache files in a data folder, sorted."""
    return sorted((root / "cache").glob("*.safetensors"))


def cached(root: Path, name: str, variant: str, what: str, make: Callable[[], Dataset]) -> Dataset:
    """Return the data set of a cache file, which is made, by one of the processes that want it, unless it is intact."""
    path = cache_path(root, name, variant)
    for place in dict.fromkeys((nearest(path), path)):
        if (dataset := read_if_intact(place)) is not None:
            return dataset
    with alone(path.with_suffix(".lock"), what):
        dataset = read_if_intact(path, again=True)  # another process may have made it since
        if dataset is None:
            dataset = make()
            try:
                write_cache(path, dataset)
            except OSError as error:
                log.warning("%s: not written (%s); the images will be decoded again next time", path, error)
    return dataset


def read_cache(path: Path) -> Dataset:
    """Return the data set of a cache file; DamagedCacheError unless it is what was written, by SHA-256."""
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in ARRAYS}
        facts = json.loads(metadata["facts"])
        dataset = Dataset(facts["name"], facts["variant"], tuple(facts["classes"]), **arrays)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedCacheError(f"truncated or altered: {error}") from None
    if metadata.get("sha256") != _digest(metadata["facts"], arrays):
        raise DamagedCacheError("altered: its content differs from its SHA-256")
    if facts.get("version") != CACHE_VERSION:
        raise DamagedCacheError("written by another version of this program")
    if path.name != cache_path(path.parent, dataset.name, dataset.variant).name:
        raise DamagedCacheError(f"it holds {dataset.name} ({dataset.variant}), not what its name says")
    return dataset


def read_if_intact(path: Path, *, again: bool = False) -> Dataset | None:
    """Return the data set of a cache file, or None if there is none or, with a warning, if it is damaged.

    again   damage was said before, and is not said now
    """
    if not path.exists():
        return None
    try:
        return read_cache(path)
    except DamagedCacheError as error:
        level = logging.DEBUG if again else logging.WARNING
        log.log(level, "%s: not usable (%s); the images are decoded again", path, error)
        return None


def write_cache(path: Path, dataset: Dataset) -> None:
    """Write a cache file, whole or not at all; OSError if the disk does not take it."""
    arrays = {name: getattr(dataset, name) for name in ARRAYS}
    facts = {"version": CACHE_VERSION, "name": dataset.name, "variant": dataset.variant, "classes": dataset.classes}
    text = json.dumps(facts)
    with atomic_path(path) as temporary:
        try:
            save_file(arrays, temporary, {"facts": text, "sha256": _digest(text, arrays)})
        except SafetensorError as error:
            raise OSError(errno.EIO, str(error), str(temporary)) from None


def _digest(facts: str, arrays: dict[str, Array]) -> str:
    digest = hashlib.sha256(facts.encode())
    for name in ARRAYS:
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(arrays[name].data)
    return digest.hexdigest()
