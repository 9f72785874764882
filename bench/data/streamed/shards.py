"""Which tars are a part: one, those in a folder, or numbered shards, such as imagenet1k-train-0000.tar."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from bench.errors import UserError

# The words that people use for a part.
SYNONYMS = {"val": "val|valid|validation"}


def find_shards(location: Path, name: str) -> Path | None:
    """Return the numbered tars of a part as a pattern, such as imagenet1k-train-*.tar; None if there are none.

    UserError if there are two series of them.
    """
    form = re.compile(rf"((?:.*[-_.])?(?:{SYNONYMS.get(name, re.escape(name))})[-_.])[0-9].*\.tar")
    found = [form.fullmatch(entry) for entry in os.listdir(location)] if location.is_dir() else []  # noqa: PTH208
    series = sorted({match[1] for match in found if match})
    if series[1:]:
        raise UserError(f"{location}: found {' and '.join(f'{prefix}*.tar' for prefix in series)}; keep one of them")
    return location / f"{series[0]}*.tar" if series else None


def tars_of(where: Path) -> list[Path]:
    """Return the tars that a place is: one, those of a pattern, those in a folder; none of another folder, by name.

    UserError if a shard is missing among those of a pattern.
    """
    prefix, star, suffix = where.name.rpartition("*")
    if star and not where.exists():
        found = sorted(path for path in where.parent.iterdir() if path.name.startswith(prefix) and _ends(path, suffix))
        _check_whole(where, [path.name.removeprefix(prefix).removesuffix(suffix) for path in found])
        return found
    if not where.is_dir():
        return [where]
    return sorted(path for path in where.iterdir() if _ends(path, ".tar") and path.name[0] != ".")


def _check_whole(where: Path, numbers: Sequence[str]) -> None:
    """UserError for a gap in the numbers of shards, if they are counted from 0 or 1: one may not be downloaded yet."""
    if all(number.isascii() and number.isdigit() for number in numbers):
        there = {int(number) for number in numbers}
        first = min(there, default=0)
        if first <= 1 and (missing := next((n for n in range(first, max(there, default=0)) if n not in there), None)):
            raise UserError(
                f"{where}: shard {missing:0{len(numbers[0])}d} is missing; download it, or number the others without it"
            )


def _ends(path: Path, suffix: str) -> bool:
    return path.name.endswith(suffix)
