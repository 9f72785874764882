"""YAML read strictly: what people trip over in it is refused, with the key path and what to write instead.

PyYAML follows YAML 1.1, where 1e-3 is text, `no` is false, 010 is 8 and 2024-01-01 is a date; and of two equal keys it
silently keeps the last.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from bench.errors import UserError, did_you_mean
from bench.grid.messages import Key, key_path

# libyaml where PyYAML was built with it: ten times faster on grids of thousands of rows.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_EXPONENT = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][\d_]*)")


def read_yaml(path: Path) -> Any:
    """Return a YAML document as dicts, lists and scalars (None if it is empty); UserError that begins with the file."""
    if not path.is_file():
        raise UserError(f"{path}: {_missing(path)}")
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text, so not a grid") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise UserError(f"{path}:{at} not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    try:
        return None if node is None else _value(node, ())
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except RecursionError:
        raise UserError(f"{path}: an alias (*name) that contains itself") from None


def _missing(path: Path) -> str:
    if not path.parent.is_dir():
        return f"no such file, nor a folder {path.parent}"
    folder = path if path.is_dir() else path.parent
    grids = sorted(found.name for pattern in ("*.yaml", "*.yml") for found in folder.glob(pattern))
    if path.is_dir():
        return f"a folder, not a grid; in it: {', '.join(grids) or 'no grid (*.yaml)'}"
    if not grids:
        return f"no such file, and no grid (*.yaml) in {path.parent}"
    return f"no such file{did_you_mean(path.name, grids)}"


def _value(node: Any, keys: tuple[Key, ...]) -> Any:
    if not isinstance(node, yaml.ScalarNode) and node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
        raise _error(keys, node, f"the tag {node.tag} is not read here; leave it out")
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, keys)
    if isinstance(node, yaml.SequenceNode):
        return [_value(child, (*keys, index)) for index, child in enumerate(node.value)]
    return _scalar(node, keys)


def _mapping(node: Any, keys: tuple[Key, ...]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        if key_node.tag == f"{_TAG}merge":
            raise _error((*keys, "<<"), key_node, "merge keys are not read; put what cells share under base")
        key = _scalar(key_node, keys) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            raise _error(keys, key_node, "a key that is not text; write it in quotes")
        line = key_node.start_mark.line + 1
        if key in result:
            raise UserError(f"{key_path(*keys, key)}: given twice (lines {lines[key]} and {line}); keep one of them")
        result[key] = _value(value_node, (*keys, key))
        lines[key] = line
    return result


def _scalar(node: Any, keys: tuple[Key, ...]) -> Any:
    text = node.value
    match node.tag.removeprefix(_TAG):
        case "str" | "value":
            if not node.style and _EXPONENT.fullmatch(text):
                raise _error(
                    keys, node, f"YAML reads {text} as text; write {_respelled(text)} (or quote it, if a text)"
                )
            return text
        case "null":
            return None
        case "bool":
            if text.lower() not in ("true", "false"):
                meaning = "true" if text.lower() in ("yes", "on", "y") else "false"
                raise _error(keys, node, f"YAML reads {text} as {meaning}; write {meaning} (or quote it, if a text)")
            return text.lower() == "true"
        case "int":
            if not _DECIMAL.fullmatch(text):
                raise _error(keys, node, f"YAML does not read {text} as a decimal number; write one")
            return int(text.replace("_", ""))
        case "float":
            if ":" in text or text.lower().lstrip("+-") in (".inf", ".nan"):
                raise _error(keys, node, f"{text} is no finite decimal number")
            return float(text.replace("_", ""))
        case "timestamp":
            raise _error(keys, node, f"YAML reads {text} as a date; write it in quotes")
        case _:
            raise _error(keys, node, f"the tag {node.tag} is not read here; leave it out")


def _respelled(text: str) -> str:
    """Return a number as YAML 1.1 takes it: 1e-3 is 0.001 or 1.0e-3, with a point and a signed exponent."""
    mantissa, exponent = text.lower().split("e")
    scientific = f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+d}"
    decimal = repr(float(text))
    return scientific if "e" in decimal else f"{decimal} or {scientific}"


def _error(keys: tuple[Key, ...], node: Any, message: str) -> UserError:
    return UserError(f"{key_path(*keys) or 'the grid'}: line {node.start_mark.line + 1}: {message}")
