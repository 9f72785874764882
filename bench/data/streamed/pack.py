"""A pack: the images of a part in one uncompressed tar, <class>/<name>, and last in it the CRC-32 of each.

Any program reads it. Its bytes are those of the files, or smaller images encoded anew, which the pack says of itself.
"""

import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from bench.errors import UserError
from bench.store.files import atomic_path

CHECKSUMS = "checksums.npz"
# As many images are encoded at once.
BATCH = 256


@dataclass(frozen=True)
class Encoding:
    """Smaller JPEGs: the short side in pixels, of those that have a longer one, and the quality, 1 to 100."""

    short_side: int
    quality: int

    def __str__(self) -> str:
        return f"short{self.short_side}-q{self.quality}"


@dataclass(frozen=True)
class Packable:
    """An image on its way into a pack: its class and name there, what gives its bytes, and what messages call it."""

    place: str
    read: Callable[[], bytes]
    where: str


def write_pack(path: Path, images: Iterable[Packable], encoding: Encoding | None, before: str = "") -> int:
    """Write a pack, whole or not at all, and return how many images are in it.

    Its bytes are a function of the images. UserError that names an image which cannot be read or decoded.

    before   how the pack that the images come from has encoded them, which the new one says too
    """
    sums: list[int] = []
    rest = iter(images)
    with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.GNU_FORMAT) as tar:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            while some := list(islice(rest, BATCH)):
                for image, data in zip(some, pool.map(lambda image: _bytes(image, encoding), some), strict=True):
                    _add(tar, image.place, data)
                    sums.append(zlib.crc32(data))
        stream = io.BytesIO()
        said = "-".join(filter(None, (before, str(encoding or ""))))
        np.savez(stream, allow_pickle=False, crc32=np.array(sums, np.uint32), encoding=np.array(said))
        _add(tar, CHECKSUMS, stream.getvalue())
    return len(sums)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _bytes(image: Packable, encoding: Encoding | None) -> bytes:
    try:
        data = image.read()
        return data if encoding is None else _encoded(data, encoding)
    except ValueError as error:
        raise UserError(f"{image.where}: {error}") from None


def _encoded(data: bytes, encoding: Encoding) -> bytes:
    import simplejpeg

    from bench.data.streamed.decode import decode, resized  # loads torch, which plans do without
    from bench.data.streamed.windows import Window

    pixels = decode(data)
    height, width, _ = pixels.shape
    short = min(height, width)
    if short > encoding.short_side:
        size = (round(height * encoding.short_side / short), round(width * encoding.short_side / short))
        pixels = resized(pixels, Window(0, 0, height, width), size).numpy()
    written: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), encoding.quality, "RGB", "420")
    return written


def read_checksums(tar: Path, offset: int, size: int, images: int) -> tuple[list[int], str]:
    """Return the CRC-32 of each image of a pack, in its order, and its encoding; UserError if they are damaged."""
    with tar.open("rb") as stream:
        stream.seek(offset)
        try:
            with np.load(io.BytesIO(stream.read(size)), allow_pickle=False) as arrays:
                sums, encoding = arrays["crc32"], str(arrays["encoding"])
        except (OSError, ValueError, KeyError, BadZipFile, EOFError) as error:
            raise UserError(f"{tar / CHECKSUMS}: cannot be read ({error}); pack the images again") from None
    if sums.dtype != np.uint32 or sums.shape != (images,):
        raise UserError(f"{tar / CHECKSUMS}: not a checksum of each of the {images:,} images; pack them again")
    return sums.tolist(), encoding
