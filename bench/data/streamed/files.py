"""Where the bytes of images are: files in folders, or members of uncompressed tars that are read in place.

An index holds names, not sizes: on the file systems of clusters a name costs a share of readdir, a size a request.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from bench.data.dataset import Array
from bench.errors import UserError
from bench.store.files import regular_bytes

BLOCK = 512
# A file server that is away for a moment answers with these.
PASSING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
TRIES = 3


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files in order; a slice or an array of indices gives some of them. Nothing is decoded.

    holders   folders, or tars, that hold the files
    holder    int32 [N], which of them holds a file
    names     bytes [N], of the file, or of the member
    offsets   int64 [N], of the bytes in a tar, -1 for a file of its own
    sizes     int64 [N], of the bytes in a tar
    """

    holders: tuple[str, ...]
    holder: Array
    names: Array
    offsets: Array
    sizes: Array
    _opened: dict[int, int] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, which: slice | Array) -> "ImageFiles":
        return ImageFiles(self.holders, *(array[which] for array in self._arrays()))

    def __getstate__(self) -> dict[str, Any]:
        # The descriptors of this process mean nothing in another.
        return {**self.__dict__, "_opened": {}}

    def as_array(self) -> Array:
        """Return self, typed as the array of images that it stands for."""
        return cast(Array, self)

    def path(self, index: int) -> str:
        """Return what a message calls an image."""
        return f"{self.holders[self.holder[index]]}/{os.fsdecode(self.names[index])}"

    def read(self, index: int) -> bytes:
        """Return the bytes of an image; ValueError, with the reason, if the file system does not give them."""
        for remaining in reversed(range(TRIES)):
            try:
                return self._read(index)
            except OSError as error:
                if error.errno not in PASSING or not remaining:
                    raise ValueError(f"cannot be read ({error.strerror})") from None
        raise AssertionError

    def _read(self, index: int) -> bytes:
        if self.offsets[index] >= 0:
            data = os.pread(self._tar(int(self.holder[index])), int(self.sizes[index]), int(self.offsets[index]))
            if len(data) < self.sizes[index]:
                raise ValueError("cannot be read (the tar ends within it)")
            return data
        return regular_bytes(self.path(index))

    def _tar(self, holder: int) -> int:
        if holder not in self._opened:
            self._opened[holder] = os.open(self.holders[holder], os.O_RDONLY)
        return self._opened[holder]

    def _arrays(self) -> tuple[Array, ...]:
        return self.holder, self.names, self.offsets, self.sizes

    def save(self) -> dict[str, Array]:
        """Return all as arrays, for an npz file; `ImageFiles.load` takes them."""
        names = ("holder", "names", "offsets", "sizes")
        holders = np.array([os.fsencode(holder) for holder in self.holders], dtype=np.bytes_)
        return {"holders": holders, **dict(zip(names, self._arrays(), strict=True))}

    @classmethod
    def load(cls, arrays: Mapping[str, Array]) -> "ImageFiles":
        """Return the files of what `save` returned."""
        holders = tuple(os.fsdecode(holder) for holder in arrays["holders"])
        return cls(holders, *(arrays[name] for name in ("holder", "names", "offsets", "sizes")))


def joined(first: ImageFiles, second: ImageFiles) -> ImageFiles:
    """Return the files of both, one after the other."""
    shifted = second.holder + np.int32(len(first.holders))
    arrays = zip(first._arrays(), (shifted, *second._arrays()[1:]), strict=True)
    return ImageFiles((*first.holders, *second.holders), *(np.concatenate(pair) for pair in arrays))


# Name, offset and size of a file: -1 and -1 where it is a file of its own.
Entry = tuple[str, int, int]


def image_files(listings: Iterable[tuple[Path, Sequence[Entry]]]) -> ImageFiles:
    """Return the files of all listings, a folder or a tar with what it holds, one after the other."""
    number: dict[str, int] = {}
    held: list[int] = []
    entries: list[Entry] = []
    for holder, files in listings:
        held += [number.setdefault(str(holder), len(number))] * len(files)
        entries += files
    return ImageFiles(
        holders=tuple(number),
        holder=np.array(held, np.int32),
        names=np.array([os.fsencode(name) for name, _, _ in entries], np.bytes_),
        offsets=np.array([offset for _, offset, _ in entries], np.int64),
        sizes=np.array([size for _, _, size in entries], np.int64),
    )


@dataclass(frozen=True)
class Member:
    """A file in a tar, or in a tar in it: its path from there, and where its bytes are in the outer one."""

    name: str
    offset: int
    size: int


def tar_members(path: Path) -> Iterator[Member]:
    """Yield the files of an uncompressed tar, those of tars in it as <tar's name without .tar>/<name>.

    Only headers are read. UserError for what is no such tar, or ends too early.
    """
    with path.open("rb", buffering=0) as stream:
        end = os.fstat(stream.fileno()).st_size
        yield from _members(path, stream.fileno(), 0, end)


def _members(path: Path, descriptor: int, start: int, end: int) -> Iterator[Member]:
    at, long_name = start, ""
    while at + BLOCK <= end:
        header = os.pread(descriptor, BLOCK, at)
        if not header.strip(b"\0"):
            return
        if len(header) < BLOCK or (header[257:262] != b"ustar" and not _is_old_header(header)):
            raise UserError(f"{path}: no tar header at byte {at:,}; it is compressed, truncated or no tar")
        kind, size = header[156:157], _number(header[124:136])
        data = at + BLOCK
        if data + size > end:
            raise UserError(f"{path}: truncated: a member at byte {at:,} has {size:,} bytes, the file {end:,} in all")
        if kind == b"L":  # the name of the next member, too long for its header (GNU)
            long_name = _text(os.pread(descriptor, size, data))
        elif kind == b"x":  # attributes of the next member, a long name among them (POSIX)
            long_name = _pax_path(os.pread(descriptor, size, data)) or long_name
        elif kind in (b"0", b"\0"):
            prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
            name = long_name or "/".join(filter(None, (prefix, _text(header[:100]))))
            if name.endswith(".tar"):
                inner = name.removesuffix(".tar")
                for member in _members(path, descriptor, data, data + size):
                    yield Member(f"{inner}/{member.name}", member.offset, member.size)
            else:
                yield Member(name.removeprefix("./"), data, size)
            long_name = ""
        at = data + -(-size // BLOCK) * BLOCK


def _is_old_header(header: bytes) -> bool:
    """Whether the checksum of a header without magic number is right (V7 tars)."""
    try:
        return _number(header[148:156]) == sum(header[:148]) + 8 * 32 + sum(header[156:])
    except ValueError:
        return False


def _number(digits: bytes) -> int:
    if digits[0] & 0x80:  # base 256, of members over 8 GiB
        return int.from_bytes(bytes([digits[0] & 0x7F]) + digits[1:], "big")
    return int(digits.strip(b"\0 ") or b"0", 8)


def _text(padded: bytes) -> str:
    return os.fsdecode(padded.split(b"\0", 1)[0])


def _pax_path(records: bytes) -> str:
    """Return the value of `path` in records "<length> <key>=<value>\\n"."""
    while records:
        length = int(records.split(b" ", 1)[0])
        key, _, value = records[:length].split(b" ", 1)[1].partition(b"=")
        if key == b"path":
            return os.fsdecode(value.rstrip(b"\n"))
        records = records[length:]
    return ""
