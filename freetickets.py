"""All programs under one name: `freetickets bench | analysis | slurm | reproduce`, in any folder once installed."""

import sys
from pathlib import PurePath

if PurePath(sys.argv[0]).stem == "freetickets":  # first, since what follows takes a moment to import
    from bench.commands.ctrl_c import end_imports_at_once

    end_imports_at_once()

from collections.abc import Sequence

from analysis import __main__ as analysis
from bench import __main__ as bench
from bench.commands.options import make_app, run_app
from reproduce import reproduce
from slurm import __main__ as slurm

app = make_app("Plan, train, evaluate and report grids; `freetickets bench ...` is `python -m bench ...`, and so on.")
app.add_typer(bench.app, name="bench")
app.add_typer(analysis.app, name="analysis")
app.add_typer(slurm.app, name="slurm")
app.command()(reproduce)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is printed without a traceback, with exit code 2."""
    run_app(app, arguments)


if __name__ == "__main__":
    main()
