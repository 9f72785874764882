"""`python -m bench diff A B`: in which fields the specs of two runs differ."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.commands.completion import complete_run
from bench.commands.options import RUN_HELP, AsJson, StorePath, make_console

MOST_CHARACTERS = 80


def diff(
    first: Annotated[str, typer.Argument(metavar="A", help=RUN_HELP, autocompletion=complete_run)],
    second: Annotated[str, typer.Argument(metavar="B", help="Another run.", autocompletion=complete_run)],
    store: StorePath = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Show the fields in which the specs of two runs of a store differ, with both values."""
    from bench.plan.show import make_table
    from bench.spec.difference import ABSENT, differences
    from bench.store.contents import find_run, read_spec
    from bench.store.store import Store

    folders = [find_run(Store(store), run).folder.path for run in (first, second)]
    one, other = (read_spec(folder).model_dump(mode="json") for folder in folders)
    found = list(differences(one, other))
    if as_json:
        fields = [
            {"field": field, **{name: value for name, value in zip("ab", values, strict=True) if value is not ABSENT}}
            for field, *values in found
        ]
        print(json.dumps({"a": folders[0].name, "b": folders[1].name, "differences": fields}))
        return
    console = make_console()
    if not found:
        console.print("no field differs: both are one run")
        return
    table = make_table("field", *(folder.name for folder in folders))
    for column in table.columns:
        column.no_wrap, column.overflow = False, "fold"

    for field, *values in found:
        table.add_row(field, *("-" if value is ABSENT else _shown(value) for value in values))
    console.print(table)


def _shown(value: Any) -> str:
    """Return a value for people; --json has all of it."""
    text = json.dumps(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."
