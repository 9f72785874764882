"""Copies of images on a disk of the node: made once, checked, never half, and the same images as in their source."""

import logging
import os
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from bench.data import copies
from bench.data.copies import FOLDER, nearest, use_copy
from bench.data.dataset import Split
from bench.data.loading import ImageLoader, record_folders
from bench.data.pack import pack
from bench.data.sources import variant_of
from bench.data.streamed.files import ImageFiles
from bench.errors import UserError
from bench.spec.run import DataSpec
from bench.store.store import Store
from tests.data.images import ImageFolder, zip_of
from tests.data.streamed.photographs import write_imagenet
from tests.data.test_image_folder import spec_of, write_birds

ROOT = Path(__file__).resolve().parents[2]


def go_on() -> None:
    """No signal came."""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path / "root"))
    monkeypatch.setattr(copies, "_copies", {})
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of two files, one of them through a link, and a hidden one."""
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "one").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "elsewhere").write_bytes(b"two")
    (folder / "two").symlink_to(tmp_path / "elsewhere")
    (folder / ".hidden").write_bytes(b"no image")
    return folder


def copy(source: Path, tmp_path: Path) -> Path:
    use_copy("birds", [source], tmp_path / "disk", go_on)
    return nearest(source)


def inside(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_copy_has_the_files_of_its_source_and_is_said(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        made = copy(source, tmp_path)
    assert made.is_relative_to(tmp_path / "disk" / FOLDER)
    assert inside(made) == {"a/one", "two"}
    assert nearest(source / "a" / "one") == made / "a" / "one"
    assert nearest(source / "two").read_bytes() == b"two"
    assert nearest(tmp_path / "elsewhere") == tmp_path / "elsewhere"
    assert [word in caplog.text for word in ("copied 0 MB of birds to", "birds is read from its copy")] == [True, True]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert copy(source, tmp_path) == made
    assert "copied" not in caplog.text


PROGRAM = """
import logging, os, signal, sys, time
from pathlib import Path
from bench.data.copies import nearest, use_copy

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
source, disk, what = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def check():
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5)

use_copy("birds", [source], disk, check)
print("reads", nearest(source))
"""


def process(source: Path, tmp_path: Path, what: str = "slow") -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM, str(source), str(tmp_path / "disk"), what]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True)


def test_of_several_processes_at_once_one_copies_and_all_read_the_copy(source: Path, tmp_path: Path) -> None:
    running = [process(source, tmp_path) for _ in range(3)]
    said = [one.communicate(timeout=600)[0] for one in running]
    assert sum("copied 0 MB of birds" in text for text in said) == 1
    (place,) = {text.partition("\nreads ")[2] or text.partition("reads ")[2] for text in said}
    assert Path(place.strip()).is_relative_to(tmp_path / "disk")


def test_who_is_killed_while_it_copies_leaves_nothing_that_is_taken_for_a_copy(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killed = process(source, tmp_path, "killed")
    killed.communicate(timeout=600)
    assert killed.returncode == -signal.SIGKILL
    disk = tmp_path / "disk" / FOLDER
    left = {path.name for path in disk.iterdir()}
    assert any(name.endswith(".lock") for name in left)
    assert not any(name.startswith("birds-") for name in left)
    with caplog.at_level(logging.INFO):
        assert inside(copy(source, tmp_path)) == {"a/one", "two"}
    assert "taking over a stale lock" in caplog.text
    assert [path.name[:6] for path in disk.iterdir()] == ["birds-"]


@pytest.mark.parametrize("content", [bytes(256 * 40), b"another size"])
def test_a_source_that_changed_is_copied_anew(source: Path, tmp_path: Path, content: bytes) -> None:
    copy(source, tmp_path)
    (source / "a" / "one").write_bytes(content)
    os.utime(source / "a" / "one", ns=(1, 1))
    assert (copy(source, tmp_path) / "a" / "one").read_bytes() == content
    (source / "three").write_bytes(b"3")
    assert inside(copy(source, tmp_path)) == {"a/one", "two", "three"}
    assert [path.name[:6] for path in (tmp_path / "disk" / FOLDER).iterdir()] == ["birds-"]


@pytest.mark.parametrize("damage", ["cut", "gone", "no manifest"])
def test_a_damaged_copy_is_made_again(source: Path, tmp_path: Path, damage: str) -> None:
    made = copy(source, tmp_path)
    if damage == "cut":
        os.truncate(made / "a" / "one", 7)
    elif damage == "gone":
        (made / "two").unlink()
    else:
        next((tmp_path / "disk").rglob("copied.json")).write_text("[]")
        (made / "two").write_text("new")
    again = copy(source, tmp_path)
    assert (again / "a" / "one").read_bytes() == (source / "a" / "one").read_bytes()
    assert (again / "two").read_bytes() == b"two"


class Forgetful:
    """A file that keeps zeros of whatever is written."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> "Forgetful":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, block: bytes) -> None:
        self._file.write(bytes(len(block)))


def test_a_file_that_the_disk_does_not_keep_is_no_copy(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened = Path.open

    def forget(self: Path, mode: str = "r", *given: Any, **named: Any) -> Any:
        file = opened(self, mode, *given, **named)
        return Forgetful(file) if mode == "wb" and self.name == "one" else file

    monkeypatch.setattr(Path, "open", forget)
    assert copy(source, tmp_path) == source
    assert "one is not what was written: check the disk" in caplog.text
    assert list((tmp_path / "disk" / FOLDER).iterdir()) == []


def test_without_room_the_source_is_read_and_one_line_says_so(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(40_000, 27_000, 13_000))
    assert copy(source, tmp_path) != source  # its 10,243 bytes, and 2,000 of the disk stay free
    (source / "a" / "more").write_bytes(bytes(1_000))
    copies._copies.clear()
    caplog.clear()
    assert copy(source, tmp_path) == source
    (line,) = [record.message for record in caplog.records]
    assert "0 MB to copy, and room for 0 MB; an outdated copy is there" in line
    assert line.endswith(f"it is read from {source}")


def test_a_scratch_folder_that_cannot_be_written_is_no_failure(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "disk").write_text("in the way")
    assert copy(source, tmp_path) == source
    assert "is not copied to" in caplog.text


def test_a_signal_ends_the_copying_and_leaves_no_part_of_it(source: Path, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def check() -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        use_copy("birds", [source], tmp_path / "disk", check)
    assert list((tmp_path / "disk" / FOLDER).iterdir()) == []
    assert nearest(source) == source


def test_a_copy_that_is_removed_is_not_read(source: Path, tmp_path: Path) -> None:
    made = copy(source, tmp_path)
    made.rename(tmp_path / "moved")
    assert nearest(source) == source


def images_of(kind: str, request: pytest.FixtureRequest, root: Path, tmp_path: Path) -> tuple[DataSpec, Path | None]:
    """Write images of a kind; return the data of a run on them, and what --data names."""
    counts = {"train_images": 8, "validation_images": 4, "test_images": 6}
    if kind in ("archive", "folder of archives"):
        archive: Path = request.getfixturevalue("cifar_archive")
        place = root if kind == "archive" else tmp_path / "archives"
        place.mkdir(exist_ok=True)
        archive.rename(place / archive.name)
        (place / "large").write_bytes(b"another data set")
        return DataSpec(name="cifar10", **counts), None if place == root else place
    if kind in ("image folder", "zip"):
        place = request.getfixturevalue("image_folder")()
        place = zip_of(place, tmp_path / "images.zip") if kind == "zip" else place
        return DataSpec(name="cifar10", variant=variant_of("cifar10", place), **counts), place
    write_imagenet(tmp_path / "imagenet", train=4, val=2)
    place = tmp_path / "imagenet"
    if kind == "pack":
        pack("imagenet", place, tmp_path / "packs", None)
        place = tmp_path / "packs"
    return DataSpec(name="imagenet", variant=variant_of("imagenet", place), **counts), place


def content(split: Split) -> list[object]:
    """Return all images and labels of a split; of images that stay in their files, the bytes of those."""
    parts = (split.train, split.validation, split.test)
    images = [
        [part.images.read(place) for place in range(len(part.images))]
        if isinstance(part.images, ImageFiles)
        else part.images[:].tobytes()
        for part in parts
    ]
    return [*images, *(part.labels.tolist() for part in parts)]


def ruin(path: Path) -> None:
    """Overwrite a file, or all below a folder, by zeros, so that neither size nor time tells."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            state = file.stat()
            file.write_bytes(bytes(state.st_size))
            os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def same_from_a_copy(spec: DataSpec, store: Store, location: Path | None, disk: Path, *others: Path) -> None:
    """Load images, copy them, ruin what was copied, and others, and load them again."""
    expected, records = content(ImageLoader(store, location).load(spec)), store.data_records()
    paths = ImageLoader(store, location).stored(spec)
    use_copy(spec.name, paths, disk, go_on)
    assert all(nearest(path).is_relative_to(disk) for path in paths)
    for path in (*paths, *others):
        ruin(path)
    assert content(ImageLoader(store, location).load(spec)) == expected
    assert store.data_records() == records
    assert b"another data set" not in [path.read_bytes() for path in disk.rglob("*") if path.is_file()]
    assert not [path for path in store.root.rglob("*") if path.is_file() and bytes(disk) in path.read_bytes()]
    copies._copies.clear()
    with pytest.raises(UserError):
        content(ImageLoader(store, location).load(spec))


@pytest.mark.parametrize("kind", ["archive", "folder of archives", "image folder", "zip", "files", "pack"])
def test_images_are_the_same_from_a_copy_and_the_store_does_not_name_it(
    kind: str, request: pytest.FixtureRequest, root: Path, tmp_path: Path
) -> None:
    spec, location = images_of(kind, request, root, tmp_path)
    same_from_a_copy(spec, Store(tmp_path / "store"), location, tmp_path / "disk")


@pytest.mark.parametrize("storage", ["resident", "streamed"])
def test_so_are_those_of_a_folder_that_a_grid_names(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = write_birds(tmp_path / "birds", train=10, test=4, val=3), Store(tmp_path / "store")
    spec = spec_of(tmp_path, f"{{folder: {folder}, image_size: 16, storage: {storage}}}").data
    record_folders(store, [spec])
    monkeypatch.setattr("bench.data.catalog._FOLDERS", {})
    same_from_a_copy(spec, store, None, tmp_path / "disk", folder)


def test_images_that_are_not_decoded_yet_are_decoded_before_they_are_copied(
    image_folder: ImageFolder, tmp_path: Path
) -> None:
    folder = image_folder()
    spec = DataSpec(
        name="cifar10", variant=variant_of("cifar10", folder), train_images=8, validation_images=4, test_images=6
    )
    paths = ImageLoader(Store(tmp_path / "store"), folder).stored(spec)
    assert [path.parent.name for path in paths] == [tmp_path.name, "cache"]
    assert all(path.exists() for path in paths)
