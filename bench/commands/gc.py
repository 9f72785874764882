"""`python -m bench gc GRID...`: what lies in a store and none of these grids asks for."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.options import AsJson, GridPaths, StorePath, make_console

if TYPE_CHECKING:
    from bench.store.removal import Removable


def gc(
    grids: GridPaths,
    store: StorePath = Path("results"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run/--remove", help="Only list it, or ask and then remove it.")
    ] = True,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.", show_default="ask")] = False,
    as_json: AsJson = False,
) -> None:
    """List the runs and attacked ensembles of a store that no GRID asks for, at any of its scales; remove them if told.

    Samples, submissions and evaluation sets of runs that are asked for stay. So does what another process works on, and
    what that starts from. Exit code: 1 if something could not be removed, which is named; else 0.
    """
    from bench.errors import UserError, counted
    from bench.grid import grid_files, load_grid
    from bench.plan.asked import asked_for
    from bench.store.contents import contents
    from bench.store.removal import removables, remove
    from bench.store.sizes import readable
    from bench.store.store import Store

    removes = yes or not dry_run
    if removes and not yes and not sys.stdin.isatty():
        raise UserError("gc --remove asks first, and nobody is there to answer; --yes answers")
    where = Store(store)
    loaded = [load_grid(path) for path in grid_files(grids)]  # a mistake in one, and nothing is removed
    found = contents(where)
    asked = asked_for(loaded, where, found.runs)
    chosen = removables(where, found.runs, asked.runs, asked.ensembles)
    if as_json:
        records = [{"kind": item.kind, "id": item.path.name, "bytes": item.bytes} for item in chosen.items]
        print(json.dumps({"store": str(store), "unasked": records, "kept": chosen.kept}))
    else:
        _print(chosen.items, chosen.kept)
    size = readable(sum(item.bytes for item in chosen.items))
    grids_do = "this grid does" if len(loaded) == 1 else "these grids do"
    what = f"{_counted(chosen.items)} that {grids_do} not ask for, {size}"
    messages = sys.stderr if as_json else sys.stdout
    if not chosen.items:
        print(f"Nothing to remove; {counted(len(found.runs), 'run')} in all.", file=messages)
        return
    if not removes:
        print(f"{what}; {counted(len(found.runs), 'run')} in all. --remove asks and removes them.", file=messages)
        return
    if not yes and not typer.confirm(f"Remove {what}, from {store}?", err=as_json):
        return
    problems = remove(where, chosen.items)
    for problem in problems:
        print(f"not removed: {problem}", file=sys.stderr)
    removed = sum(not os.path.lexists(item.path) for item in chosen.items)
    print(f"Removed {removed:,} of {len(chosen.items):,}.", file=messages)
    raise typer.Exit(int(bool(problems)))


def _counted(items: Iterable["Removable"]) -> str:
    from bench.errors import counted

    kinds = [item.kind for item in items]
    parts = [counted(kinds.count(kind), kind) for kind in ("run", "ensemble") if kind in kinds]
    return " and ".join(parts)


def _print(items: Iterable["Removable"], kept: Iterable[str]) -> None:
    from bench.plan.show import make_table
    from bench.store.sizes import readable

    table = make_table("kind", "id", "cell", ">size")
    table.columns[2].header = "what"
    for item in items:
        table.add_row(item.kind, item.path.name, item.what, readable(item.bytes))
    if table.row_count:
        make_console().print(table)
        print()
    for sentence in kept:
        print(f"kept: {sentence}")
