"""What `python -m bench data` shows: which data sets are there, whether they are intact, and how to get them.

A row comes from the record of its set (bench.data.record), or from a cache of decoded images.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from bench.data.cache import DamagedCacheError, cache_path, cached_files, read_cache
from bench.data.catalog import DATASETS, SHOWN, find_data_set
from bench.data.decode import exact
from bench.data.files import named
from bench.data.folders import classes_of, decoded, open_images
from bench.data.record import DataSet, Source
from bench.data.rows import Row
from bench.data.sources import find_images, load, takes_location
from bench.errors import UserError, did_you_mean

__all__ = ["Row", "inventory", "prepare", "verify"]


def inventory(root: Path) -> list[Row]:
    """Return what is in a data folder, and how to get what is not; fast, since no content is read."""
    with named(root):
        own = [source.listed(data, root) for data, source in _readable(None)]
        evaluation = [row for shown in SHOWN.values() if (row := shown.listed(root))]
        return [*own, *evaluation, *map(_listed_cache, cached_files(root))]


def verify(name: str | None, root: Path, location: Path | None) -> list[Row]:
    """Check every byte: MD5 of official and released files, every image of a folder or zip, SHA-256 of the caches.

    Without `location`, all there is in `root` (of the data set `name`, if given); else what is there. Official files
    are reported absent only where no cache of substitute images serves. UserError for an unknown name and for a
    location without a name.
    """
    if location is not None and name is None:
        allowed = ", ".join(filter(takes_location, DATASETS))
        raise UserError(f"{location}: name the data set that these images are for; allowed: {allowed}")
    _known(name)
    if name in SHOWN:
        return [SHOWN[name].verified(location or root)]
    if name is not None:
        images = find_images(name, location)
        if images is not None:
            return [_verified_images(find_data_set(name), images)]
    own = [source.verified(data, location or root) for data, source in _readable(name)]
    checked = map(_verified_cache, cached_files(root) if location is None else [])
    caches = [row for row in checked if name in (None, row.name)]
    there = {row.name for row in caches}
    needed = [row for row in own if row.state != "absent" or row.name not in there]
    evaluation = [shown.verified(root) for shown in SHOWN.values() if name is None and shown.listed(root)]
    return [*needed, *evaluation, *caches]


def prepare(name: str, root: Path, location: Path | None, progress: bool) -> Row:
    """Download, extract or decode now, so that machines without internet find it; UserError if that fails."""
    _known(name)
    if name in SHOWN:
        row = SHOWN[name].prepared(location or root, progress=progress)
        if row.state != "ready":
            raise UserError(f"{name}: {row.note}")
        return row
    dataset = load(name, location, root=root, progress=progress)
    data = find_data_set(name)
    count = len(dataset.train_images) + len(dataset.test_images)
    if dataset.variant == data.version and data.source is not None:
        row = data.source.listed(data, location or root)
        return row if row.state == "embedded" else Row(row.name, row.variant, row.state, row.where, count, row.note)
    where = cache_path(root, name, dataset.variant)
    if not where.exists():
        raise UserError(f"{where}: the decoded images could not be written there (see the warning above)")
    return Row(name, dataset.variant, "ready", where, count, "")


def _readable(name: str | None) -> list[tuple[DataSet, Source]]:
    """Return the data sets whose images can be read; the named one alone, a user's own too."""
    asked = DATASETS.values() if name is None else [find_data_set(name)]
    return [(data, data.source) for data in asked if data.source is not None]


def _known(name: str | None) -> None:
    if name is not None and name not in (*DATASETS, *SHOWN) and ":" not in name:
        readable = [data.name for data, _ in _readable(None)]
        raise UserError(f"data: unknown data set {name!r}{did_you_mean(name, (*readable, *SHOWN))}")


def _listed_cache(path: Path) -> Row:
    name, variant = _cached_variant(path)
    try:
        with safe_open(path, framework="np") as file:
            count = sum(file.get_slice(part).get_shape()[0] for part in ("train_labels", "test_labels"))
    except (SafetensorError, OSError) as error:
        return Row(name, variant, "damaged", path, None, f"{error}; it is made again when its images are next given")
    return Row(name, variant, "ready", path, count, "decoded from an image folder or zip")


def _verified_images(data: DataSet, location: Path) -> Row:
    try:
        with open_images(location) as tree:
            classes_of(data, tree)
            decoded(tree, data.image_size, exact, progress=True)
            return Row(data.name, tree.variant, "intact", location, len(tree.files), "")
    except UserError as error:
        return Row(data.name, "unknown", "damaged", location, None, str(error))


def _verified_cache(path: Path) -> Row:
    name, variant = _cached_variant(path)
    try:
        dataset = read_cache(path)
    except DamagedCacheError as error:
        return Row(name, variant, "damaged", path, None, f"{error}; it is made again when its images are next given")
    count = len(dataset.train_images) + len(dataset.test_images)
    return Row(name, variant, "intact", path, count, "")


def _cached_variant(path: Path) -> tuple[str, str]:
    """Return name and variant of a cache file from its file name."""
    name, _, variant = path.stem.partition("-")
    return name, variant
