"""What the command lines share: options, the check of folders, how they print, and how a mistake ends."""

import io
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.commands.completion import (
    complete_grid,
    complete_run,
    complete_scale,
    complete_selection,
    words_of_bash,
)
from bench.commands.ctrl_c import EXIT_CTRL_C as EXIT_CTRL_C
from bench.commands.folders import a_folder
from bench.commands.version import Version
from bench.errors import UserError, printable, without_controls

if TYPE_CHECKING:
    from rich.console import Console

# Of one argument; no path is longer.
MOST_CHARACTERS = 4_000
# What takes long to import, the first of them that is under way is named; and after how long.
SLOW_IMPORTS, IMPORT_SECONDS = ("torch", "torchvision", "sklearn", "pandas", "scipy", "matplotlib", "seaborn"), 1.5


class Device(StrEnum):
    """Where to train."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Document(StrEnum):
    """What has a JSON Schema."""

    store = "store"
    grid = "grid"
    site = "site"


def a_grid(grid: Path) -> Path:
    """Return the grid that is meant, by its path or by its name in the suite."""
    from bench.grid.suite import find_grid

    return find_grid(grid)


def some_grids(grids: list[Path]) -> list[Path]:
    """Return the grids that are meant, each as a_grid."""
    return [a_grid(grid) for grid in grids]


GRID_HELP = "A grid: its path, or its name in paper_configs/, such as digits."
GridPath = Annotated[
    Path, typer.Argument(metavar="GRID", help=GRID_HELP, callback=a_grid, autocompletion=complete_grid)
]
GridPaths = Annotated[
    list[Path],
    typer.Argument(
        metavar="GRID",
        help=f"{GRID_HELP} Several may be given, and folders of grids.",
        callback=some_grids,
        autocompletion=complete_grid,
    ),
]
MaybeGrids = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="GRID",
        help=f"{GRID_HELP} Several may be given, and folders of grids.",
        show_default="none",
        callback=lambda grids: some_grids(grids or []),
        autocompletion=complete_grid,
    ),
]
Selections = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        metavar="KEY=VALUE",
        help="Only the runs that fit; keys: cell, method, members, sparsity, run (beginning of an id), seed, status. "
        "* and ? in VALUE stand for any text and any character: 'cell=DST*'. Repeat it to narrow down, or with the "
        "same key to widen.",
        show_default="all runs",
        autocompletion=complete_selection,
    ),
]
ScaleName = Annotated[
    str, typer.Option("--scale", metavar="NAME", help="A scale of the grid.", autocompletion=complete_scale)
]
StorePath = Annotated[Path, typer.Option("--store", metavar="DIR", help="The results directory.", callback=a_folder)]
DataPath = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR_OR_ZIP",
        help="The images: a folder with the official files, an image folder (train/CLASS/*, test/CLASS/*), "
        "or a zip of one.",
        show_default="as the store was made before, else the official files in $FREETICKETS_DATA or data/",
    ),
]
DeviceName = Annotated[Device, typer.Option("--device", help="Where to train; auto takes a GPU if there is one.")]
CheckpointSeconds = Annotated[
    float,
    typer.Option(
        "--checkpoint-seconds",
        min=0.0,
        max=1e6,
        metavar="S",
        help="Write a checkpoint every S seconds: a run that is killed loses no more work than that.",
    ),
]
RUN_HELP = "A run of the store: its id, or enough of its beginning."
RunId = Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP, autocompletion=complete_run)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.", show_default="tables")]
Retry = Annotated[bool, typer.Option("--retry", help="Make failed and damaged runs again.", show_default="leave them")]


# Without rich, help takes a tenth of a second; tracebacks stay Python's own.
PLAIN: Any = {"rich_markup_mode": None, "pretty_exceptions_enable": False}
COMPLETION = ("--install-completion", "--show-completion")


def make_app(text: str, *, inside: bool = False) -> typer.Typer:
    """Return a command line without commands; `text` is its help. `inside`: for commands inside another one."""
    app = typer.Typer(help=text, no_args_is_help=True, **PLAIN)
    if not inside:
        app.callback()(_of_every_program)
    return app


def _of_every_program(version: Version = False) -> None: ...


def log_to_stderr() -> None:
    """Show what the suite logs, with the time of day."""
    import logging

    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("bench").setLevel(logging.INFO)  # not the root: libraries log what nobody asked for


def print_damage(damage: Sequence[str]) -> None:
    """Name what is damaged in a store, and end the program with exit code 1; without any, return."""
    for sentence in damage:
        print(f"damaged: {printable(sentence)}", file=sys.stderr)
    if damage:
        raise typer.Exit(1)


def make_console() -> "Console":
    """Return a console that prints names and paths as they are: brackets and colons mean nothing to it."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def run_app(app: typer.Typer, arguments: Sequence[str] | None) -> None:
    """Run a command line; what a user or the system does wrong is one line without a traceback.

    Exit code 2 for a mistake in what was given, a file that cannot be read among them; 1 where the output has no place
    to go, silently if its reader has gone.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal of another alphabet still gets every line
    try:
        _check(sys.argv[1:] if arguments is None else arguments)
        try:
            Path.cwd()
        except FileNotFoundError:
            raise UserError("the folder that this command was given in is no longer there: cd to another") from None
        try:
            with words_of_bash(), slow_imports_named():
                app(arguments)
        finally:
            if sys.stdout is not None:  # it is where the caller closed it
                sys.stdout.flush()
    except UserError as error:
        _end(2, str(error))
    except BrokenPipeError:
        _end(1)
    except KeyboardInterrupt:  # while typer makes its commands; later it ends the program itself
        _end(EXIT_CTRL_C, "interrupted")
    except OSError as error:
        reason = error.strerror or str(error)
        _end(1, reason) if error.filename is None else _end(2, f"{error.filename}: {reason}")


@contextmanager
def slow_imports_named(seconds: float = IMPORT_SECONDS) -> Iterator[None]:
    """Say on a terminal what is being imported, once that took some seconds: from a cold disk it can be a minute."""

    def say() -> None:
        specs = {name: getattr(sys.modules.get(name), "__spec__", None) for name in SLOW_IMPORTS}
        # importlib marks what is being imported so.
        slow = [name for name, spec in specs.items() if getattr(spec, "_initializing", False)]
        if slow:
            print(f"importing {slow[0]} ...", file=sys.stderr)

    timer = threading.Timer(seconds, say)
    timer.daemon = True
    if sys.stderr is not None and sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _check(arguments: Iterable[str]) -> None:
    """Refuse arguments that no command has a use for: UserError that shows the argument."""
    for argument in arguments:
        if argument.partition("=")[0] in COMPLETION and Path(sys.argv[0]).suffix == ".py":
            raise UserError(
                f"{argument}: shells complete commands, not `python -m`: install the suite (python -m pip install . "
                "in its checkout), then freetickets --install-completion"
            )
        if not argument or re.fullmatch("--[a-z-]+=", argument):
            raise UserError(f"found the argument {argument!r}, which is empty: is a variable of the shell not set?")
        shown = ascii(argument[:60]) + "..." * (len(argument) > 60)
        if len(argument) > MOST_CHARACTERS:
            raise UserError(f"{shown}: {len(argument):,} characters; allowed: at most {MOST_CHARACTERS:,}")
        try:
            without_controls(argument).encode()
        except UnicodeEncodeError:
            raise UserError(f"{shown}: not UTF-8 text") from None
        except ValueError as error:
            raise UserError(f"{shown}: {error}") from None


def _end(code: int, message: str | None = None) -> None:
    """Say what is wrong, if that can be said, and exit."""
    with suppress(OSError):
        if message is not None:
            print(f"{'' if code == EXIT_CTRL_C else 'error: '}{printable(message)}", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:  # the interpreter would try again as it ends, and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    raise SystemExit(code) from None
