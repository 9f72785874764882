"""An archive of a store: a tar of fixed bytes, manifest.json first, then files as they lie in the store.

An archive comes from strangers. Nothing is taken from it but files that a store may hold, each as its manifest lists
it, and they enter a store together or not at all.
"""

import filecmp
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from gzip import BadGzipFile, GzipFile
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from bench.errors import UserError
from bench.spec.record import Record
from bench.store.files import TEMPORARY, atomic_path, discard, regular_bytes
from bench.store.logits import StoredLogits
from bench.store.records import GitState, StoredFile, parsed
from bench.store.run_folder import RunFolder
from bench.store.store import Store

KIND = "archive of `python -m bench export`"
MANIFEST = "manifest.json"
MOST_MANIFEST = 2**28  # bytes: a million files
GZIP = b"\x1f\x8b"  # how compressed files begin
_PART = r"[^/\\.\x00-\x1f][^/\\\x00-\x1f]*"
_TENSORS = rf"(?:{_PART}/)*{_PART}\.safetensors"
_JSON = r"(?:result|evaluations|provenance|not_exported)\.json"
# No checkpoint, which torch reads, and no lock.
_ALLOWED = re.compile(
    rf"data\.json|latency/[a-z0-9-]+\.json|samples/{_TENSORS}|ensembles/[0-9a-f]{{16}}/(?:(?:ensemble|evaluations)\.json|logits/{_TENSORS})"
    rf"|runs/[0-9a-f]{{16}}/(?:{_JSON}|spec\.yaml|history\.jsonl|(?:tickets|kept)/[0-9]+\.safetensors|logits/{_TENSORS})"
)


class Suite(Record):
    """The code that wrote an archive; its commit is None outside a checkout."""

    version: str
    git: GitState | None


class GridText(Record):
    """The grid and the scale of an archive's runs, and the text of the grid's files by name: its own, its claims."""

    name: str
    scale: str
    files: dict[str, str]


class LeftOut(Record):
    """What the grid asks for and an archive does not hold, and why."""

    what: str
    why: str


class Manifest(Record):
    """manifest.json of an archive.

    licence   an SPDX expression, or "not stated"
    rebuild   the commands that make the report from the archive
    files     every other file of the archive
    """

    schema_version: Literal[1] = 1
    suite: Suite
    licence: str
    grid: GridText
    runs: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    rebuild: tuple[str, ...]
    files: dict[str, StoredFile]


def stored_file(content: bytes) -> StoredFile:
    """Return size and SHA-256 of a file's content."""
    return StoredFile(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def write_archive(out: Path, manifest: Manifest, contents: Mapping[str, Path | bytes]) -> None:
    """Write an archive of these contents by name, its bytes a function of them; UserError if a file changed since.

    It is compressed where its name ends in .gz.
    """
    with (
        atomic_path(out) as temporary,
        temporary.open("wb") as raw,
        # without a name and a time, so that the same contents are the same bytes
        GzipFile("", "wb", 6, raw, 0) if out.suffix == ".gz" else nullcontext(raw) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        _add(tar, MANIFEST, (json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n").encode())
        for name in sorted(contents):
            source = contents[name]
            content = source if isinstance(source, bytes) else regular_bytes(source)
            if stored_file(content) != manifest.files[name]:
                raise UserError(f"{source!s}: changed while it was exported; run the same command again")
            _add(tar, name, content)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # of no time and no owner
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def import_archive(archive: Path, store: Store) -> Manifest:
    """Take everything in an archive into a store, new or of the same images; UserError, and nothing taken, otherwise.

    Runs that the store has with the same content stay as they are.
    """
    if not archive.is_file():
        raise UserError(f"{archive}: no such file; allowed: an {KIND}")
    staged = store.root / f"{TEMPORARY}import-{os.getpid()}"
    created = not store.root.exists()
    try:
        staged.mkdir(parents=True)
        manifest = _unpack(archive, staged)
        _check_whole(archive, staged)
        _merge(archive, staged, store)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if created:
            with suppress(OSError):  # it holds what was imported
                store.root.rmdir()
    return manifest


def _unpack(archive: Path, staged: Path) -> Manifest:
    """Write the files of an archive below a folder, each as the manifest lists it."""
    try:
        with _opened(archive) as tar:
            first = tar.next()
            if first is None or first.name != MANIFEST:
                raise UserError(f"{archive}: not an {KIND}: {MANIFEST} is not its first file")
            manifest = _manifest(archive, _content(archive, tar, first, MOST_MANIFEST))
            left = dict(manifest.files)
            while (member := tar.next()) is not None:
                recorded = left.pop(member.name, None)
                if recorded is None:
                    raise UserError(f"{archive}: {member.name!r} is there twice, or not in its manifest")
                content = _content(archive, tar, member, recorded.bytes)
                if stored_file(content) != recorded:
                    raise UserError(f"{archive}: {member.name!r} is not as its manifest says; it was cut or altered")
                file = staged / member.name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
    except (tarfile.TarError, ValueError, EOFError, zlib.error, BadGzipFile) as error:
        raise UserError(f"{archive}: not an {KIND}, or damaged ({error})") from None
    if left:
        raise UserError(
            f"{archive}: cut short: {len(left):,} of its files are not there, {next(iter(left))!r} the first"
        )
    return manifest


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    with archive.open("rb") as raw:
        compressed = raw.read(len(GZIP)) == GZIP
        raw.seek(0)
        with (
            GzipFile(fileobj=raw) if compressed else nullcontext(raw) as stream,
            tarfile.open(fileobj=stream, mode="r:") as tar,
        ):
            yield tar


def _content(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    stream = tar.extractfile(member) if member.isreg() and not member.issparse() else None
    if stream is None:
        raise UserError(f"{archive}: {member.name!r} is a link, folder or device, no plain file")
    if member.size > most:  # which may be more than memory holds
        raise UserError(f"{archive}: {member.name!r} has {member.size:,} bytes; allowed: {most:,}; it was altered")
    return stream.read()


def _manifest(archive: Path, content: bytes) -> Manifest:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise UserError(f"{archive}: {MANIFEST} is no JSON document") from None
    manifest = parsed(TypeAdapter(Manifest), document, archive, "an archive with a manifest")
    for name in manifest.files:
        if not _ALLOWED.fullmatch(name):
            raise UserError(f"{archive}: {name!r} is no file of a store, so nothing of the archive was imported")
    return manifest


def _check_whole(archive: Path, staged: Path) -> None:
    """Refuse runs and ensembles whose own records say that something of theirs is damaged, or not there."""
    for path in sorted(staged.glob("runs/*")):
        folder = RunFolder(path)
        try:
            logits = StoredLogits.of_run(folder)
            whole = not folder.damaged_files(deep=True) and not logits.missing(logits.records(), deep=True)
        except UserError:
            whole = False
        if not whole:
            raise UserError(f"{archive}: its run {path.name} is not whole by its own records")


def _merge(archive: Path, staged: Path, store: Store) -> None:
    """Move runs, ensembles, samples and measurements into a store, all of them or none.

    Measurements that a store has of the same device stay as they are: of two, neither is wrong.
    """
    records = Store(staged).written_data_records()
    for name, record in records.items():
        store.check_data(name, record)
    units = [*staged.glob("runs/*"), *staged.glob("ensembles/*"), *staged.glob("samples/**/*.safetensors")]
    moves = []
    for unit in sorted(units):
        target = store.root / unit.relative_to(staged)
        if not os.path.lexists(target):
            moves.append((unit, target))
        elif (different := _difference(unit, target)) is not None:
            raise UserError(f"{different}: not as in {archive}; import it into another --store")
    for measured in sorted(staged.glob("latency/*.json")):
        target = store.root / measured.relative_to(staged)
        if not os.path.lexists(target):
            moves.append((measured, target))
    os.sync()
    moved: list[Path] = []
    known = store.data_records()
    try:
        for unit, target in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
            unit.rename(target)
            moved.append(target)
        for name in records.keys() - known.keys():
            store.record_data(name, records[name])
    except BaseException:
        for target in moved:
            discard(target)
        raise


def _difference(unit: Path, target: Path) -> Path | None:
    """Return a file that a store lacks, or has with other content than the archive, None if there is none."""
    files = [file for file in sorted(unit.rglob("*")) if file.is_file()] if unit.is_dir() else [unit]
    for file in files:
        other = target / file.relative_to(unit)
        if not other.is_file() or not filecmp.cmp(file, other, shallow=False):
            return other
    return None
