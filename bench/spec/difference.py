"""In which fields two specs differ, each with both values: a part that only one of them has is one field."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, NamedTuple

ABSENT: Any = object()


class Difference(NamedTuple):
    """A field by path ("phases[1].rewire.every") and its values, as what JSON can hold; ABSENT where it is not."""

    field: str
    first: Any
    second: Any


def differences(first: Any, second: Any, path: str = "") -> Iterator[Difference]:
    """Yield where two specs, as what JSON can hold, differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys((*first, *second)):
            place = f"{path}.{key}" if path else key
            yield from differences(first.get(key, ABSENT), second.get(key, ABSENT), place)
    elif _of_records(first) and _of_records(second):
        for index, pair in enumerate(zip_longest(first, second, fillvalue=ABSENT)):
            yield from differences(*pair, f"{path}[{index}]")
    elif first is ABSENT or second is ABSENT or first != second:
        yield Difference(path, first, second)


def _of_records(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(inner, dict) for inner in value)
