"""The Parquet files of Hugging Face's data sets. An image costs its whole row group: one pass reads them all, to pack.

A part is <name>-00000-of-00294.parquet and so on, in a folder or in data/ in it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.data.files import named
from bench.data.streamed.tars import DIGITS, is_image
from bench.errors import UserError

FILE = re.compile(r"(\w+?)-[0-9]{5}-of-[0-9]{5}(-[0-9a-f]+)?\.parquet")
ROWS = 64
IMAGES, LABELS = ("image", "img", "jpg", "png"), ("label", "labels", "cls", "fine_label")
SUFFIXES = {b"\xff\xd8": ".JPEG", b"\x89P": ".png", b"GI": ".gif", b"RI": ".webp", b"BM": ".bmp"}


@dataclass(frozen=True)
class Row:
    """An image: its bytes, number of its class, the path it had (None: none), and what messages call it."""

    data: bytes
    label: int
    path: str | None
    where: str

    def class_name(self, names: Sequence[str]) -> str:
        """Return the name of its class, the number with zeros where there are no names; UserError if there is none."""
        if not 0 <= self.label < (len(names) or 10**DIGITS):
            allowed = f"0 to {len(names) - 1}" if names else "the number of a class"
            raise UserError(f"{self.where}: its label is {self.label}; expected {allowed}")
        return names[self.label] if names else f"{self.label:0{DIGITS}d}"

    def file_name(self, number: int) -> str:
        """Return the name that its file had, or one made of its number in the part."""
        name = (self.path or "").rpartition("/")[2]
        return name if name and is_image(name) else f"{number:08d}{SUFFIXES.get(self.data[:2], '.JPEG')}"


def parquet_parts(folder: Path) -> dict[str, list[Path]]:
    """Return the Parquet files of each part that lies in a folder or in data/ in it; none if there are none."""
    parts: dict[str, list[Path]] = {}
    for place in (folder, folder / "data"):
        for path in sorted(place.glob("*.parquet")) if place.is_dir() else ():
            if match := FILE.fullmatch(path.name):
                parts.setdefault(match[1], []).append(path)
    return parts


def check_whole(paths: Sequence[Path]) -> None:
    """UserError unless the files of a part are as many as their names say: one may not be downloaded yet."""
    for path in paths:
        part, _, rest = path.name.partition("-of-")
        if len(paths) != (expected := int(rest[:5])):
            raise UserError(
                f"{path.parent}: found {len(paths):,} files {part[:-5]}*.parquet, of which there are {expected:,}; "
                "download what is missing, or remove what is not of them"
            )


def names_for(known: Sequence[str], path: Path) -> tuple[str, ...]:
    """Return the names of the classes, by their numbers in a file: those that the data set has, else what it says.

    UserError if the file has another number of classes than the data set.
    """
    found = [feature["names"] for feature in _features(path).values() if _is_class(feature)]
    said = tuple(re.sub(r"[/\0]", "_", str(name)).lstrip(".") for name in found[0]) if found else ()
    if not known or set(said) == set(known):
        distinct = len(set(said)) == len(said) and all(said)
        return said if distinct else tuple(f"{number:0{DIGITS}d}" for number in range(len(said)))
    if said and len(said) != len(known):
        raise UserError(f"{path}: labels of {len(said):,} classes, where the data set has {len(known):,}")
    return tuple(known)


def count_rows(paths: Sequence[Path]) -> int:
    """Return how many images the files of a part hold; UserError for a file that is none."""
    return sum(_opened(path).metadata.num_rows for path in paths)


def rows(paths: Sequence[Path]) -> Iterator[Row]:
    """Yield all images of a part; UserError for a file that cannot be read, or without columns of images and labels."""
    for path in paths:
        image, label = _columns(path)
        number = 0
        for batch in _batches(path, [image, label]):
            for row in batch.to_pylist():
                yield _row(row[image], row[label], f"{path}: row {number:,}")
                number += 1


def _batches(path: Path, columns: list[str]) -> Iterator[Any]:
    from pyarrow import ArrowException

    try:
        yield from _opened(path).iter_batches(ROWS, columns=columns)
    except (ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _row(image: Any, label: Any, where: str) -> Row:
    data, name = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, None)
    if not isinstance(data, bytes):
        raise UserError(f"{where}: holds no bytes of an image, but {type(data).__name__}")
    if not isinstance(label, int):
        raise UserError(f"{where}: its label is {label!r}; expected the number of a class")
    return Row(data, label, name, where)


def _columns(path: Path) -> tuple[str, str]:
    """Return the names of the columns of images and of labels."""
    features, columns = _features(path), _opened(path).schema_arrow.names
    images = [name for name in columns if features.get(name, {}).get("_type") == "Image" or name in IMAGES]
    labels = [name for name in columns if _is_class(features.get(name, {})) or name in LABELS]
    for found, what, expected in ((images, "images", IMAGES), (labels, "labels", LABELS)):
        if not found:
            raise UserError(
                f"{path}: no column of {what}; found {', '.join(columns)}; expected {' or '.join(expected)}"
            )
    return images[0], labels[0]


def _is_class(feature: Mapping[str, Any]) -> bool:
    return feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list)


def _features(path: Path) -> dict[str, Any]:
    """Return what Hugging Face's library has written about each column."""
    written = (_opened(path).schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(written)["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _opened(path: Path) -> Any:
    from pyarrow import ArrowException, parquet

    try:
        with named(path):
            return parquet.ParquetFile(path)
    except ArrowException as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: no whole Parquet file ({str(error).partition('.')[0]}); download it again")
