"""Files from their public home: whole and of the right MD5 under their name, or absent, and every failure says why."""

import errno
import hashlib
import io
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from functools import cache
from http.client import HTTPException
from pathlib import Path

from bench.data.files import regular
from bench.data.progress import on_terminal
from bench.errors import UserError
from bench.store.files import TEMPORARY

log = logging.getLogger(__name__)

BLOCK = 2**20


def fetch(name: str, url: str, path: Path, md5: str, *, megabytes: int, by_hand: str, progress: bool) -> None:
    """Download a file, checked against its MD5 before it appears under its name.

    megabytes  what the disk must hold, for the message about a full one
    by_hand    sentences that say how else to get the file; every message ends with them

    UserError for no network, no space, no permission, and another MD5.
    """
    from torchvision.datasets.utils import download_url

    if path.is_symlink():
        regular(path)  # the user's link to nowhere is named, and not replaced
    log.info("downloading %s to %s", url, path)
    quiet = nullcontext() if on_terminal(progress) else redirect_stderr(io.StringIO())
    doing = f"downloading {url} to {path}"
    with explained(name, path.parent, doing, megabytes, by_hand), temporary_folder(path.parent) as temporary, quiet:
        download_url(url, temporary, path.name, md5)
        (temporary / path.name).replace(path)


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder inside `folder`, which is made if it does not exist; it goes with what is left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=folder) as temporary:
        yield Path(temporary)


@contextmanager
def explained(name: str, folder: Path, doing: str, megabytes: int, by_hand: str) -> Iterator[None]:
    """Turn a failed download or extraction into one message: no network, no space, no permission."""
    try:
        yield
    # A failing checksum is a RuntimeError of torchvision, a connection cut short an HTTPException.
    except (OSError, RuntimeError, HTTPException) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{name}: no space left on the disk while {doing}; free about {megabytes} MB in {folder.resolve()}, or "
                f"name another data folder in FREETICKETS_DATA. {by_hand}"
            ) from None
        raise UserError(f"{name}: {doing} failed ({error}). {by_hand}") from None


def md5_of(path: Path, offset: int = 0, size: int | None = None) -> str:
    """Return the MD5, 32 hex digits, of `size` bytes of a file from `offset` on (None: to its end).

    Remembered by path, size and time of the last change: the many runs of one process hash 3 GB once. OSError if the
    file cannot be read.
    """
    state = path.stat()
    return _md5(path, offset, state.st_size - offset if size is None else size, state.st_size, state.st_mtime_ns)


@cache
def _md5(path: Path, offset: int, size: int, *_: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        stream.seek(offset)
        while size > 0 and (block := stream.read(min(BLOCK, size))):
            digest.update(block)
            size -= len(block)
    return digest.hexdigest()
