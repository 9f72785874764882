"""The JSON Schema of a grid as it is written, shorthands and dotted keys included: editors complete grids with it.

It accepts every grid that `plan` accepts. `plan` refuses more: what a cell leaves out may stand in base, on an axis or
in the grid that this one extends, so the schema requires no key of a cell.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from bench.data.catalog import DATASETS
from bench.grid.entry import CellEntry
from bench.grid.evaluations import Evaluations
from bench.grid.load import GridFile
from bench.grid.method import parameters_of
from bench.grid.network import arguments_of
from bench.grid.scale import PAPER, Scale
from bench.models.catalog import NETWORKS
from bench.recipes import METHODS, PRESETS
from bench.spec.record import Record
from bench.spec.run import MULTI_MEMBER_KINDS, Augmentation

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ROW = re.compile(r"(\w+(?:, \w+)*) {2,}(\S.*)")
# Dotted keys that the schema cannot know: parameters of a method and arguments of a network from elsewhere.
_OPEN = r"^(recipe|model)\."
# Part of a cell -> the definition that has its keys.
SECTIONS = {
    "data": "DataChoice",
    "model": "model",
    "model.ensemble": "ensemble",
    "optimizer": "OptimizerChoice",
    "topology": "TopologyChoice",
    "semantics": "SemanticsChoice",
    "recipe": "recipe",
    "execution": "Execution",
    "augmentation": "Augmentation",
}


class RecordSchema(GenerateJsonSchema):
    """JSON Schema of records, in which the table of fields in a docstring describes the fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002, a title would repeat the key
        return False

    def model_schema(self, schema: Any) -> Schema:
        record = super().model_schema(schema)
        text, notes = _split(record.get("description", ""), record.get("properties", {}))
        for key, note in notes.items():
            record["properties"][key]["description"] = note
        return {**record, "description": text} if text else record


def _split(docstring: str, fields: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return a docstring without its table of fields, and the table: "key   meaning", continued on indented lines."""
    text: list[str] = []
    notes: dict[str, str] = {}
    keys: list[str] = []
    for line in docstring.split("\n"):
        row = _ROW.fullmatch(line)
        if row and fields.keys() >= set(row[1].split(", ")):
            keys = row[1].split(", ")
            notes |= dict.fromkeys(keys, row[2])
        elif keys and line.startswith(" "):
            notes |= {key: f"{notes[key]} {line.strip()}" for key in keys}
        else:
            keys = []
            text.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(text)).strip(), notes


def grid_schema() -> Schema:
    """Return the JSON Schema of a grid file."""
    records = (CellEntry, GridFile, Evaluations, Scale, Augmentation, *MULTI_MEMBER_KINDS.values())
    _, found = models_json_schema([(record, "validation") for record in records], schema_generator=RecordSchema)
    definitions: Schema = found["$defs"]
    entry, grid = definitions.pop("CellEntry"), definitions.pop("GridFile")
    definitions |= {f"recipe_{name}": _schema_of(parameters_of(method)) for name, method in METHODS.items()}
    definitions["recipe"] = _union(definitions[f"recipe_{name}"] for name in METHODS)
    definitions |= _models(definitions)
    for definition in definitions.values():
        definition.pop("required", None)
    _name_choices(definitions)
    cell = entry["properties"] | {
        **{section: _ref(name) for section, name in SECTIONS.items() if "." not in section},
        "method": _named({name: _summary(method.recipe.__doc__) for name, method in METHODS.items()}, "function"),
        "data": {"anyOf": [_named(dict.fromkeys(DATASETS), "name"), _ref("DataChoice")]},
        "model": {"anyOf": [_named(dict.fromkeys(NETWORKS), "factory"), _ref("model")]},
        "semantics": {"anyOf": [{"enum": [*PRESETS]}, _ref("SemanticsChoice")]},
        "recipe": {"type": "object"},
    }
    dotted = _dotted(definitions)
    # Patterns, not properties, so that editors propose the nested spelling alone.
    patterns = {f"^{re.escape(key)}$": value for key, value in dotted.items()} | {_OPEN: {}}
    definitions["keys"] = _closed(cell, patternProperties=patterns)
    parameters = {name: {"properties": {"recipe": _ref(f"recipe_{name}")}} for name in METHODS}
    any_parameters = {"if": {"required": ["method"]}, "else": {"properties": {"recipe": _ref("recipe")}}}
    definitions["cell"] = {"allOf": [_ref("keys"), *_by("method", parameters), any_parameters]}
    axes = {key: _ref(f"keys/properties/{key}") for key in cell} | {"recipe": _ref("recipe")} | dotted
    parts = {
        "base": _ref("cell"),
        "axes": _closed({key: _values(value) for key, value in axes.items()}, patternProperties={_OPEN: _values({})}),
        "exclude": {"type": "array", "items": _ref("keys")},
        "cells": {"type": "array", "items": _ref("cell")},
        "evaluations": {"anyOf": [_ref("Evaluations"), {"type": "null"}]},
        "scales": {
            "type": "object",
            "properties": {PAPER: _closed({"needs_gpu": {"type": "boolean"}})},
            "additionalProperties": _ref("Scale"),
        },
    }
    some_cells = {"anyOf": [{"required": [key]} for key in ("cells", "axes", "extends")]}
    properties = {"properties": grid["properties"] | parts}
    return {"$schema": DIALECT, "title": "A grid", **grid, **properties, **some_cells, "$defs": definitions}


def _models(definitions: Schema) -> Schema:
    """Return the definitions of `model` and of `model.ensemble`: their keys, and those of each network."""
    arguments = {name: _schema_of(arguments_of(network)) for name, network in NETWORKS.items()}
    networks = {
        f"model_{name}": {**schema, "properties": {**schema["properties"], "name": {}, "ensemble": {}}}
        for name, schema in arguments.items()
    }
    kinds = [kind.__name__ for kind in MULTI_MEMBER_KINDS.values()]
    keys = {
        "name": _named(dict.fromkeys(NETWORKS), "factory"),
        "ensemble": {"anyOf": [{"enum": [*MULTI_MEMBER_KINDS]}, *map(_ref, kinds), {"type": "null"}]},
        **_union(arguments.values())["properties"],
    }
    by_name = _by("name", {name: _ref(f"model_{name}") for name in NETWORKS})
    model = {"type": "object", "properties": keys, "allOf": by_name}
    return {**networks, "model": model, "ensemble": _union(definitions[kind] for kind in kinds)}


def _name_choices(definitions: Schema) -> None:
    """Name the data sets and presets, and leave out the defaults of switches, which depend on the preset."""
    definitions["DataChoice"]["properties"]["name"]["anyOf"][:0] = [{"enum": [*DATASETS]}]
    definitions["Scale"]["properties"]["data"] = {"anyOf": [{"enum": [*DATASETS]}, {"type": "null"}], "default": None}
    switches = definitions["SemanticsChoice"]["properties"]
    for switch in switches.values():
        switch.pop("default")
    switches["preset"] = {"enum": [*PRESETS]}


def _dotted(definitions: Schema) -> Schema:
    """Return the schema of every value of a cell that a dotted key, such as optimizer.momentum, leads to."""
    return {
        f"{section}.{key}": _ref(f"{name}/properties/{key}")
        for section, name in SECTIONS.items()
        for key in definitions[name]["properties"]
    }


def _schema_of(record: type[Record]) -> Schema:
    schema = record.model_json_schema(schema_generator=RecordSchema)
    del schema["title"]  # which says no more than "Parameters"
    return schema


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _closed(properties: Schema, **more: Any) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def _values(schema: Schema) -> Schema:
    return {"type": "array", "items": schema, "minItems": 1, "uniqueItems": True}


def _named(known: Mapping[str, str | None], attribute: str) -> Schema:
    """Return the schema of a name: one of those known, each with its description, or package.module:attribute."""
    names = [{"const": name} | ({"description": text} if text else {}) for name, text in known.items()]
    return {"anyOf": [*names, {"type": "string", "pattern": ":", "description": f"package.module:{attribute}"}]}


def _by(key: str, schemas: Mapping[str, Schema]) -> list[Schema]:
    """Return a condition for each value of a key: its schema applies where the key has that value."""
    return [
        {"if": {"properties": {key: {"const": value}}, "required": [key]}, "then": schema}
        for value, schema in schemas.items()
    ]


def _union(schemas: Iterable[Schema]) -> Schema:
    """Return an object with the keys of all objects; a key that several have takes the values of any of them."""
    found: dict[str, list[Schema]] = {}
    for schema in schemas:
        for key, value in schema["properties"].items():
            bare = {name: part for name, part in value.items() if name not in ("default", "const")}
            if bare not in found.setdefault(key, []):
                found[key].append(bare)
    properties = {key: values[0] if len(values) == 1 else {"anyOf": values} for key, values in found.items()}
    return {"type": "object", "properties": properties}


def _summary(docstring: str | None) -> str:
    return (docstring or "").partition("\n")[0]
