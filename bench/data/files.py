"""Image files as a file system shows them: found through links, read if they are regular files, refused by name if not.

A data set kept by DVC or git-annex holds links to nowhere, a copied one lacks permissions, and opening a pipe waits for
ever: each is one UserError that names the file.
"""

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import UserError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# More bytes than any image has that Pillow takes for one and not for an attack.
LARGEST = 2**31
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is none of the user's data: .git, ._x.png, __MACOSX."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(path: str) -> bool:
    """Return whether a path, relative to its data set, is that of an image file."""
    return path.lower().endswith(IMAGE_SUFFIXES) and not any(map(is_hidden, path.split("/")))


def shown(path: Path | str) -> str:
    """Return a path for a message: on one line, and printable even where its name is not UTF-8."""
    text = str(path)
    return text if text.isprintable() else repr(text)[1:-1]


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Turn what the file system says inside, such as "Permission denied", into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        found = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else path
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError) and found.is_symlink():
            reason = f"a link to {shown(found.readlink())}, which is not there"
        raise UserError(f"{shown(found)}: cannot be read ({reason})") from None


def regular(path: Path) -> os.stat_result:
    """Return the state of a regular file; UserError for anything else: opening a pipe would wait for ever."""
    with named(path):
        state = path.stat()
    if kind := KINDS.get(stat.S_IFMT(state.st_mode)):
        raise UserError(f"{shown(path)}: cannot be read ({kind}, not a file)")
    return state


def read_file(path: Path) -> bytes:
    """Return the bytes of an image file; UserError if it cannot be read, is no regular file, or is too large."""
    if (size := regular(path).st_size) > LARGEST:
        raise UserError(f"{shown(path)}: {size:,} bytes; allowed for an image: {LARGEST:,}")
    with named(path):
        return path.read_bytes()


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without hidden ones; UserError if it cannot be listed.

    A link to nowhere counts as one: whoever looks into it learns what is wrong.
    """
    with named(folder):
        inside = sorted(path for path in folder.iterdir() if not is_hidden(path.name))
        return [path for path in inside if path.is_dir() or (path.is_symlink() and not path.exists())]


def image_files(folder: Path, ignored: Collection[str] = ()) -> Iterator[str]:
    """Yield the paths of all image files below a folder, relative to it, through links; of the hidden ones, none.

    A folder that is called as an image and holds none is yielded too, to be refused when it is read.

    ignored   names, in small letters, of folders that are not looked into

    UserError that names a folder which cannot be listed or leads back to one around it, a link to nowhere that may have
    been a folder, and a name that is not UTF-8.
    """
    start = len(str(folder / "x")) - 1
    for path in _below(str(folder), ignored, ()):
        yield utf8(path[start:], folder)


def utf8(path: str, folder: Path) -> str:
    """Return a path in a folder; UserError unless its name is UTF-8, as the fingerprint of a data set needs."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UserError(f"{shown(folder / path)}: its name is not UTF-8; rename it") from None
    return path


def _below(folder: str, ignored: Collection[str], around: tuple[tuple[int, int], ...]) -> Iterator[str]:
    with named(Path(folder)):
        state = os.stat(folder)  # noqa: PTH116
        with os.scandir(folder) as found:
            entries = [(entry, entry.is_dir()) for entry in found if not is_hidden(entry.name)]
    this = (state.st_dev, state.st_ino)
    if this in around:
        raise UserError(f"{shown(folder)}: a link back to a folder around it")
    for entry, is_folder in entries:
        image = is_image(entry.name)
        if is_folder and entry.name.lower() not in ignored:
            for path in _below(entry.path, ignored, (*around, this)):
                image = False
                yield path
        if image:
            yield entry.path
        elif entry.is_symlink() and not is_folder:
            with named(Path(entry.path)):
                os.stat(entry.path)  # noqa: PTH116
