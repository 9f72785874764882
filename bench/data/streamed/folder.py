"""A user's folder of images that stay in their files: `data: {folder: PATH, image_size: 224, storage: streamed}`."""

import hashlib
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bench.data.cache import default_root
from bench.data.folders import training_order
from bench.data.image_folder import Channels, folder_name, mean_and_std
from bench.data.layout import TRAIN
from bench.data.record import DataSet
from bench.data.streamed.index import Part, find_part
from bench.data.streamed.source import FileSource, shown, whole
from bench.errors import UserError
from bench.spec.run import ResizedCrop
from bench.store.files import read_json, write_json

# So many images, at most, are measured; of those to train on one of so many validates, unless a part does.
MEASURED, VALIDATION = 2_000, 10


def open_file_folder(
    path: Path, size: int, *, name: str | None = None, mean: Channels | None = None, std: Channels | None = None
) -> DataSet:
    """Return the record of a folder of images that stay in their files, at an image size.

    Parts and classes are as of bench.data.image_folder, or in tars. Which images they are is known by their names. Mean
    and standard deviation, unless given, are measured on the first images to train on. UserError for an unusable
    layout.
    """
    data, parts = read_folder(path, size, name)
    data = replace(data, mean=mean or data.mean, std=std or data.std)
    if mean and std:
        return data
    measured = _measured(data, parts[TRAIN], default_root() / "cache")
    return replace(data, mean=mean or measured[0], std=std or measured[1])


def read_folder(path: Path, size: int, name: str | None = None) -> tuple[DataSet, dict[str, Part]]:
    """Return the record of a folder, without mean and standard deviation, and its parts: train, test and val, or one.

    UserError for an unusable layout.
    """
    if not path.exists():
        place = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise UserError(f"{path}: no such folder{place}")
    source = FileSource((), (TRAIN,), ("test", "val", "valid"), validation=("val", "valid"), where=path.resolve())
    unknown = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    data = DataSet(folder_name(path, name), 1, 1, 1, 1, *unknown, ResizedCrop(), source, image_size=size)
    (train, where), (test, test_where) = source.parts(data, path)
    tests = "test" if test_where == find_part(test_where.parent, ("test",)) else "val"
    if tests == "val":
        source = replace(source, validation=())
    held_out = source.held_out(where)
    validation = max(1, len(train.labels) // VALIDATION) if held_out is None else len(held_out.labels)
    data = replace(
        data,
        classes=len(train.classes),
        train_images=len(train.labels) - (validation if held_out is None else 0),
        validation_images=validation,
        test_images=len(test.labels),
        source=source,
        class_names=train.classes,
        version=source.version_of(train, test, held_out),
    )
    return data, {TRAIN: train, tests: test, **({} if held_out is None else {"val": held_out})}


def _measured(data: DataSet, train: Part, cache: Path) -> tuple[Channels, Channels]:
    """Return mean and standard deviation of the first MEASURED images to train on, as kept, else as measured now."""
    # Names do not tell the images of one folder from those of another: what is kept is of this place, as it is now.
    places = [(holder, os.stat(holder).st_mtime_ns) for holder in train.files.holders]  # noqa: PTH116
    whose = repr((train.fingerprint, data.name, data.image_size, places))
    kept = cache / f"measured-{hashlib.sha256(os.fsencode(whose)).hexdigest()[:16]}.json"
    with suppress(UserError, ValueError, TypeError, KeyError):
        (a, b, c), (d, e, f) = read_json(kept)
        return (float(a), float(b), float(c)), (float(d), float(e), float(f))
    order = training_order(data.name, len(train.labels))[:MEASURED]
    images = whole(shown(train.files[order].as_array(), data.image_size), f"measuring {data.name}", progress=True)
    found = mean_and_std(images)
    with suppress(OSError):
        write_json(kept, found)
    return found
