"""What pydantic says of a wrong value, in the words of a grid: key path, what was found, what is allowed."""

import re
from collections.abc import Callable
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bench.errors import UserError, did_you_mean

Key = str | int
Locate = Callable[..., str]
M = TypeVar("M", bound=BaseModel)

MOST_LINES = 5
MOST_SHOWN = 80
TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "list_type": "a list",
    "finite_number": "a finite number",
}
BOUNDS = (("gt", "more than"), ("ge", "at least"), ("lt", "less than"), ("le", "at most"))


def key_path(*keys: Key) -> str:
    """Return the path of a value in a grid: ("cells", 2, "optimizer", "momentum") is "cells[2].optimizer.momentum"."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{_plain(key)}" for key in keys).removeprefix(".")


def _plain(key: str) -> str:
    """Return a key on one line, whatever characters somebody put into it."""
    return key if key.isprintable() and len(key) <= MOST_SHOWN else shown(key)


def shown(value: object) -> str:
    """Return a value as a message names it: a scalar as YAML writes it, text in quotes, a collection by its kind."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def validated(model: type[M], value: object, locate: Locate) -> M:
    """Return `value` as a record; UserError with one line a problem, at the path that locate(*keys) gives."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = [_line(details, model, locate) for details in error.errors(include_url=False)]
        more = [f"... and {len(found) - MOST_LINES} more"] if len(found) > MOST_LINES else []
        raise UserError("\n".join(found[:MOST_LINES] + more)) from None


def _line(details: ErrorDetails, model: type[BaseModel], locate: Locate) -> str:
    keys, kind, found = details["loc"], details["type"], details["input"]
    path = locate(*keys) or "the grid"
    if kind == "extra_forbidden":
        return f"{path}: unknown key{did_you_mean(keys[-1], _model_at(model, keys[:-1]).model_fields)}"
    if kind == "missing":
        return f"{path}: missing; a value is needed"
    if kind == "literal_error":
        # pydantic spells the options as 'a', 'b' or 'c'
        options = re.findall(r"'([^']*)'", details["ctx"]["expected"])
        return f"{path}: found {shown(found)}{did_you_mean(found, options)}"
    if kind in ("too_short", "string_too_short"):
        what = "an empty text; at least one character" if found == "" else "an empty list; at least one value"
        return f"{path}: found {what} is needed"
    if kind in ("too_long", "string_too_long"):
        what = "characters" if isinstance(found, str) else "values"
        return f"{path}: found {len(found):,} {what}; allowed: at most {details['ctx']['max_length']:,}"
    if kind in TYPES:
        hint = ", written without quotes" if isinstance(found, str) and _is_number(found) else ""
        return f"{path}: found {shown(found)}; allowed: {TYPES[kind]}{hint}"
    if bounds := _bounds(model, keys):
        return f"{path}: found {shown(found)}; allowed: {bounds}"
    return f"{path}: found {shown(found)}; {details['msg'].removeprefix('Value error, ')}"


def _model_at(model: type[BaseModel], keys: tuple[Key, ...]) -> type[BaseModel]:
    """Return the record that the keys lead to, through fields that are records or optional records."""
    for key in keys:
        field = model.model_fields.get(str(key))
        annotation: Any = field.annotation if field else None
        records = (kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type))
        model = next((kind for kind in records if issubclass(kind, BaseModel)), model)
    return model


def _bounds(model: type[BaseModel], keys: tuple[Key, ...]) -> str:
    """Return all bounds of a numeric field, "at least 0 and less than 1"; "" if it has none."""
    if not keys or any(isinstance(key, int) for key in keys):
        return ""
    field = _model_at(model, keys[:-1]).model_fields.get(str(keys[-1]))
    metadata = list(field.metadata) if field else []
    for kind in get_args(field.annotation) if field else ():  # of an optional number: int with bounds, or None
        metadata += [bound for inner in getattr(kind, "__metadata__", ()) for bound in getattr(inner, "metadata", ())]
    return " and ".join(f"{words} {getattr(m, name):,}" for name, words in BOUNDS for m in metadata if hasattr(m, name))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
