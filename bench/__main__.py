"""The command line: `python -m bench COMMAND`; each command has its file in bench/commands/.

Imports wait until a command needs them, so that --help is instant.
"""

if __name__ == "__main__":  # first, since what follows takes a moment to import
    from bench.commands.ctrl_c import end_imports_at_once

    end_imports_at_once()

from collections.abc import Sequence
from typing import Annotated

import typer

from bench.commands import data
from bench.commands.archive import export, import_
from bench.commands.check import check
from bench.commands.diff import diff
from bench.commands.du import du
from bench.commands.gc import gc
from bench.commands.latency import latency
from bench.commands.listing import list_runs
from bench.commands.options import Document, make_app, run_app
from bench.commands.plan import plan
from bench.commands.run import run
from bench.commands.show import show
from bench.commands.watch import watch

app = make_app("Plan and train a grid of experiments: cells -> runs -> tickets -> logits.")
app.command()(check)
app.command()(plan)
app.command()(run)
app.command()(watch)
app.command()(latency)
app.add_typer(data.app, name="data")
app.command("list")(list_runs)
app.command()(show)
app.command()(diff)
app.command()(du)
app.command()(gc)
app.command()(export)
app.command("import")(import_)


@app.command()
def schema(
    of: Annotated[
        Document,
        typer.Argument(metavar="store|grid|site", help="The files of a store, a grid, or a site file of `slurm`."),
    ],
) -> None:
    """Print a JSON Schema, with which editors complete grids and site files, and programs check a store."""
    import json

    from bench.commands.schema import SCHEMAS

    print(json.dumps(SCHEMAS[of](), indent=2))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is printed without a traceback, with exit code 2."""
    run_app(app, arguments)


if __name__ == "__main__":
    main()
