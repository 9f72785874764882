"""Whatever a file system answers in place of an image is one message that names it, whoever reads the image."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.data import sources
from bench.data.catalog import find_ood, find_release
from bench.data.files import LARGEST, image_files, named, shown
from bench.data.image_folder import open_image_folder
from bench.data.ood import open_folder
from bench.data.sets.cifar import CIFAR10
from bench.errors import UserError
from tests.data.images import ImageFolder, write_image

NOWHERE = "../.dvc/cache/0a/1b2c"


@pytest.fixture(params=["substitute", "own", "ood"])
def reader(
    request: pytest.FixtureRequest, image_folder: ImageFolder, tmp_path: Path
) -> tuple[Path, Callable[[], object]]:
    """Return an image of a set of images, and what reads all of the set."""
    folder, data = image_folder(), tmp_path / "data"
    readers: dict[str, Callable[[], object]] = {
        "substitute": lambda: sources.load("cifar10", folder, root=data, progress=False),
        "own": lambda: open_image_folder(folder, 16, root=data, name="own"),
        "ood": lambda: open_folder(folder, 32, None).images[0:80],
    }
    return folder / "train" / "cat" / "0001.png", readers[request.param]


def bind(path: Path) -> None:
    # The address of a socket has 108 bytes at most.
    with pytest.MonkeyPatch.context() as patch, socket.socket(socket.AF_UNIX) as server:
        patch.chdir(path.parent)
        server.bind(path.name)


def of_a_terabyte(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(10**12)


IN_PLACE_OF_AN_IMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "link to nowhere": (lambda path: path.symlink_to(NOWHERE), f"a link to {NOWHERE}, which is not there"),
    "link to itself": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "folder": (Path.mkdir, "a folder, not a file"),
    "pipe": (os.mkfifo, "a pipe, not a file"),
    "socket": (bind, "a socket, not a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a device, not a file"),
    "terabyte": (of_a_terabyte, f"1,000,000,000,000 bytes; allowed for an image: {LARGEST:,}"),
    "nothing": (Path.touch, "cannot be decoded (empty)"),
}


@pytest.mark.parametrize("what", IN_PLACE_OF_AN_IMAGE)
def test_what_is_no_image_file_is_named(reader: tuple[Path, Callable[[], object]], what: str) -> None:
    image, read = reader
    make, words = IN_PLACE_OF_AN_IMAGE[what]
    image.unlink()
    make(image)
    with pytest.raises(UserError) as caught:
        read()
    assert image.name in str(caught.value)
    assert words in str(caught.value)


def test_a_file_without_permission_is_named(
    reader: tuple[Path, Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, read = reader
    original = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path == image:
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(UserError, match=rf"{image}: cannot be read \(Permission denied\)"):
        read()


def test_a_file_that_vanishes_after_it_was_listed_is_named(
    reader: tuple[Path, Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, read = reader
    original = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path == image:
            image.unlink()
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(UserError, match=rf"{image}: cannot be read \(No such file or directory\)"):
        read()


def test_a_folder_without_permission_is_named_and_not_left_out(
    reader: tuple[Path, Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, read = reader
    original = os.scandir

    def scandir(path: str | Path) -> object:
        if str(path) == str(image.parent):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=rf"{image.parent}: cannot be read \(Permission denied\)"):
        read()


def test_a_class_that_is_a_link_to_nowhere_is_named_and_not_left_out(
    reader: tuple[Path, Callable[[], object]], tmp_path: Path
) -> None:
    image, read = reader
    image.parent.rename(tmp_path / "elsewhere")
    image.parent.symlink_to(NOWHERE)
    with pytest.raises(UserError, match=rf"{image.parent}: cannot be read \(a link to {NOWHERE}, which is not there"):
        read()


def test_a_name_that_is_not_utf_8_is_refused_on_one_printable_line(reader: tuple[Path, Callable[[], object]]) -> None:
    image, read = reader
    image.rename(os.fsdecode(os.fsencode(image.parent) + b"/\xff\n" + image.suffix.encode()))
    with pytest.raises(UserError, match="its name is not UTF-8") as caught:
        read()
    assert f"{image.parent}/\\udcff\\n{image.suffix}: " in str(caught.value)


def test_a_name_of_two_lines_is_a_name(tmp_path: Path) -> None:
    write_image(tmp_path / "a\nb.png", (1, 2, 3))
    assert open_folder(tmp_path, 32, None).images[0:1].shape == (1, 32, 32, 3)
    (tmp_path / "a\nb.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"/a\\nb\.png: cannot be decoded"):
        open_folder(tmp_path, 32, None).images[0:1]
    assert [shown(text) for text in ("é.png", "a\nb")] == ["é.png", "a\\nb"]


def test_links_are_followed_and_never_round_in_circles(tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere" / "1.png", (0, 0, 0))
    write_image(tmp_path / "images" / "a" / "2.png", (0, 0, 0))
    for name in ("b", "c"):
        (tmp_path / "images" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / ".hidden").symlink_to("..")
    assert sorted(image_files(tmp_path / "images")) == ["a/2.png", "b/1.png", "c/1.png"]
    for name in ("x", "y"):
        (tmp_path / "images" / "a" / name).symlink_to("..")
    with pytest.raises(UserError, match=r"images/a/[xy]: a link back to a folder around it"):
        list(image_files(tmp_path / "images"))


def test_an_error_without_a_file_names_the_place() -> None:
    with pytest.raises(UserError, match=r"^data: cannot be read \(stale\)"), named(Path("data")):
        raise OSError("stale")


# -- in place of a whole set -------------------------------------------------------------------------------------------


@pytest.fixture(params=["cifar10", "batches", "cifar-10-c", "fog", "svhn"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Callable[[], object]]]:
    """Return where a published file is looked for, and what reads it, without a network."""
    root = tmp_path / "data"
    (root / "CIFAR-10-C").mkdir(parents=True)

    def official() -> object:
        return CIFAR10.read(root, download=True)

    def corrupted() -> object:
        return find_release("cifar-10-c").open("cifar-10-c", root, download=True).read("fog", 1, 1)

    places: dict[str, tuple[str, Callable[[], object]]] = {
        "cifar10": ("cifar-10-python.tar.gz", official),
        "batches": ("cifar-10-batches-py", official),
        "cifar-10-c": ("CIFAR-10-C.tar", corrupted),
        "fog": ("CIFAR-10-C/fog.npy", corrupted),
        "svhn": ("test_32x32.mat", lambda: find_ood("svhn").open(32, None, root, download=True, progress=False)),
    }
    place, read = places[request.param]
    if request.param == "fog":
        (root / "CIFAR-10-C" / "snow.npy").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchvision.datasets.utils.download_url", lambda *_: pytest.fail("a download began"))
        yield root / place, read


@pytest.mark.parametrize("what", ["link to nowhere", "link to itself", "pipe", "socket", "device"])
def test_what_is_no_archive_is_named_and_not_replaced(archive: tuple[Path, Callable[[], object]], what: str) -> None:
    path, read = archive
    IN_PLACE_OF_AN_IMAGE[what][0](path)
    with pytest.raises(UserError, match=str(path)):
        read()
    assert os.path.lexists(path)


@pytest.mark.parametrize("what", ["pipe", "socket", "device"])
def test_what_is_no_folder_or_zip_is_named(tmp_path: Path, what: str) -> None:
    path = tmp_path / "images"
    make, words = IN_PLACE_OF_AN_IMAGE[what]
    make(path)
    for read in (
        lambda: sources.load("cifar10", path, root=tmp_path, progress=False),
        lambda: open_image_folder(path, 16, root=tmp_path),
    ):
        with pytest.raises(UserError, match=f"{path}: cannot be read \\({words}"):
            read()
    with pytest.raises(UserError, match=f"{path}: no such folder"):
        open_folder(path, 32, None)
