"""Tiny versions of the sets that show ImageNet's classes, or none of them, in the folders that their archives have."""

from pathlib import Path

import pytest

from bench.data.catalog import OOD, SHIFTED
from bench.data.sets.imagenet import IMAGENET
from tests.data.images import write_image
from tests.data.records import change_set

# Numbers 2, 10 and 100: as text "10" < "100" < "2".
WNIDS = tuple(IMAGENET.class_names[number] for number in (2, 10, 100))


def write_folders(folder: Path, classes: dict[str, int], size: tuple[int, int] = (40, 30)) -> None:
    """Write so many images of each class folder; the red of each is the place of its folder, times 50."""
    for place, (name, images) in enumerate(classes.items()):
        for number in range(images):
            write_image(folder / name / f"{number}.JPEG", (50 * place, 0, 0), size)


def write_shift(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a set of four images of three classes, and let its record be of as many."""
    folders = ("2", "10", "100") if name == "imagenet_v2" else WNIDS
    folder = root / SHIFTED[name].folders[0]
    write_folders(folder, dict(zip(folders, (1, 1, 2), strict=True)))
    change_set(name, monkeypatch, images=4, wnids=WNIDS)
    return folder


def write_openood(root: Path, name: str) -> Path:
    """Write a list of three images, and a fourth that is not on it; return the list."""
    folder = root / getattr(OOD[name], "folder")  # noqa: B009 (the protocol has none)
    write_folders(folder / "some", {"a": 2, "b": 2})
    file = root / "benchmark_imglist" / "imagenet" / f"test_{name}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("some/b/0.JPEG -1\nsome/a/1.JPEG -1\nsome/a/0.JPEG -1\n")
    return file
