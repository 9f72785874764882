"""`python -m bench du`: what takes the space of a store."""

import json
import os
from pathlib import Path

import typer

from bench.commands.options import AsJson, StorePath, make_console, print_damage


def du(store: StorePath = Path("results"), as_json: AsJson = False) -> None:
    """Show what takes the space of a store: tickets, checkpoints, logits, samples, and so on.

    Exit code: 1 if a folder cannot be read, which is named; else 0.
    """
    from bench.errors import UserError
    from bench.plan.show import make_table
    from bench.store.sizes import readable, sizes_below, total

    if not os.path.lexists(store):
        raise UserError(f"--store {store}: no such folder; give --store DIR")
    found = sizes_below(store, store)
    if as_json:
        kinds = {kind: {"files": size.files, "bytes": size.bytes} for kind, size in found.kinds.items()}
        print(json.dumps({"store": str(store), "kinds": kinds, "damage": found.unread}))
        raise typer.Exit(int(bool(found.unread)))
    table = make_table("kind", ">files", ">size")
    for kind, size in (*found.kinds.items(), ("all", total(found.kinds))):
        table.add_row(kind, f"{size.files:,}", readable(size.bytes))
    make_console().print(table)
    print_damage(found.unread)
