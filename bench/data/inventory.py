"""What `python -m bench data` shows: which data sets are there, whether they are intact, and how to get them."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from bench.data import evaluation_rows
from bench.data.cache import DamagedCacheError, cache_path, cached_files, read_cache
from bench.data.catalog import DATASETS
from bench.data.evaluation_rows import EVALUATION_SETS, IMAGENET_C
from bench.data.folders import classes_of, decode, open_images
from bench.data.imagenet_c import find_imagenet_c
from bench.data.official import FILES, archive_is_intact, by_hand, damaged_batches
from bench.data.rows import Row, State
from bench.data.sources import find_images, load
from bench.errors import UserError, did_you_mean

__all__ = ["Row", "inventory", "prepare", "verify"]

NAMES = ("digits", *FILES, *EVALUATION_SETS)


def inventory(root: Path) -> list[Row]:
    """Return what is in a data folder, and how to get what is not; fast, since no content is read."""
    official = [_listed(name, root) for name in FILES]
    evaluation = [evaluation_rows.listed(name, root) for name in _evaluation_sets(root)]
    return [_embedded("embedded"), *official, *evaluation, *map(_listed_cache, cached_files(root))]


def verify(name: str | None, root: Path, location: Path | None) -> list[Row]:
    """Check every byte: MD5 of official and released files, every image of a folder or zip, SHA-256 of the caches.

    Without `location`, all there is in `root` (of the data set `name`, if given); else what is there. Official files
    are reported absent only where no cache of substitute images serves. UserError for an unknown name and for a
    location without a name.
    """
    if location is not None and name is None:
        raise UserError(f"{location}: name the data set that these images are for; allowed: {', '.join(FILES)}")
    _known(name)
    if name in EVALUATION_SETS:
        return [evaluation_rows.verified(name, location or root)]
    if name is not None:
        images = find_images(name, location)
        if images is not None:
            return [_verified_images(name, images)]
    embedded = [_embedded("intact")] if name in (None, "digits") else []
    official = [_verified_official(known, location or root) for known in FILES if name in (None, known)]
    checked = map(_verified_cache, cached_files(root) if location is None else [])
    caches = [row for row in checked if name in (None, row.name)]
    cached = {row.name for row in caches}
    needed = [row for row in official if row.state != "absent" or row.name not in cached]
    evaluation = [evaluation_rows.verified(known, root) for known in _evaluation_sets(root) if name is None]
    return [*embedded, *needed, *evaluation, *caches]


def prepare(name: str, root: Path, location: Path | None, progress: bool) -> Row:
    """Download, extract or decode now, so that machines without internet find it; UserError if that fails."""
    _known(name)
    if name in EVALUATION_SETS:
        return evaluation_rows.prepared(name, location or root, progress=progress)
    dataset = load(name, location, root=root, progress=progress)
    if name == "digits":
        return _embedded("embedded")
    count = len(dataset.train_images) + len(dataset.test_images)
    if dataset.variant == "official":
        where = (location or root) / FILES[name].folder
    else:
        where = cache_path(root, name, dataset.variant)
        if not where.exists():
            raise UserError(f"{where}: the decoded images could not be written there (see the warning above)")
    return Row(name, dataset.variant, "ready", where, count, "")


def _known(name: str | None) -> None:
    # bench.data.sources says of the other data sets that they can be planned only
    if name is not None and name not in (*NAMES, *DATASETS):
        raise UserError(f"data: unknown data set {name!r}{did_you_mean(name, NAMES)}")


def _evaluation_sets(root: Path) -> list[str]:
    """Return the sets that have a row: ImageNet-C, which no command gets, only where it is."""
    return [name for name in EVALUATION_SETS if name != IMAGENET_C or find_imagenet_c(root)]


def _embedded(state: State) -> Row:
    return Row("digits", "official", state, None, _count("digits"), "comes with scikit-learn")


def _count(name: str) -> int:
    facts = DATASETS[name]
    return facts.train_images + facts.validation_images + facts.test_images


def _listed(name: str, folder: Path) -> Row:
    files = FILES[name]
    batches, archive = folder / files.folder, folder / files.archive
    if batches.exists():
        missing = [batch for batch in files.batches if not (batches / batch).exists()]
        if missing:
            return Row(name, "official", "damaged", batches, None, f"missing: {', '.join(missing)}; delete the folder")
        return Row(name, "official", "ready", batches, _count(name), "")
    if archive.exists():
        return Row(name, "official", "archive only", archive, _count(name), "extracted when first used")
    note = f"`python -m bench data prepare {name}` downloads it. {by_hand(name, folder)}"
    return Row(name, "official", "absent", folder, None, note)


def _listed_cache(path: Path) -> Row:
    name, variant = _cached_variant(path)
    try:
        with safe_open(path, framework="np") as file:
            count = sum(file.get_slice(part).get_shape()[0] for part in ("train_labels", "test_labels"))
    except (SafetensorError, OSError) as error:
        return Row(name, variant, "damaged", path, None, f"{error}; it is made again when its images are next given")
    return Row(name, variant, "ready", path, count, "decoded from an image folder or zip")


def _verified_official(name: str, folder: Path) -> Row:
    listed = _listed(name, folder)
    match listed.state:
        case "absent":
            return listed
        case "archive only" if archive_is_intact(name, folder):
            return Row(
                name, "official", "intact", listed.where, listed.images, "archive only; extracted when first used"
            )
        case "archive only":
            return Row(name, "official", "damaged", listed.where, None, "its MD5 is not the official one; delete it")
    damaged = damaged_batches(name, folder)
    if damaged:
        files = ", ".join(path.name for path in damaged)
        note = f"missing, or not of the official MD5: {files}; delete the folder"
        return Row(name, "official", "damaged", listed.where, None, note)
    return Row(name, "official", "intact", listed.where, listed.images, "")


def _verified_images(name: str, location: Path) -> Row:
    try:
        with open_images(location) as tree:
            classes_of(name, tree)
            decode(tree, progress=True)
            return Row(name, tree.variant, "intact", location, len(tree.files), "")
    except UserError as error:
        return Row(name, "unknown", "damaged", location, None, str(error))


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
