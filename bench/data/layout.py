"""Where an image folder holds its images: train/<class>/*, test/<class>/*; what is elsewhere is named."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.data.files import IMAGE_SUFFIXES, folders_in, image_files, is_hidden, is_image, shown
from bench.errors import UserError

TRAIN, TEST = "train", "test"
# What else people call the parts of a data set.
OTHER_NAMES = {"training": TRAIN, "tests": TEST, "testing": TEST, "validation": "val", "valid": "val", "dev": "val"}


@dataclass(frozen=True)
class Layout:
    """The folders that hold the images: train/, and one or more to test on, in order of preference."""

    tests: tuple[str, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """All folders."""
        return TRAIN, *self.tests

    @property
    def expected(self) -> str:
        """What a message says of it."""
        first, *others = self.tests
        also = f" ({' or '.join(f'{part}/' for part in others)} serves as well)" if others else ""
        return f"train/<class>/<image> and {first}/<class>/<image>{also}, at most one folder around them"

    def mistake(self, names: Collection[str], files: Collection[str] = ()) -> str:
        """Return what folders of these names should be called, else what there is; files if there is no folder."""
        if wrong := self.wrong_names(names):
            return f"found {_folders(wrong)}: rename to {_folders(wrong.values())}"
        if names:
            return f"found {_folders(sorted(names))}"
        return f"found no folder, but {some(files, 3)}" if files else "found no folder"

    def wrong_names(self, names: Collection[str]) -> dict[str, str]:
        """Return the folders that are called otherwise than they should be, and what they should be called."""
        right = {name: self._right_name(name) for name in sorted(names)}
        return {name: part for part in self.parts for name in right if right[name] == part and part not in names}

    def _right_name(self, name: str) -> str | None:
        part = OTHER_NAMES.get(name.lower(), name.lower())
        part = part if part in self.parts or part != "val" else TEST
        return part if part in self.parts and name not in self.parts else None


# Of a substitute for official images, and of a data set of the user's own.
SUBSTITUTE = Layout((TEST,))
OWN = Layout((TEST, "val", "valid"))


def image_root(folder: Path, layout: Layout = SUBSTITUTE) -> Path | None:
    """Return the folder that holds train/ or test/: `folder`, or the only folder in it; None if neither does."""
    roots = (root for root, names in _roots(folder) if not names.isdisjoint(layout.parts))
    return next(roots, None)


def layout_mistake(folder: Path, layout: Layout = SUBSTITUTE) -> str:
    """Return what is wrong with a folder that image_root finds nothing in, such as "found Train/: rename to train/"."""
    found = [names for _, names in _roots(folder)]
    names = next(filter(layout.wrong_names, found), found[0])
    return layout.mistake(names, [path.name for path in folder.iterdir() if not is_hidden(path.name)])


def _roots(folder: Path) -> Iterator[tuple[Path, set[str]]]:
    """Yield `folder` and, if there is only one folder in it, that, each with the names of the folders in it."""
    inside = folders_in(folder)
    yield folder, {path.name for path in inside}
    if len(inside) == 1:
        yield inside[0], {path.name for path in folders_in(inside[0])}


def walk(root: Path, layout: Layout) -> Iterator[str]:
    """Yield the image files below train/ and the folders to test on, through links too."""
    for folder in folders_in(root):
        if folder.name in layout.parts:
            yield from (f"{folder.name}/{path}" for path in image_files(folder))


def required_root(location: Path, layout: Layout) -> Path:
    """Return the folder that holds train/ or test/; UserError that says what was found if none does."""
    root = image_root(location, layout)
    if root is None:
        mistake = layout_mistake(location, layout)
        hint = (
            "; tars are read with `storage: streamed` in the grid's data" if (location / "train.tar").exists() else ""
        )
        raise UserError(f"{location}: not an image folder; expected {layout.expected}; {mistake}{hint}")
    return root


def placed(
    location: Path, members: Collection[str], layout: Layout, beside: Collection[str] | None = None
) -> dict[str, str]:
    """Return {path from train/ or test/ on: member}, sorted, of the image files; hidden files and others are not.

    beside   folders that there are, to name the one that is called something else; by default, those of the members

    UserError for an image in another place, and for a part without images.
    """
    images = [member for member in members if is_image(member)]
    tops = {member.split("/")[0] for member in images}
    wrapped = len(tops) == 1 and not tops & set(layout.parts)
    found = {(member.partition("/")[2] if wrapped else member): member for member in images}
    names = {path.split("/")[0] for path in found or members if "/" in path} if beside is None else beside
    expected, mistake = f"expected {layout.expected}", layout.mistake(names, members)
    for path, member in found.items():
        if path.count("/") != 2 or path.split("/")[0] not in layout.parts:
            raise UserError(f"{location}: image at {shown(member)}; {expected}; {mistake}")
    parts = {path.split("/")[0] for path in found}
    if TRAIN not in parts or not parts & set(layout.tests):
        lacking = f" in {TEST if TRAIN in parts else TRAIN}/" if parts else ""
        raise UserError(f"{location}: no images{lacking}; {expected}, of {', '.join(IMAGE_SUFFIXES)}; {mistake}")
    return dict(sorted(found.items()))


def _folders(names: Iterable[str]) -> str:
    *most, last = [f"{shown(name)}/" for name in names]
    first = [*most[:5], "..."] if len(most) > 6 else most
    return f"{', '.join(first)} and {last}" if most else last


def some(names: Collection[str], limit: int = 12) -> str:
    """Return some of the names, sorted, for a message."""
    listed = sorted(map(shown, names))
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return (", ".join(listed[:limit]) or "none") + more
