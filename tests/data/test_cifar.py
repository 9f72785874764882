"""Official CIFAR: read in its order, downloaded whole or not at all, and every failure says what to do."""

import errno
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets
from torchvision.datasets import utils

from bench.data import sources
from bench.data.catalog import DATASETS, class_names
from bench.data.dataset import Dataset
from bench.data.sets.cifar import CIFAR10
from bench.errors import UserError
from tests.data.records import change_source
from tests.data.server import serve

FILES = CIFAR10.source


def load(root: Path) -> Dataset:
    return sources.load("cifar10", None, root=root, progress=False)


def refused(root: Path, *words: str) -> None:
    """Loading fails with these words, and with both ways out: by hand, and --data."""
    with pytest.raises(UserError) as caught:
        load(root)
    message = str(caught.value)
    ways_out = (f"put {FILES.archive} from", str(root.resolve()), "--data", "train/<class>/*")
    assert [word for word in (*words, *ways_out) if word not in message] == [], message


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", fail)


@pytest.fixture
def archive(cifar_archive: Path, tmp_path: Path) -> Path:
    """The only file of a data folder: the archive."""
    folder = tmp_path / "data"
    folder.mkdir()
    return cifar_archive.rename(folder / cifar_archive.name)


@pytest.mark.parametrize(("name", "expected"), [("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)])
def test_names_and_addresses_are_torchvisions(name: str, expected: Any) -> None:
    files = DATASETS[name].source
    batches = [file for file, _ in (*expected.train_list, *expected.test_list)]
    assert (files.url, files.archive, files.folder) == (expected.url, expected.filename, expected.base_folder)
    assert list(files.batches) == [*batches, expected.meta["filename"]]


@pytest.mark.usefixtures("offline")
def test_an_archive_on_disk_is_read_in_its_order(archive: Path, cifar_batches: list[dict[str, Any]]) -> None:
    dataset = load(archive.parent)
    rows = np.concatenate([batch["data"] for batch in cifar_batches[:5]])
    assert (dataset.variant, dataset.classes) == ("official", class_names("cifar10"))
    assert dataset.train_labels.tolist() == [label for batch in cifar_batches[:5] for label in batch["labels"]]
    assert dataset.test_labels.tolist() == cifar_batches[5]["labels"]
    assert dataset.train_labels.dtype == np.int64
    # A row holds the red, then the green, then the blue plane.
    assert np.array_equal(dataset.train_images[..., 1].reshape(50, 1024), rows[:, 1024:2048])
    assert np.array_equal(dataset.test_images[..., 2].reshape(10, 1024), cifar_batches[5]["data"][:, 2048:])
    assert dataset.train_images.flags.c_contiguous


@pytest.mark.usefixtures("offline")
def test_extracted_files_need_no_archive_and_a_location_is_used_in_place_of_the_root(archive: Path) -> None:
    first = load(archive.parent)
    archive.unlink()
    again = sources.load("cifar10", archive.parent, root=Path("unused"), progress=False)
    assert np.array_equal(first.train_images, again.train_images)
    assert sorted(path.name for path in archive.parent.iterdir()) == [FILES.folder]


def test_a_damaged_archive_is_named_and_kept(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "download_url", None)
    archive.write_bytes(archive.read_bytes()[:-10])
    refused(archive.parent, str(archive), "not the official archive", "delete it")
    assert archive.exists()


@pytest.mark.parametrize("batch", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.usefixtures("offline")
def test_a_damaged_batch_is_named(archive: Path, batch: str) -> None:
    load(archive.parent)
    path = archive.parent / FILES.folder / batch
    path.write_bytes(path.read_bytes() + b"\0")
    refused(archive.parent, str(path), "MD5", f"delete {path.parent}")
    path.unlink()
    refused(archive.parent, str(path), "missing")


@pytest.mark.usefixtures("offline")
def test_without_a_network_the_message_says_how_else(tmp_path: Path) -> None:
    refused(tmp_path / "data", FILES.url, "Name or service not known")
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.usefixtures("cifar_archive")
def test_a_download_with_another_checksum_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr(utils, "_urlretrieve", lambda _, path: Path(path).write_text("<html>gone</html>"))
    refused(tmp_path / "data", FILES.url, "corrupted")
    assert not list((tmp_path / "data").iterdir())


def test_a_full_disk_while_downloading_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: str, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr(utils, "_urlretrieve", no_space)
    refused(tmp_path / "data", "no space left", "downloading", "FREETICKETS_DATA")
    assert not list((tmp_path / "data").iterdir())


def test_a_full_disk_while_extracting_is_said(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: Path, folder: Path) -> None:
        (folder / FILES.folder).mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(utils, "extract_archive", no_space)
    refused(archive.parent, "no space left", f"extracting {archive}")
    assert list(archive.parent.iterdir()) == [archive]


def test_a_data_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refused(tmp_path / "file" / "data", "failed", "Not a directory")


def test_an_interrupted_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: str, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr(utils, "_urlretrieve", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


@pytest.fixture
def server(cifar_archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the archive on a server of this test."""
    monkeypatch.setenv("no_proxy", "*")
    with serve(cifar_archive.parent) as address:
        yield f"{address}/{cifar_archive.name}"


def test_what_is_missing_is_downloaded_without_noise(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    change_source("cifar10", monkeypatch, url=server)
    dataset = load(tmp_path / "new" / "data")
    assert len(dataset.train_images) == 50
    assert {path.name for path in (tmp_path / "new" / "data").iterdir()} == {FILES.archive, FILES.folder}
    assert capfd.readouterr() == ("", "")


def test_two_processes_that_extract_at_once_both_succeed(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract_archive = utils.extract_archive

    def slowly(path: Path, folder: Path) -> None:
        extract_archive(path, folder)
        extract_archive(path, archive.parent)  # the other one is faster

    monkeypatch.setattr(utils, "extract_archive", slowly)
    assert len(load(archive.parent).train_images) == 50
