"""Folders on the command line: they are checked before any work that would be lost without them."""

from pathlib import Path

import typer

from bench.errors import UserError


def check_folder(option: str, path: Path) -> None:
    """Refuse a path where no folder is or can be made: UserError that names the option and the file in the way."""
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise UserError(f"{option} {path}: {place} is a file, not a folder")
        if place.is_symlink() and not place.exists():
            raise UserError(f"{option} {path}: {place} is a link that leads nowhere")


def a_folder(parameter: typer.CallbackParam, path: Path | None) -> Path | None:
    """Check the folder of an option before any work."""
    if path is not None:
        check_folder(parameter.opts[0], path)
    return path


def check_writable(option: str, path: Path) -> None:
    """Refuse a folder that cannot be made or written in: UserError that names the option, the place and the reason."""
    from tempfile import TemporaryDirectory

    from bench.store.files import TEMPORARY

    check_folder(option, path)
    place = next(folder for folder in (path, *path.parents) if folder.exists())
    try:
        with TemporaryDirectory(prefix=TEMPORARY, dir=place):
            pass
    except OSError as refused:
        raise UserError(f"{option} {path}: nothing can be written in {place} ({refused.strerror})") from None


def a_writable_folder(parameter: typer.CallbackParam, path: Path) -> Path:
    """Check the folder that a command is going to write in, before any work."""
    check_writable(parameter.opts[0], path)
    return path
