"""What the command lines share: options, the check of folders, and how a mistake ends."""

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench.errors import UserError


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


def check_folder(option: str, path: Path) -> None:
    """Refuse a path where no folder is or can be made: UserError that names the option and the file in the way."""
    for place in (path, *path.parents):
        if place.is_file():
            raise UserError(f"{option} {path}: {place} is a file, not a folder")


def a_folder(parameter: typer.CallbackParam, path: Path | None) -> Path | None:
    """Check the folder of an option before any work."""
    if path is not None:
        check_folder(parameter.opts[0], path)
    return path


GRID_HELP = "A grid, such as paper_configs/digits.yaml."
GridPath = Annotated[Path, typer.Argument(metavar="GRID", help=GRID_HELP)]
GridPaths = Annotated[
    list[Path], typer.Argument(metavar="GRID...", help=f"{GRID_HELP} Several, or a folder of grids: what they share.")
]
ScaleName = Annotated[str, typer.Option("--scale", metavar="NAME", help="A scale of the grid.")]
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
Retry = Annotated[bool, typer.Option("--retry", help="Make failed and damaged runs again.", show_default="leave them")]


def run_app(app: typer.Typer, arguments: Sequence[str] | None) -> None:
    """Run a command line; a user's mistake is printed without a traceback, with exit code 2."""
    try:
        app(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
