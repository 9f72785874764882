"""The images of runs: loaded once for all runs in a row that see the same, and recorded in the store."""

from pathlib import Path

from bench.data.alone import alone
from bench.data.dataset import Split, cut
from bench.data.sources import default_root, describe, load, takes_location
from bench.spec.run import DataSpec
from bench.store.folders import DataRecord, Store


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
            location = self._find(spec.name)
            dataset = load(spec.name, location, root=default_root(), progress=self._progress)
            split = cut(dataset, spec)
            place = str(location.resolve()) if location is not None and dataset.variant != "official" else None
            self._record(spec.name, DataRecord(dataset.variant, place, describe(dataset.variant)))
            self._last = spec, split
        return self._last[1]

    def _find(self, name: str) -> Path | None:
        if not takes_location(name):
            return None
        if self._location is not None:
            return self._location
        record = self._store.data_records().get(name)
        return None if record is None or record.location is None else Path(record.location)

    def _record(self, name: str, record: DataRecord) -> None:
        if self._store.data_records().get(name) != record:
            with alone(self._store.root / "data.lock", "images are recorded"):
                self._store.record_data(name, record)
