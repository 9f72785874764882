"""How base, axes, exclude and cells combine: the raw mapping of each cell, and where each value came from."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Any

from bench.errors import UserError, did_you_mean
from bench.spec.messages import Key, key_path, shown

# Products of axes, those that exclude leaves out among them.
MOST_CELLS = 10_000
# A plain name stands for a mapping with this key alone, and replaces what lies under it.
SHORTHANDS = {"data": "name", "model": "name", "semantics": "preset"}
SHORT_NAMES = {"sparsity": "S", "members": "M"}
_MISSING = object()


@dataclass(frozen=True)
class Overlay:
    """Values of a cell from one place of the grid; `label` is the path of what `values` holds under `root`."""

    label: str
    values: Mapping[str, Any]
    root: tuple[str, ...] = ()

    def path(self, keys: Sequence[Key]) -> str | None:
        """Return where in the grid the value at `keys` of the cell was written, None if it is not in this overlay."""
        depth = len(self.root)
        if tuple(keys[:depth]) != self.root:
            return None
        value, found = look_up(self.values, self.root), []
        for key in keys[depth:]:
            if not isinstance(value, dict):  # a shorthand, or a wrong value, says it all
                break
            if key not in value:
                return None
            value = value[key]
            found.append(key)
        return key_path(self.label, *found)


@dataclass(frozen=True)
class RawCell:
    """What the grid says of one cell, the lowest overlay first, before any check."""

    overlays: tuple[Overlay, ...]
    named_by: tuple[str, ...] = ()  # the axes that tell it from its siblings

    def merged(self) -> dict[str, Any]:
        """Return the overlays as one mapping."""
        result: dict[str, Any] = {}
        for overlay in self.overlays:
            result = merge(result, overlay.values)
        return result

    def locate(self, *keys: Key) -> str:
        """Return the path of the value at `keys`: where it was written last, else where the cell itself stands."""
        for overlay in reversed(self.overlays):
            path = overlay.path(keys)
            if path is not None:
                return path
        whole = next(overlay for overlay in reversed(self.overlays) if not overlay.root)
        return key_path(whole.label, *keys)

    def automatic_name(self, values: Mapping[str, Any]) -> str:
        """Return the name of a cell whose `values` have none: its method, and its values on the axes that vary."""
        parts = [str(values.get("method", "cell"))]
        for key in self.named_by:
            value = look_up(values, key.split("."))
            if key != "method" and value is not _MISSING:
                parts.append(_part(key, value))
        return " ".join(parts)


def raw_cells(
    base: Mapping[str, Any],
    axes: Mapping[str, Sequence[Any]],
    exclude: Sequence[Mapping[str, Any]],
    cells: Sequence[Mapping[str, Any]],
) -> list[RawCell]:
    """Return the products of the axes less exclude, then the named cells, each over base."""
    under = Overlay("base", nested(base, "base"))
    _check_axes(axes)
    on_axes = {
        key: [
            Overlay(f"axes.{key}[{i}]", nested({key: value}, "axes"), tuple(key.split(".")))
            for i, value in enumerate(values)
        ]
        for key, values in axes.items()
    }
    varying = tuple(key for key, values in axes.items() if len(values) > 1)
    products = [
        RawCell((under, *(on_axes[key][index] for key, index in chosen.items())), varying)
        for chosen in _products(axes, exclude)
    ]
    rows = [RawCell((under, Overlay(f"cells[{i}]", nested(cell, f"cells[{i}]")))) for i, cell in enumerate(cells)]
    return [*products, *rows]


def merge(under: Mapping[str, Any], over: Mapping[str, Any], top: bool = True) -> dict[str, Any]:
    """Return `over` merged into `under`, mappings key by key; a shorthand name replaces the whole mapping."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        if top and key in SHORTHANDS and isinstance(value, str):
            result[key] = {SHORTHANDS[key]: value}
        elif isinstance(value, dict) and isinstance(below, dict):
            result[key] = merge(below, value, top=False)
        else:
            result[key] = value
    return result


def nested(mapping: Mapping[str, Any], label: str) -> dict[str, Any]:
    """Return a mapping with dotted keys written out: {"optimizer.momentum": 0} is {"optimizer": {"momentum": 0}}."""
    if not any("." in key for key in mapping):
        return dict(mapping)
    result: dict[str, Any] = {}
    for key, value in mapping.items():
        *parents, last = key.split(".")
        inner = result
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise UserError(f"{label}.{key}: {parent} is given as a value too; keep one of them")
        if last in inner:
            raise UserError(f"{label}.{key}: given twice, with and without a dot; keep one of them")
        inner[last] = deepcopy(value)  # since a dotted key may be added to it
    return result


def look_up(values: Any, keys: Sequence[Key]) -> Any:
    """Return the value at the end of the keys, a private marker if there is none."""
    for key in keys:
        if not isinstance(values, dict) or key not in values:
            return _MISSING
        values = values[key]
    return values


def _check_axes(axes: Mapping[str, Sequence[Any]]) -> None:
    for key, values in axes.items():
        path = f"axes.{key}"
        if not values:
            raise UserError(f"{path}: found an empty list; at least one value is needed")
        texts = [json.dumps(value, sort_keys=True) for value in values]
        for index, text in enumerate(texts):
            if text in texts[:index]:
                raise UserError(f"{path}[{index}]: {shown(values[index])} is there already, at [{texts.index(text)}]")


def _products(axes: Mapping[str, Sequence[Any]], exclude: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, int]]:
    """Yield the index of each axis' value for all products that no exclude entry matches."""
    count = math.prod(map(len, axes.values()))
    if count > MOST_CELLS:
        raise UserError(f"axes: {count:,} products of their values; allowed: at most {MOST_CELLS:,}")
    if not axes:
        if exclude:
            raise UserError("exclude: there are no axes to exclude products of")
        return
    excluded = [dict(_axis_indices(entry, axes, f"exclude[{i}]")) for i, entry in enumerate(exclude)]
    for indices in product(*(range(len(values)) for values in axes.values())):
        chosen = dict(zip(axes, indices, strict=True))
        if not any(entry.items() <= chosen.items() for entry in excluded):
            yield chosen


def _axis_indices(
    entry: Mapping[str, Any], axes: Mapping[str, Sequence[Any]], label: str, prefix: str = ""
) -> Iterator[tuple[str, int]]:
    """Yield (axis, index of the value) for each key of an exclude entry."""
    if not entry:
        raise UserError(f"{label}: an empty entry would exclude everything; name a value of an axis")
    for key, value in entry.items():
        axis = f"{prefix}{key}"
        if axis in axes:
            if value not in axes[axis]:
                allowed = ", ".join(map(shown, axes[axis]))
                raise UserError(f"{label}.{axis}: {shown(value)} is not on the axis; allowed: {allowed}")
            yield axis, axes[axis].index(value)
        elif isinstance(value, dict) and any(other.startswith(f"{axis}.") for other in axes):
            yield from _axis_indices(value, axes, label, f"{axis}.")
        else:
            raise UserError(f"{label}.{axis}: not an axis{did_you_mean(axis, axes)}")


def _part(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(_part(inner, inner_value) for inner, inner_value in value.items())
    last = key.rpartition(".")[2]
    return str(value) if last in ("name", "preset") else f"{SHORT_NAMES.get(last, last)}={_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return value if isinstance(value, str) else shown(value)
