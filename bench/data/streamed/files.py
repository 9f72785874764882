"""Where the bytes of images are: files in folders, or members of uncompressed tars that are read in place.

An index holds names, not sizes: on the file systems of clusters a name costs a share of readdir, a size a request.
"""

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from bench.data.dataset import Array
from bench.store.files import PASSING, TRIES, regular_bytes

# A process may open 1,024 files on most systems, and a set may be more tars than that. Opening one again costs 1% of
# decoding an image.
MOST_OPEN = 200
ARRAYS = ("holder", "names", "offsets", "sizes", "checks")

# Name, folder or tar that holds it, offset, size and CRC-32 of a file: -1 where it is a file of its own, or not known.
Entry = tuple[str, str, int, int, int]


@dataclass(frozen=True)
class OpenTar:
    """A descriptor that is closed with the last reference: a thread may read from what another has given up."""

    descriptor: int

    def __del__(self) -> None:
        os.close(self.descriptor)


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files in order; a slice or an array of indices gives some of them. Nothing is decoded.

    holders   folders, or tars, that hold the files
    holder    int32 [N], which of them holds a file
    names     bytes [N], of the file, or of the member
    offsets   int64 [N], of the bytes in a tar, -1 for a file of its own
    sizes     int64 [N], of the bytes in a tar
    checks    int64 [N], CRC-32 of the bytes, -1 where none is known
    """

    holders: tuple[str, ...]
    holder: Array
    names: Array
    offsets: Array
    sizes: Array
    checks: Array
    _opened: dict[int, OpenTar] = field(default_factory=dict, init=False, repr=False)

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
        if self.offsets[index] < 0:
            return regular_bytes(self.path(index))
        tar = self._tar(int(self.holder[index]))
        data = os.pread(tar.descriptor, int(self.sizes[index]), int(self.offsets[index]))
        if len(data) < self.sizes[index]:
            raise ValueError("cannot be read (the tar ends within it)")
        if self.checks[index] >= 0 and zlib.crc32(data) != self.checks[index]:
            raise ValueError("altered since it was packed (another CRC-32)")
        return data

    def _tar(self, holder: int) -> OpenTar:
        tar = self._opened.get(holder)
        if tar is None:
            if len(self._opened) >= MOST_OPEN:
                self._opened.clear()
            tar = self._opened[holder] = OpenTar(os.open(self.holders[holder], os.O_RDONLY))
        return tar

    def _arrays(self) -> tuple[Array, ...]:
        return tuple(getattr(self, name) for name in ARRAYS)

    def save(self) -> dict[str, Array]:
        """Return all as arrays, for an npz file; `ImageFiles.load` takes them."""
        holders = np.array([os.fsencode(holder) for holder in self.holders], dtype=np.bytes_)
        return {"holders": holders, **dict(zip(ARRAYS, self._arrays(), strict=True))}

    @classmethod
    def load(cls, arrays: Mapping[str, Array]) -> "ImageFiles":
        """Return the files of what `save` returned."""
        holders = tuple(os.fsdecode(holder) for holder in arrays["holders"])
        return cls(holders, *(arrays[name] for name in ARRAYS))


def joined(first: ImageFiles, second: ImageFiles) -> ImageFiles:
    """Return the files of both, one after the other."""
    shifted = second.holder + np.int32(len(first.holders))
    arrays = zip(first._arrays(), (shifted, *second._arrays()[1:]), strict=True)
    return ImageFiles((*first.holders, *second.holders), *(np.concatenate(pair) for pair in arrays))


def image_files(entries: Sequence[Entry]) -> ImageFiles:
    """Return the files of a listing, in its order."""
    names, holders = [entry[0] for entry in entries], [entry[1] for entry in entries]
    offsets, sizes, checks = ([entry[column] for entry in entries] for column in (2, 3, 4))
    number = {holder: place for place, holder in enumerate(dict.fromkeys(holders))}
    return ImageFiles(
        holders=tuple(number),
        holder=np.array([number[holder] for holder in holders], np.int32),
        names=_as_array(names),
        offsets=np.array(offsets, np.int64),
        sizes=np.array(sizes, np.int64),
        checks=np.array(checks, np.int64),
    )


def own_files(folders: Sequence[tuple[str, Sequence[str]]]) -> ImageFiles:
    """Return the files of folders, each with the names in it, in this order; a million without an entry for each."""
    counts = [len(names) for _, names in folders]
    none = np.full(sum(counts), -1, np.int64)
    return ImageFiles(
        holders=tuple(folder for folder, _ in folders),
        holder=np.repeat(np.arange(len(folders), dtype=np.int32), counts),
        names=_as_array([name for _, names in folders for name in names]),
        offsets=none,
        sizes=none,
        checks=none,
    )


def _as_array(names: Sequence[str]) -> Array:
    # All at once: a million calls of fsencode take a second. No name has a zero byte.
    return np.array(os.fsencode("\0".join(names)).split(b"\0") if names else [], np.bytes_)
