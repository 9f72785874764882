"""Whatever a file system answers for an image is one sentence that names it: no traceback, and no waiting."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bench.__main__
from bench.data.ood import open_folder
from bench.errors import UserError

SIDE = 32
ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "dangling link": (lambda path: path.symlink_to("nowhere"), "No such file or directory; a link to what is not here"),
    "link to itself": (lambda path: path.symlink_to(path.name), "symbolic links"),
    "pipe": (os.mkfifo, "a folder, pipe or device, no file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a folder, pipe or device, no file"),
    "nothing in it": (lambda path: path.write_bytes(b""), "cannot be decoded"),
    "a page": (lambda path: path.write_bytes(b"<html>403 Forbidden</html>"), "cannot be decoded"),
}


def write(root: Path, images: int = 12) -> None:
    for number in range(images):
        path = root / f"class{number % 2}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((SIDE, SIDE, 3), 9 * number, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "images" / "train")
    write(tmp_path / "images" / "test")
    return tmp_path / "images"


def message_of(tmp_path: Path, data: str, *options: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the error of `plan` or `run` on some data; they must end with exit code 2."""
    (tmp_path / "grid.yaml").write_text(
        f"replicates: 1\nbase: {{data: {data}, model: {{name: wide_resnet, depth: 10, width: 1}}, batch_size: 4}}\n"
        "cells: [{name: dense, method: dense, recipe: {epochs: 3}}]\n"
    )
    with pytest.raises(SystemExit) as ended:
        bench.__main__.main(["run", str(tmp_path / "grid.yaml"), "--store", str(tmp_path / "store"), *options])
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("kind", ODD)
def test_in_an_image_folder(kind: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, reason = ODD[kind]
    make(folder / "train" / "class0" / "odd.png")
    line = message_of(tmp_path, f"{{folder: {folder}, image_size: 32}}", capsys=capsys)
    assert "class0/odd.png" in line
    assert reason in line


@pytest.mark.parametrize("kind", ODD)
def test_in_a_substitute_for_a_data_set(
    kind: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, reason = ODD[kind]
    make(folder / "test" / "class1" / "odd.png")
    line = message_of(tmp_path, "cifar10", "--data", str(folder), capsys=capsys)
    assert ("class1/odd.png" in line and reason in line) or "needs 10 classes, found 2" in line


@pytest.mark.parametrize("kind", ODD)
def test_in_a_folder_out_of_distribution(kind: str, folder: Path) -> None:
    make, reason = ODD[kind]
    make(folder / "train" / "class0" / "00odd.png")
    with pytest.raises(UserError, match=r"class0/00odd\.png") as caught:
        open_folder(folder / "train", SIDE, None).images[0:13]
    assert reason in str(caught.value)


def test_a_folder_called_as_an_image_is_no_image(folder: Path) -> None:
    (folder / "train" / "class0" / "odd.png").mkdir()
    assert len(open_folder(folder / "train", SIDE, None).labels) == 12


def test_a_name_that_is_no_text_is_read_like_others(folder: Path) -> None:
    first = folder / "train" / "class0" / "00.png"
    first.rename(first.with_name(os.fsdecode(b"\xff\n.png")))
    assert open_folder(folder / "train", SIDE, None).images[0:12].shape == (12, SIDE, SIDE, 3)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("Train", "Test"), "found Train/ and Test/: rename to train/ and test/"),
        (("TRAIN", "TEST"), "rename to train/ and test/"),
        (("training", "testing"), "rename to train/ and test/"),
        (("images", "labels"), "found images/ and labels/"),
        (("train", "holdout"), ""),
        (("other", "test"), ""),
    ],
)
def test_a_folder_of_images_is_no_place_to_download_into(
    names: tuple[str, str], found: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for now, name in zip(("train", "test"), names, strict=True):
        (folder / now).rename(folder / f"{name}_")
        (folder / f"{name}_").rename(folder / name)
    line = message_of(tmp_path, "cifar10", "--data", str(folder), capsys=capsys)
    assert "train/<class>/<image> and test/<class>/<image>" in line
    assert found in line
    assert not list((folder).glob("*.tar.gz"))


@pytest.mark.parametrize("where", ["", "a/b/c"])
def test_images_without_folders_are_no_place_to_download_into(
    where: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "flat" / where
    place.mkdir(parents=True)
    (folder / "train" / "class0" / "00.png").rename(place / "00.png")
    line = message_of(tmp_path, "cifar10", "--data", str(tmp_path / "flat"), capsys=capsys)
    assert "holds images, but not as train/<class>/<image>" in line
