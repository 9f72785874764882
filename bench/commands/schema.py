"""The JSON Schemas that `python -m bench schema` prints; those in docs/schemas are this output."""

from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter

from bench.commands.options import Document
from bench.grid.schema import DIALECT, RecordSchema, grid_schema
from bench.spec.record import Record
from bench.store.measured import Measured
from bench.store.records import ATTEMPTS, EVALUATIONS, STORE_RECORDS


def store_schema() -> dict[str, Any]:
    """Return the JSON Schema of a store: an object of its files by name, of history.jsonl one line."""
    by_name: dict[str, TypeAdapter[Any]] = {"evaluations.json": EVALUATIONS, "attempts.json": ATTEMPTS}
    records: dict[str, type[Record]] = {**STORE_RECORDS, "measured/DEVICE.json": Measured}
    adapters = {name: by_name.get(name, TypeAdapter(record)) for name, record in records.items()}
    files, found = TypeAdapter.json_schemas(
        [(name, "validation", adapter) for name, adapter in adapters.items()], schema_generator=RecordSchema
    )
    return {
        "$schema": DIALECT,
        "title": "The files of a store by name; of history.jsonl, a line",
        "type": "object",
        "properties": {name: files[name, "validation"] for name in records},
        "additionalProperties": False,
        "$defs": found["$defs"],
    }


def site_schema() -> dict[str, Any]:
    """Return the JSON Schema of a site file of `python -m slurm`."""
    from slurm.site import Site

    return {"$schema": DIALECT, **Site.model_json_schema(schema_generator=RecordSchema)}


SCHEMAS: dict[Document, Callable[[], dict[str, Any]]] = {
    Document.store: store_schema,
    Document.grid: grid_schema,
    Document.site: site_schema,
}
