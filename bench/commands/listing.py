"""`python -m bench list`: the runs of a store, whatever grid they are of."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.commands.options import AsJson, MaybeGrids, StorePath, make_console, print_damage

if TYPE_CHECKING:
    from bench.plan.asked import Asked
    from bench.store.contents import StoredRun

MOST_USERS = 3


def list_runs(
    grids: MaybeGrids = None,
    store: StorePath = Path("results"),
    unasked: Annotated[
        bool,
        typer.Option("--unasked", help="Only the runs that no GRID asks for at any scale.", show_default="all runs"),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the runs of a store: method, network, data, state and size. With grids: which of them ask for each run.

    Exit code: 1 if something in the store is damaged, which is named; else 0.
    """
    from bench.errors import UserError, counted
    from bench.grid import grid_files, load_grid
    from bench.plan.asked import asked_for
    from bench.plan.show import make_table
    from bench.store.contents import contents
    from bench.store.sizes import readable
    from bench.store.store import Store

    where = Store(store)
    if unasked and not grids:
        raise UserError("--unasked: found without a grid; give the grids that you keep runs of")
    loaded = [load_grid(path) for path in grid_files(grids or [])]
    found = contents(where)
    asked = asked_for(loaded, where, found.runs) if loaded else None
    runs = [run for run in found.runs if not (unasked and asked and run.id in asked.runs)]
    if as_json:
        records = [_record(run, asked) for run in runs]
        print(json.dumps({"store": str(store), "runs": records, "damage": found.damage}))
        raise typer.Exit(int(bool(found.damage)))
    columns = ["run", "method", "network", "data", ">S", ">seed", "state", ">size"]
    table = make_table(*columns, *(["cell"] if asked else []))
    for column in table.columns[1:4]:
        column.no_wrap, column.overflow = False, "fold"
    if asked:
        table.columns[-1].header = "asked for by"
    for run in runs:
        record = _record(run, asked)
        sparsity = "-" if not record["sparsity"] else f"{record['sparsity']:g}"
        values = [record[key] or "-" for key in ("method", "network", "data")]
        seed = "-" if record["seed"] is None else str(record["seed"])
        users = [_shortened(record["asked_for_by"])] if asked else []
        table.add_row(run.id, *values, sparsity, seed, run.state, readable(run.bytes), *users)
    console = make_console()
    if runs:
        console.print(table)
        console.print("")
    console.print(f"{counted(len(runs), 'run')}, {readable(sum(run.bytes for run in runs))}")
    print_damage(found.damage)


def _record(run: "StoredRun", asked: "Asked | None") -> dict[str, Any]:
    from bench.commands.described import described

    users = {} if asked is None else {"asked_for_by": asked.runs.get(run.id, ())}
    return {**described(run), "bytes": run.bytes, **users}


def _shortened(users: Sequence[str]) -> str:
    more = f" and {len(users) - MOST_USERS} more" if len(users) > MOST_USERS else ""
    return ", ".join(users[:MOST_USERS]) + more if users else "none"
