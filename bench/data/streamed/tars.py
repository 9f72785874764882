"""What uncompressed tars hold, read in place: images by folder, with labels beside them (webdataset), or in a pack.

Only headers are read, and the labels and checksums that lie between images.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.data.files import IMAGE_SUFFIXES
from bench.data.streamed.files import Entry
from bench.data.streamed.pack import CHECKSUMS, read_checksums
from bench.errors import UserError

BLOCK = 512
_SUFFIXES = frozenset(IMAGE_SUFFIXES)
# A folder of a class that holds its images in a folder of their own: Tiny ImageNet.
NESTED = "images"
# Kinds of members that hold no bytes: hard and symbolic links.
LINKS = (b"1", b"2")
# What a folder around the images of a flat tar may be called.
PARTS = ("train", "val", "valid", "validation", "test")
# Files beside an image that hold its class, and the keys of those that hold more. Larger ones hold something else.
LABELS, KEYS, LARGEST_LABEL = (".cls", ".json"), ("cls", "label", "class_id"), 2**16
# What may be the folder of a class; -1 says that there is none.
NAME = re.compile(r"(?!\.|-[0-9]+$)[^/\x00-\x1f\x7f]+")
# Classes that are numbers have as many digits each, so that they sort as numbers do.
DIGITS = 5


@dataclass
class Held:
    """Images by the name of their class; those in no folder and without a label; how a pack has encoded them."""

    by_class: dict[str, list[Entry]] = field(default_factory=dict)
    flat: list[Entry] = field(default_factory=list)
    encoding: str = ""


@dataclass(frozen=True)
class Member:
    """A file in a tar, or in a tar in it: its path from there, and where its bytes are in the outer one."""

    name: str
    offset: int
    size: int


def images_in(tars: Sequence[Path], *, of_classes: bool) -> Held:
    """Return the images in tars. Class is what the label beside an image says, else its folder, else its tar.

    of_classes: whether a tar may be a class, as those in a folder may, and shards of a series may not.
    UserError for what is no uncompressed tar, and for an image without a label where others have one.
    """
    held = Held()
    for tar in tars:
        images, labels, encoding = _in_one(tar)
        packed = encoding is not None
        held.encoding = encoding or held.encoding
        for member, entry in images:
            if labels:
                name = _label_of(member, labels, tar)
            else:
                name = _folder_of(member, packed=packed) or (tar.stem if of_classes and tars[1:] else "")
            (held.by_class.setdefault(name, []) if name else held.flat).append(entry)
    return held


def _in_one(tar: Path) -> tuple[list[tuple[str, Entry]], dict[str, str], str | None]:
    """Return the images of a tar with their paths in it, labels by key, and the encoding of a pack, None of others."""
    found: list[Member] = []
    beside: dict[str, dict[str, Member]] = {}
    packed: Member | None = None
    for member in tar_members(tar):
        name = member.name.rpartition("/")[2]
        if is_image(name):
            found.append(member)
        elif name == CHECKSUMS:
            packed = member
        elif (suffix := os.path.splitext(name)[1]) in LABELS:  # noqa: PTH122
            beside.setdefault(_key(member.name), {})[suffix] = member
    keys = {_key(member.name) for member in found}
    beside = {key: files for key, files in beside.items() if key in keys}
    if beside:
        found = _samples(found, tar)
    checks, encoding = (
        read_checksums(tar, packed.offset, packed.size, len(found)) if packed else ([-1] * len(found), "")
    )
    with tar.open("rb", buffering=0) as stream:
        labels = {key: _label(stream.fileno(), files, tar) for key, files in beside.items()}
    where = str(tar)
    entries = [
        (member.name, (_name(member.name), where, member.offset, member.size, check))
        for member, check in zip(found, checks, strict=True)
    ]
    return entries, labels, encoding


def _key(path: str) -> str:
    """Return what the files of one sample share: their path up to the first dot of the name."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}"


def _samples(found: Sequence[Member], tar: Path) -> list[Member]:
    """Return the images <key>.<suffix>, without others of a sample, such as <key>.mask.png; UserError for two."""
    samples: dict[str, Member] = {}
    for member in found:
        if member.name.rpartition("/")[2].count(".") == 1 and samples.setdefault(_key(member.name), member) != member:
            raise UserError(f"{tar / member.name}: the second image of its sample; expected one beside a label")
    return list(samples.values())


def _label_of(path: str, labels: dict[str, str], tar: Path) -> str:
    label = labels.get(_key(path))
    if label is None:
        raise UserError(
            f"{tar / path}: no label beside it, where others have one; expected {_key(path).lstrip('/')}.cls"
        )
    return label


def _label(descriptor: int, files: dict[str, Member], tar: Path) -> str:
    """Return the class that the files beside an image say."""
    member = files.get(".cls") or files[".json"]
    text = os.pread(descriptor, min(member.size, LARGEST_LABEL), member.offset)
    label = _value(text) if member is files.get(".json") else text.decode("utf-8", errors="replace").strip()
    if isinstance(label, bool) or not isinstance(label, int | str) or not NAME.fullmatch(str(label)):
        keys = f" under {', '.join(KEYS)}" if member is files.get(".json") else ""
        raise UserError(f"{tar / member.name}: found {text[:40]!r}; expected a class, a number or a name{keys}")
    return f"{int(label):0{DIGITS}d}" if re.fullmatch("[0-9]{1,9}", str(label)) else str(label)


def _value(text: bytes) -> Any:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    values = [document[key] for key in KEYS if key in document] if isinstance(document, dict) else []
    return values[0] if values else None


def _folder_of(path: str, *, packed: bool) -> str:
    """Return the class that the folder of an image says, which in a pack may be called as a part; "" if none does."""
    folders = path.split("/")[:-1]
    if folders[-1:] == [NESTED] and not (packed and len(folders) == 1):
        folders.pop()
    return "" if not folders or (folders[-1] in (".", *PARTS) and not packed) else folders[-1]


def _name(path: str) -> str:
    """Return the name of a file below the folder of its class: of Tiny ImageNet, images/<name>, as in folders."""
    around, _, name = path.rpartition("/")
    return f"{NESTED}/{name}" if around.rpartition("/")[2] == NESTED and "/" in around else name


def is_image(name: str) -> bool:
    """Return whether a file of this name is taken for an image."""
    return bool(images_among([name]))


def images_among(names: Iterable[str]) -> list[str]:
    """Return the names that are taken for images: hidden files are not."""
    # Of a million, a call for each would take as long as listing them.
    return [name for name in names if name[name.rfind(".") :].lower() in _SUFFIXES and name[0] != "."]


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
        kind, size = header[156:157], _size(header, path, at)
        data = at + BLOCK
        if data + size > end:
            raise UserError(f"{path}: truncated: a member at byte {at:,} has {size:,} bytes, the file {end:,} in all")
        if kind == b"L":  # the name of the next member, too long for its header (GNU)
            long_name = _text(os.pread(descriptor, size, data))
        elif kind == b"x":  # attributes of the next member, a long name among them (POSIX)
            long_name = _pax_path(os.pread(descriptor, size, data), path, at) or long_name
        elif kind in (b"0", b"\0"):
            name = long_name or _short_name(header)
            if name.endswith(".tar"):
                inner = name.removesuffix(".tar")
                for member in _members(path, descriptor, data, data + size):
                    yield Member(f"{inner}/{member.name}", member.offset, member.size)
            else:
                yield Member(name.removeprefix("./"), data, size)
            long_name = ""
        elif kind in LINKS:
            _check_link(path, long_name or _short_name(header))
            long_name = ""
        at = data + -(-size // BLOCK) * BLOCK


def _short_name(header: bytes) -> str:
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return "/".join(filter(None, (prefix, _text(header[:100]))))


def _check_link(path: Path, name: str) -> None:
    """UserError for a link that stands for an image, or for a folder of them: the tar does not hold their bytes."""
    last = name.rstrip("/").rpartition("/")[2]
    if is_image(last) or "." not in last:
        raise UserError(
            f"{path}: {name} is a link, whose images are not in the tar; make it with tar --dereference "
            "--hard-dereference"
        )


def _size(header: bytes, path: Path, at: int) -> int:
    try:
        return _number(header[124:136])
    except ValueError:
        raise UserError(f"{path}: damaged: the member at byte {at:,} has no size") from None


def _is_old_header(header: bytes) -> bool:
    """Whether the checksum of a header without magic number is right (V7 tars)."""
    try:
        return _number(header[148:156]) == sum(header[:148]) + 8 * 32 + sum(header[156:])
    except ValueError:
        return False


def _number(digits: bytes) -> int:
    if digits[0] & 0x80:  # base 256, of members over 8 GiB
        return int.from_bytes(bytes([digits[0] & 0x7F]) + digits[1:], "big")
    octal = digits.strip(b"\0 ") or b"0"
    if not octal.isdigit():  # int takes signs and underscores
        raise ValueError("no octal number")
    return int(octal, 8)


def _text(padded: bytes) -> str:
    return os.fsdecode(padded.split(b"\0", 1)[0])


def _pax_path(records: bytes, path: Path, at: int) -> str:
    """Return the value of `path` in records "<length> <key>=<value>\\n"; UserError if they are none."""
    try:
        while records:
            length = int(records.split(b" ", 1)[0])
            key, _, value = records[:length].split(b" ", 1)[1].partition(b"=")
            if key == b"path":
                return os.fsdecode(value.rstrip(b"\n"))
            records = records[length:]
    except (ValueError, IndexError):
        raise UserError(f"{path}: damaged: the attributes at byte {at:,} cannot be read") from None
    return ""
