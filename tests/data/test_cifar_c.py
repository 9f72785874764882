"""CIFAR-10-C as released: mapped from folder or archive, each file checked, one damaged file no fault of another."""

import gzip
import hashlib
import os
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.data.catalog import RELEASES
from bench.data.corruptions.catalog import CORRUPTIONS
from bench.data.lazy import OFFICIAL
from bench.data.sets import cifar_c
from bench.data.sets.cifar_c import ReleasedFiles
from bench.errors import UserError
from bench.store.files import read_json
from tests.data.cifar_c import IMAGES, PER_SEVERITY, RELEASE, TYPES, array_of, flip_byte, labels, publish, write_release
from tests.data.records import change_set
from tests.data.server import serve


def released(name: str, root: Path, *, download: bool = False) -> ReleasedFiles:
    return RELEASES[name].open(name, root, download=download)


def opened(root: Path) -> ReleasedFiles:
    return released("cifar-10-c", root)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a set, alone in a data folder."""
    folder, archive = write_release(tmp_path / "data", monkeypatch)
    archive.unlink()
    return folder


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive of a set, alone in a data folder."""
    folder, archive = write_release(tmp_path / "data", monkeypatch)
    folder.rename(tmp_path / "elsewhere")
    return archive


@pytest.fixture(params=["folder", "archive"])
def place(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def refused(found: ReleasedFiles, type: str, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        found.read(type, 1, 1)
    assert [word for word in words if word not in str(caught.value)] == [], caught.value


def test_checksums_and_types_are_those_published() -> None:
    for release in (cifar_c.CIFAR10_C, cifar_c.CIFAR100_C):
        published = read_json(cifar_c.CHECKSUMS)[release.folder]
        assert release.md5() == published
        found = ReleasedFiles(release, Path("nowhere"), {})
        assert found.types == CORRUPTIONS
        assert sorted(found.files) == sorted(set(published) - {"_archive"})


def test_images_are_mapped_and_cut_by_severity(place: Path) -> None:
    found = opened(place.parent)
    assert (found.types, found.where) == (TYPES, place)
    for type in TYPES:
        for severity in (1, 2, 5):
            read = found.read(type, severity, PER_SEVERITY)
            first = (severity - 1) * PER_SEVERITY
            assert isinstance(read.images, np.memmap)
            assert np.array_equal(read.images, array_of(type)[first : first + PER_SEVERITY])
            assert (read.labels.tolist(), read.labels.dtype) == ([3, 8, 8, 0], np.int64)
            assert read.source == OFFICIAL
    assert np.array_equal(found.read("fog", 3, 1).images, array_of("fog")[2 * PER_SEVERITY :][:1])


def test_an_archive_is_not_unpacked(archive: Path) -> None:
    opened(archive.parent).read("fog", 1, 1)
    assert [path.name for path in archive.parent.iterdir() if path.suffix != ".json"] == [archive.name]


def test_an_empty_folder_hides_no_archive(archive: Path) -> None:
    (archive.parent / RELEASE.folder).mkdir()
    assert np.array_equal(opened(archive.parent).read("fog", 1, PER_SEVERITY).images, array_of("fog")[:PER_SEVERITY])


def test_what_does_not_exist_is_refused(folder: Path) -> None:
    found = opened(folder.parent)
    for type, severity in (("rain", 1), ("fog", 0), ("fog", 6)):
        with pytest.raises(ValueError, match="snow"):
            found.read(type, severity, 1)
    for images in (0, PER_SEVERITY + 1):
        with pytest.raises(UserError, match=f"it has {PER_SEVERITY} a severity"):
            found.read("fog", 1, images)


def test_a_byte_altered_in_one_file_is_found_and_the_others_are_read(place: Path) -> None:
    stored = place / "frost.npy" if place.is_dir() else place
    flip_byte(stored, stored.read_bytes().index(array_of("frost")[-1].tobytes()))
    found = opened(place.parent)
    refused(found, "frost", str(place), "frost.npy", "its MD5 is", RELEASE.md5()["frost.npy"], RELEASE.url)
    assert np.array_equal(found.read("fog", 1, 2).images, array_of("fog")[:2])
    assert np.array_equal(found.read("snow", 5, 1).images, array_of("snow")[-PER_SEVERITY:][:1])
    assert [file for file in found.files if found.problem(file)] == ["frost.npy"]
    assert found.missing() == []  # by their sizes all are there


def test_a_missing_file_is_named_and_the_others_are_read(folder: Path) -> None:
    (folder / "snow.npy").unlink()
    found = opened(folder.parent)
    assert (found.types, found.missing()) == (TYPES, ["snow.npy"])
    assert found.images() == 2 * IMAGES
    refused(found, "snow", str(folder / "snow.npy"), "missing", RELEASE.archive, RELEASE.url)
    found.read("frost", 1, 1)


@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_of_a_truncated_archive_the_beginning_is_read(archive: Path, kept: float) -> None:
    """Half of it ends inside the second type, all but a twentieth inside the third."""
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * kept)])
    found = opened(archive.parent)
    whole = TYPES[:1] if kept == 0.5 else TYPES[:2]
    for type in whole:
        assert np.array_equal(found.read(type, 5, 1).images, array_of(type)[-PER_SEVERITY:][:1])
    refused(found, TYPES[len(whole)], str(archive), f"{TYPES[len(whole)]}.npy truncated", "beyond the end", "delete it")
    assert found.missing() == [f"{type}.npy" for type in TYPES[len(whole) :]]
    assert found.images() == len(whole) * IMAGES
    if kept == 0.5:
        refused(found, "snow", "snow.npy missing in what can be read", f"{len(archive.read_bytes()):,} bytes")


def test_a_truncated_file_says_so(folder: Path) -> None:
    path = folder / "fog.npy"
    path.write_bytes(path.read_bytes()[:-3000])
    refused(opened(folder.parent), "fog", "truncated", f"{IMAGES * 3072 + 128:,}", f"{IMAGES * 3072 - 2872:,}")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"<html>gone</html>"])
def test_what_is_no_array_is_named(folder: Path, content: bytes) -> None:
    (folder / "fog.npy").write_bytes(content)
    refused(opened(folder.parent), "fog", "not a .npy array")


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((20, 3, 32, 32), np.uint8), "uint8 [20, 3, 32, 32]"),
        (np.zeros((20, 32, 32, 3), np.float32), "float32 [20, 32, 32, 3]"),
        (np.zeros((19, 32, 32, 3), np.uint8), "uint8 [19, 32, 32, 3]"),
        (np.zeros((0, 32, 32, 3), np.uint8), "uint8 [0, 32, 32, 3]"),
        (np.zeros((5, 5), np.uint8), "uint8 [5, 5]"),
    ],
)
def test_another_shape_or_dtype_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, array: np.ndarray, found: str
) -> None:
    np.save(folder / "fog.npy", array)
    publish(folder, folder.with_suffix(".tar"), monkeypatch)  # whatever its checksum
    refused(opened(folder.parent), "fog", f"holds {found}, not uint8 [N, 32, 32, 3]")


def test_damaged_labels_are_named_whatever_the_type(place: Path) -> None:
    stored = place / "labels.npy" if place.is_dir() else place
    flip_byte(stored, stored.read_bytes().index(labels().tobytes()))
    refused(opened(place.parent), "fog", "labels.npy", "MD5")


def test_a_file_is_hashed_once_until_it_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    md5 = hashlib.md5

    def counted(**keywords: bool) -> object:
        hashed.append(1)
        return md5(**keywords)

    monkeypatch.setattr(hashlib, "md5", counted)
    for _ in range(2):
        for severity in (1, 2):
            opened(folder.parent).read("fog", severity, 1)
    assert len(hashed) == 2  # the images and the labels
    flip_byte(folder / "fog.npy", -1)
    os.utime(folder / "fog.npy", ns=(1, 1))
    refused(opened(folder.parent), "fog", "MD5")
    assert len(hashed) == 3


@pytest.mark.parametrize(
    "content", [lambda data: gzip.compress(data, 1), lambda _: b"<html>gone</html>", lambda _: b""]
)
def test_an_archive_that_is_none_is_refused(archive: Path, content: Callable[[bytes], bytes]) -> None:
    archive.write_bytes(content(archive.read_bytes()))
    with pytest.raises(UserError, match="not an uncompressed tar archive") as caught:
        opened(archive.parent)
    assert str(archive) in str(caught.value)


def test_what_is_absent_is_downloaded_only_if_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as caught:
        released("cifar-100-c", tmp_path, download=False)
    for words in (str(tmp_path), "CIFAR-100-C.tar", "bench data prepare cifar-100-c", RELEASES["cifar-100-c"].url):
        assert words in str(caught.value)

    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", fail)
    with pytest.raises(UserError, match=r"Name or service not known.*By hand: put CIFAR-100-C\.tar"):
        released("cifar-100-c", tmp_path, download=True)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def server(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The archive is published by a server of this test."""
    monkeypatch.setenv("no_proxy", "*")
    with serve(archive.parent) as address:
        change_set("cifar-10-c", monkeypatch, url=f"{address}/{archive.name}")
        yield


@pytest.mark.usefixtures("server")
def test_a_missing_set_is_downloaded_whole(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "new" / "data"
    found = released("cifar-10-c", root, download=True)
    assert np.array_equal(found.read("snow", 5, 4).images, array_of("snow")[-4:])
    assert [path.name for path in root.iterdir()] == [RELEASE.archive]
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("server")
def test_a_download_of_another_checksum_is_not_kept(archive: Path, tmp_path: Path) -> None:
    flip_byte(archive, -2000)
    with pytest.raises(UserError, match=r"corrupted.*By hand"):
        released("cifar-10-c", tmp_path / "new", download=True)
    assert not list((tmp_path / "new").iterdir())
