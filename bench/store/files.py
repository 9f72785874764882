"""Files that are whole or absent: written under a temporary name in the same folder, flushed, then renamed."""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from bench.errors import UserError

TEMPORARY = ".tmp-"
# A file server that is away for a moment answers with these.
PASSING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
TRIES = 3
FULL = 2**20  # bytes that do not fit on what counts as a full disk
MOST_DEPTH = 64  # of a stored YAML document
# Safe, and where PyYAML was built with libyaml ten times faster.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it, otherwise remove it.

    UserError if a folder is in the file's place.
    """
    if path.is_dir() and not path.is_symlink():
        raise UserError(f"{path}: a folder, where a file is to be written; remove it, then run the same command")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except Exception as error:
        # torch and safetensors report a full disk, or quota, as errors of their own.
        if not isinstance(error, OSError):
            _require_room(temporary, error)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _require_room(unfinished: Path, error: Exception) -> None:
    """Raise OSError from an error if what could not be written has no room to grow, by the disk or the user's quota."""
    try:
        with unfinished.open("ab") as stream:
            stream.write(bytes(FULL))
            os.fsync(stream.fileno())
    except OSError as refused:
        if refused.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(refused.errno, os.strerror(refused.errno), str(unfinished)) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def device_file(folder: Path, device_name: str) -> Path:
    """Return the file in a folder that holds what was measured on a device."""
    return folder / (re.sub(r"[^a-z0-9]+", "-", device_name.lower()).strip("-")[:100] + ".json")


def write_json(path: Path, value: object) -> None:
    """Write a JSON document atomically, indented for people."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def regular_bytes(path: str | Path) -> bytes:
    """Return what is in a regular file; OSError for whatever else lies there, without waiting for a pipe.

    A stale handle is opened anew: another machine has replaced the file.
    """
    for _ in range(TRIES - 1):
        try:
            return _bytes(path)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    return _bytes(path)


def _bytes(path: str | Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "a folder, pipe or device, no file")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            return stream.read()
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int | None:
    """Return the bytes of a regular file, None if there is none; asks a file server once."""
    try:
        status = path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def read_json(path: Path) -> Any:
    """Return a JSON document; UserError that names the file if it is none, or cannot be read."""
    try:
        return json.loads(regular_bytes(path).decode())
    except (ValueError, RecursionError) as error:  # ValueError: neither UTF-8 nor JSON, or a number of 5,000 digits
        raise UserError(f"{path}: not a complete JSON document ({error}); the file was truncated or altered") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def parsed_yaml(text: str) -> Any:
    """Return what a stored YAML document means; ValueError for none, and for what a program never writes there.

    That is aliases, which may stand for more than memory holds, and a depth at which libyaml ends the process.
    """
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_DEPTH or isinstance(event, yaml.AliasEvent):
                raise ValueError("aliases, or nested too deep")
        return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def discard(path: Path) -> None:
    """Remove a file, or the folder that somebody left in its place, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove_temporaries(folder: Path) -> None:
    """Remove what killed writers left in `folder` and below; call only while holding the folder's lock."""
    for leftover in folder.rglob(f"{TEMPORARY}*"):
        leftover.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make a rename in `folder` durable, where the system lets a folder be flushed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
