"""What `python -m bench data` shows of sets that nothing is trained on: released corruptions, SVHN and MNIST."""

from dataclasses import replace
from pathlib import Path

from bench.data import outside
from bench.data.imagenet_c import find_imagenet_c, open_imagenet_c
from bench.data.progress import tracked
from bench.data.released import RELEASES, find_released, open_released
from bench.data.rows import Row, State
from bench.errors import UserError

# The data set whose test images a released set shows, by the set's name.
CORRUPTED = {release.name: name for name, release in RELEASES.items()}
IMAGENET_C = "imagenet-c"
EVALUATION_SETS = (*CORRUPTED, *outside.FILES, IMAGENET_C)
# As many JPEG files are decoded at once.
BATCH = 100


def listed(name: str, root: Path) -> Row:
    """Return what the names and sizes of files in a data folder say of a set."""
    if name in CORRUPTED:
        return _listed_corrupted(name, root)
    if name == IMAGENET_C:
        return _listed_imagenet_c(root)
    file = outside.FILES[name]
    if (root / file.path).is_file():
        return Row(name, "official", "ready", root / file.path, file.images, "")
    return Row(name, "official", "absent", root, None, f"{_prepare(name)}. {file.by_hand(root)}")


def verified(name: str, root: Path) -> Row:
    """Return the row of a set after checking every byte: MD5s, or of ImageNet-C, which has none, every image."""
    row = listed(name, root)
    if row.state == "absent":
        return row
    if name in CORRUPTED:
        return _verified_corrupted(name, root, row)
    try:
        if name == IMAGENET_C:
            _decode_imagenet_c(root)
        else:
            outside.read_file(name, root)
    except UserError as error:
        return replace(row, state="damaged", images=None, note=str(error))
    return replace(row, state="intact")


def prepared(name: str, root: Path, *, progress: bool) -> Row:
    """Download a set unless it is there; UserError if that fails, and for ImageNet-C, which has to be put there."""
    if name in CORRUPTED:
        open_released(CORRUPTED[name], root, download=True, progress=progress)
    elif name != IMAGENET_C:
        outside.download_file(name, root, progress=progress)
    row = listed(name, root)
    if row.state != "ready":
        raise UserError(f"{name}: {row.note}")
    return row


def _prepare(name: str) -> str:
    return f"`python -m bench data prepare {name}` downloads it"


def _listed_corrupted(name: str, root: Path) -> Row:
    release = RELEASES[CORRUPTED[name]]
    try:
        found = find_released(CORRUPTED[name], root)
    except UserError as error:
        return Row(name, "official", "damaged", root / release.archive, None, str(error))
    if found is None:
        note = f"{_prepare(name)} (2.9 GB). {release.by_hand(root)}"
        return Row(name, "official", "absent", root, None, note)
    missing = found.missing()
    note = f"missing or cut short: {', '.join(missing)}; the other files can be used" if missing else ""
    return Row(name, "official", "damaged" if missing else "ready", found.where, found.images(), note)


def _verified_corrupted(name: str, root: Path, row: Row) -> Row:
    found = find_released(CORRUPTED[name], root) if row.images is not None else None
    if found is None:
        return row
    files = tracked(found.files, f"checking {found.where.name}", progress=True)
    problems = [problem for file in files if (problem := found.problem(file))]
    if problems:
        return replace(row, state="damaged", note="; ".join(problems))
    return replace(row, state="intact")


def _listed_imagenet_c(root: Path) -> Row:
    """Return the row of ImageNet-C: the images of its first folder, times the number of folders."""
    try:
        found = open_imagenet_c(root)
        folders = sum(len(found.severities(type)) for type in found.types)
        note = f"{folders} folders of {found.count:,} images, of {len(found.types)} types"
        return Row(found.name, "image folders", "ready", found.where, folders * found.count, note)
    except UserError as error:
        state: State = "damaged" if find_imagenet_c(root) else "absent"
        return Row(IMAGENET_C, "image folders", state, root, None, str(error))


def _decode_imagenet_c(root: Path) -> None:
    found = open_imagenet_c(root)
    folders = [(type, severity) for type in found.types for severity in found.severities(type)]
    for type, severity in folders:
        images = found.read(type, severity).images
        starts = range(0, len(images), BATCH)
        for start in tracked(starts, f"decoding {type}/{severity}", progress=True):
            images[start : start + BATCH]
