"""From what people have to a pack for each part (bench.data.streamed.pack): folders, tars, shards, Parquet files."""

import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.data.catalog import DATASETS, find_data_set
from bench.data.files import named
from bench.data.image_folder import folder_name
from bench.data.progress import counted
from bench.data.record import DataSet
from bench.data.rows import Row
from bench.data.streamed.folder import read_folder
from bench.data.streamed.index import Part
from bench.data.streamed.pack import Encoding, Packable, write_pack
from bench.data.streamed.parquet import check_whole, count_rows, names_for, parquet_parts, rows
from bench.data.streamed.source import FileSource
from bench.errors import UserError

# What the parts of a Parquet data set are called here.
PARTS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
# Hugging Face's copy of ImageNet adds the class to the names of the files.
ADDED_CLASS = re.compile(r"_n[0-9]{8}(?=\.\w+$)")


class Images(NamedTuple):
    """The images of a part, how many they are, and how the pack that they come from has encoded them."""

    packables: Iterator[Packable]
    number: int
    encoding: str = ""


def pack(name: str | None, location: Path, out: Path, encoding: Encoding | None) -> list[Row]:
    """Write a pack of each part of a data set, or of a folder of one's own (no name), and return a row of each.

    UserError, before anything is written, if the images are not there or a pack of that name is; else if one cannot be
    read. Packs are whole or absent.
    """
    with named(location):
        if not location.is_dir():
            raise UserError(f"{location}: no such folder; --data names the folder of the images")
        data = None if name is None else _streamed(name)
        parquet = parquet_parts(location)
        found = _in_parquet(data, location, parquet) if parquet else _in_files(data, location)
    if there := [path for part in found if (path := out / f"{part}.tar").exists()]:
        raise UserError(f"{there[0]}: is there; remove it, or name another folder with --out")
    written = []
    with named(out):
        for part, (images, count, before) in found.items():
            path = out / f"{part}.tar"
            images = counted(images, count, f"packing {part}", progress=True)
            count = write_pack(path, images, encoding, before)
            what = "-".join(filter(None, (before, str(encoding or "")))) or "as they were"
            written.append(Row(name or folder_name(location, None), what, "ready", path, count, ""))
    return written


def _streamed(name: str) -> DataSet:
    data = find_data_set(name)
    if not isinstance(data.source, FileSource):
        allowed = ", ".join(known for known, data in DATASETS.items() if isinstance(data.source, FileSource))
        raise UserError(
            f"{name}: its images are not read from image files; allowed: {allowed}, or none: your own folder"
        )
    return data


def _in_files(data: DataSet | None, location: Path) -> dict[str, Images]:
    """Return the images of folders, tars or shards, by part."""
    if data is None:
        parts = read_folder(location, 1)[1]
    else:
        assert isinstance(data.source, FileSource)
        (train, where), (test, test_where) = data.source.parts(data, location)
        for part, place in ((train, where), (test, test_where)) if data.class_names else ():
            part.labelled(data.class_names, place)  # which names a folder that is no class of it
        parts = {"train": train, data.source.test[0]: test}
    return {name: Images(_of_part(part), len(part.labels), part.encoding) for name, part in parts.items()}


def _of_part(part: Part) -> Iterator[Packable]:
    names = part.files.names.tolist()
    for place, label in enumerate(part.labels.tolist()):
        path = f"{part.classes[label]}/{os.fsdecode(names[place])}"
        yield Packable(path, partial(part.files.read, place), part.files.path(place))


def _in_parquet(data: DataSet | None, location: Path, parquet: dict[str, list[Path]]) -> dict[str, Images]:
    """Return the images of Parquet files, by part."""
    known = () if data is None else data.class_names
    if data is not None:
        assert isinstance(data.source, FileSource)
        tests = (*data.source.test, "validation", "valid", "test")
        test = next((part for part in tests if part in parquet), None)
        if "train" not in parquet or test is None:
            found = ", ".join(f"{part}-*.parquet" for part in parquet)
            raise UserError(f"{location}: found {found}; expected train-*.parquet and {data.source.test[0]}-*.parquet")
        chosen = {"train": "train", test: data.source.test[0]}
    elif odd := [part for part in parquet if part not in PARTS]:
        raise UserError(f"{parquet[odd[0]][0]}: the part {odd[0]!r} is none of {', '.join(PARTS)}")
    else:
        chosen = {part: PARTS[part] for part in parquet}
    images = {}
    for part, called in chosen.items():
        paths = parquet[part]
        check_whole(paths)
        names = names_for(known, paths[0])
        images[called] = Images(_of_rows(paths, names), count_rows(paths))
    return images


def _of_rows(paths: Sequence[Path], names: Sequence[str]) -> Iterator[Packable]:
    seen: set[str] = set()
    for number, row in enumerate(rows(paths)):
        folder = row.class_name(names)
        place = f"{folder}/{ADDED_CLASS.sub('', row.file_name(number))}"
        if place in seen:
            place = f"{folder}/{number:08d}-{place.rpartition('/')[2]}"
        seen.add(place)
        yield Packable(place, partial(bytes, row.data), row.where)
