"""The images of runs: loaded once for all runs in a row that see the same, and recorded in the store."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from bench.data.alone import alone
from bench.data.cache import default_root
from bench.data.catalog import DATASETS, facts_of, find_data_set, remember_folder
from bench.data.dataset import Dataset, Split, cut
from bench.data.image_folder import FolderSource, open_image_folder
from bench.data.sources import describe, is_streamed, load, stored, takes_location
from bench.data.streamed.files import ImageFiles
from bench.data.streamed.folder import open_file_folder
from bench.data.streamed.source import FILES, FileSource, decoded
from bench.errors import UserError
from bench.spec.run import DataSpec
from bench.store.store import DataRecord, Store


class ImageLoader:
    """Loads the images that runs of a store are made from; the last split is kept.

    location   what --data names; None: where the store's runs had theirs, else the official images
    progress   bars on a terminal while images are downloaded or decoded; log lines otherwise

    Several processes may load the same images at once: one downloads and decodes, the others wait and read.
    """

    def __init__(self, store: Store, location: Path | None = None, *, progress: bool = False) -> None:
        self._store, self._location, self._progress = store, location, progress
        self._last: tuple[DataSpec, Split] | None = None

    def load(self, spec: DataSpec) -> Split:
        """Return the images of a run, and record in the store which they are.

        UserError, with what to do, if they are not to be had, or are others than the store's runs were made from.
        """
        if self._last is None or self._last[0] != spec:
            dataset, place = self._images(spec)
            split = _held(cut(dataset, spec), facts_of(spec).image_size, progress=self._progress)
            _record(self._store, spec.name, DataRecord(dataset.variant, place, describe(dataset.variant)))
            self._last = spec, split
        return self._last[1]

    def stored(self, spec: DataSpec) -> Sequence[Path]:
        """Return the files and folders that the images of a run are read from; UserError as `load`."""
        folder, location = self._find(spec)
        return stored(spec.name, spec.variant, location if folder is None else None, root=default_root())

    def _find(self, spec: DataSpec) -> tuple[Path | None, Path | None]:
        """Return the image folder that a grid names, and else the location of the images, None: the data folder."""
        record = self._store.data_records().get(spec.name)
        known = None if record is None or record.location is None else Path(record.location)
        place = _folder_of(spec)
        if place is None and _is_folder(spec):
            if known is None:
                raise UserError(
                    f"data: {spec.name} ({spec.variant}) is an image folder, and {self._store.root} does not know "
                    "where it is: give the grid that names it"
                )
            place = _open_again(spec, known)
        if place is not None:
            return place, None
        return None, (self._location or known) if takes_location(spec.name) else None

    def _images(self, spec: DataSpec) -> tuple[Dataset, str | None]:
        """Return all images of a data set, and the place to remember, None for a data set's own."""
        folder, location = self._find(spec)
        if folder is not None:
            return load(spec.name, None, root=default_root(), progress=self._progress), str(folder)
        size = facts_of(spec).image_size
        dataset = load(spec.name, location, root=default_root(), progress=self._progress, size=size)
        of_its_own = dataset.variant.startswith("images-") or is_streamed(find_data_set(spec.name))
        return dataset, str(location.resolve()) if location is not None and of_its_own else None


def record_folders(store: Store, data: Iterable[DataSpec]) -> None:
    """Record in a store where the image folders of a grid are, for workers that see its runs and not the grid."""
    for spec in data:
        place = _folder_of(spec)
        if place is not None:
            _record(store, spec.name, DataRecord(spec.variant, str(place), describe(spec.variant)))


def _held(split: Split, size: int, *, progress: bool) -> Split:
    """Return a split whose images to validate on, which every epoch needs, are in memory."""
    if not isinstance(split.validation.images, ImageFiles):
        return split
    return replace(split, validation=decoded(split.validation, size, "decoding to validate", progress=progress))


def _is_folder(spec: DataSpec) -> bool:
    return spec.facts is not None and ":" not in spec.name and spec.name not in DATASETS


def _folder_of(spec: DataSpec) -> Path | None:
    """Return the image folder that a grid named in this process, None if the images are no such folder's."""
    if not _is_folder(spec):
        return None
    try:
        source = find_data_set(spec.name, spec.variant).source
    except UserError:
        return None
    if isinstance(source, FileSource):
        return source.where
    return source.path if isinstance(source, FolderSource) else None


def _open_again(spec: DataSpec, path: Path) -> Path:
    facts = spec.facts
    assert facts is not None
    name, size, mean, std = spec.name, facts.image_size, facts.mean, facts.std
    if spec.variant.startswith(FILES):
        remember_folder(open_file_folder(path, size, name=name, mean=mean, std=std))
    else:
        remember_folder(open_image_folder(path, size, root=default_root(), name=name, mean=mean, std=std))
    return path


def _record(store: Store, name: str, record: DataRecord) -> None:
    if store.data_records().get(name) != record:
        with alone(store.root / "data.lock", "images are recorded"):
            store.record_data(name, record)
