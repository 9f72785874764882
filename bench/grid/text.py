"""YAML read strictly: what people trip over in it is refused, with the key path and what to write instead.

PyYAML follows YAML 1.1, where 1e-3 is text, `no` is false, 010 is 8 and 2024-01-01 is a date; and of two equal keys it
silently keeps the last. It puts no bound on size, depth, or what aliases of aliases stand for: here all three have one.
"""

import math
import re
from pathlib import Path
from typing import Any

import yaml

from bench.errors import UserError, did_you_mean
from bench.grid.suite import suite_grids
from bench.spec.messages import Key, M, key_path, shown, validated

# libyaml where PyYAML was built with it: ten times faster on grids of thousands of rows.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_EXPONENT = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d{1,3}")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][\d_]*)")
# Of a document: ten thousand cells fit in.
MOST_BYTES = 4 * 2**20
MOST_VALUES = 300_000
MOST_DEPTH = 32
MOST_DIGITS = 18


def read_text(path: Path, kind: str = "grid") -> str:
    """Return the text of a file that a user wrote; UserError that begins with the file, no `kind`."""
    try:
        if not path.is_file():
            raise UserError(f"{path}: {_missing(path, kind)}")
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise UserError(f"{path}: more than {MOST_BYTES // 2**20} MB, so not a {kind}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text, so not a {kind}") from None


def read_yaml(path: Path) -> Any:
    """Return a YAML document as dicts, lists and scalars (None if it is empty); UserError that begins with the file."""
    return parse_yaml(read_text(path), path)


def read_record(model: type[M], path: Path) -> M:
    """Return a YAML document as a record; UserError with one line a mistake, each with file and key."""
    content = parse_yaml(read_text(path, "list"), path)
    try:
        return validated(model, content, lambda *keys: key_path(*keys) or "the file")
    except UserError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in str(error).split("\n"))) from None


def parse_yaml(text: str, path: Path) -> Any:
    """Return the document in the text of a file, as read_yaml does."""
    try:
        _check_size(text)
        node = yaml.compose(text, Loader=_Loader)
        return None if node is None else _Values().of(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise UserError(f"{path}:{at} not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _check_size(text: str) -> None:
    """Refuse what would take too long, too much memory or too many calls to compose, before it is composed."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH:
            raise UserError(f"line {_line_of(event)}: nested more than {MOST_DEPTH} deep")
        if count > MOST_VALUES:
            raise UserError(f"more than {MOST_VALUES:,} values")


def _missing(path: Path, kind: str) -> str:
    if kind != "grid":
        return f"a folder, not a {kind}" if path.is_dir() else "no such file"
    of_suite = list(suite_grids()) if path.parent == Path() else []  # a name alone may be one of the suite's
    if not path.parent.is_dir():
        return f"no such file, nor a folder {path.parent}"
    folder = path if path.is_dir() else path.parent
    grids = sorted(found.name for pattern in ("[!.]*.yaml", "[!.]*.yml") for found in folder.glob(pattern))
    if path.is_dir():
        return f"a folder, not a grid; in it: {', '.join(grids) or 'no grid (*.yaml)'}"
    if not grids and not of_suite:
        return f"no such file, and no grid (*.yaml) in {path.parent}"
    return f"no such file{did_you_mean(path.name, [*grids, *of_suite])}"


class _Values:
    """Turns nodes into values, and counts them: an alias stands for all that it names, aliases in it too."""

    def __init__(self) -> None:
        self._count = 0

    def of(self, node: Any, keys: tuple[Key, ...]) -> Any:
        """Return the value of a node at `keys`."""
        self._count += 1
        if self._count > MOST_VALUES:
            raise _error(keys, node, f"aliases (*name) stand for more than {MOST_VALUES:,} values")
        if len(keys) > MOST_DEPTH:
            raise _error(
                keys[:1], node, f"nested more than {MOST_DEPTH} deep, as an alias (*name) that contains itself is"
            )
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node, keys)
        if node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            raise _error(keys, node, f"the tag {node.tag} is not read here; leave it out")
        if isinstance(node, yaml.SequenceNode):
            return [self.of(child, (*keys, index)) for index, child in enumerate(node.value)]
        return self._mapping(node, keys)

    def _mapping(self, node: Any, keys: tuple[Key, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                raise _error((*keys, "<<"), key_node, "merge keys are not read; put what cells share under base")
            key = _scalar(key_node, keys) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise _error(keys, key_node, "a key that is not text; write it in quotes")
            line = _line_of(key_node)
            if key in result:
                raise UserError(
                    f"{key_path(*keys, key)}: given twice (lines {lines[key]} and {line}); keep one of them"
                )
            result[key] = self.of(value_node, (*keys, key))
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
            if text.lower() not in ("", "~", "null"):
                raise _error(keys, node, f"{shown(text)} is not null; leave the tag out")
            return None
        case "bool":
            if text.lower() not in ("true", "false"):
                meaning = "true" if text.lower() in ("yes", "on") else "false"
                if meaning == "false" and text.lower() not in ("no", "off"):
                    raise _error(keys, node, f"{shown(text)} is neither true nor false; leave the tag out")
                raise _error(keys, node, f"YAML reads {text} as {meaning}; write {meaning} (or quote it, if a text)")
            return text.lower() == "true"
        case "int":
            if not _DECIMAL.fullmatch(text):
                raise _error(keys, node, f"YAML does not read {shown(text)} as a decimal number; write one")
            if len(text) > MOST_DIGITS:
                raise _error(keys, node, f"a number of {len(text):,} digits; allowed: at most {MOST_DIGITS}")
            return int(text.replace("_", ""))
        case "float":
            try:
                number = float(text.replace("_", ""))
            except ValueError:  # in full .inf, .nan, to the base 60, or a text that is said to be one
                number = math.nan
            if not math.isfinite(number):
                raise _error(keys, node, f"{shown(text)} is no finite decimal number")
            return number
        case "timestamp":
            raise _error(keys, node, f"YAML reads {text} as a date; write it in quotes")
        case _:
            raise _error(keys, node, f"the tag {node.tag} is not read here; leave it out")


def _respelled(text: str) -> str:
    """Return a number as YAML 1.1 takes it: 1e-3 is 0.001 or 1.0e-3, with a point and a signed exponent."""
    text = text.replace("_", "")
    mantissa, exponent = text.lower().split("e")
    scientific = f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+d}"
    decimal = repr(float(text))
    return scientific if "e" in decimal or "inf" in decimal else f"{decimal} or {scientific}"


def _line_of(part: Any) -> int:
    """Return the line, from 1, on which a node or an event begins."""
    return int(part.start_mark.line) + 1


def _error(keys: tuple[Key, ...], node: Any, message: str) -> UserError:
    return UserError(f"{key_path(*keys) or 'the grid'}: line {_line_of(node)}: {message}")
