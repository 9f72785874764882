"""Image folders and zips: what is read, in which order, under which name, and what is refused how."""

import hashlib
import logging
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import cache, sources
from bench.data.catalog import class_names
from bench.data.dataset import Dataset
from bench.data.folders import open_images
from bench.errors import UserError
from tests.data.images import TEST, TRAIN, ImageFolder, write_image, zip_of

NAMES = class_names("cifar10")


def load(location: Path, root: Path, name: str = "cifar10") -> Dataset:
    return sources.load(name, location, root=root, progress=False)


def same(one: Dataset, other: Dataset) -> bool:
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in cache.ARRAYS)
    return arrays and (one.name, one.variant, one.classes) == (other.name, other.variant, other.classes)


def the_cache(root: Path) -> Path:
    (path,) = (root / "cache").iterdir()
    return path


def test_every_image_comes_once_with_its_label(image_folder: ImageFolder, tmp_path: Path) -> None:
    dataset = load(image_folder(), tmp_path / "root")
    assert dataset.classes == NAMES
    for images, labels, count, part in (
        (dataset.train_images, dataset.train_labels, TRAIN, 0),
        (dataset.test_images, dataset.test_labels, TEST, 1),
    ):
        assert images.shape == (10 * count, 32, 32, 3)
        assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
        assert np.array_equal(images[:, 5, 7, 0], labels)
        colours = {tuple(image[0, 0].tolist()) for image in images}
        assert colours == {(label, index, part) for label in range(10) for index in range(count)}


def test_training_images_are_not_sorted_by_class(image_folder: ImageFolder, tmp_path: Path) -> None:
    labels = load(image_folder(), tmp_path / "root").train_labels
    assert len(set(labels[-12:].tolist())) > 4
    assert labels.tolist() != sorted(labels.tolist())


def test_a_folder_and_zips_of_it_are_the_same_images(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder = image_folder()
    from_folder = load(folder, tmp_path / "a")
    for number, prefix in enumerate(("", "wrapped/")):
        archive = zip_of(folder, tmp_path / f"{number}.zip", prefix)
        assert same(load(archive, tmp_path / f"root{number}"), from_folder)


def test_a_folder_around_the_image_folder_is_seen_through(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder = image_folder(name="outer/inner")
    assert same(load(folder.parent, tmp_path / "a"), load(folder, tmp_path / "b"))


def test_the_variant_is_the_documented_fingerprint(image_folder: ImageFolder) -> None:
    folder = image_folder()
    lines = []
    for path in folder.rglob("*.png"):
        data = path.read_bytes()
        lines.append((path.relative_to(folder).as_posix(), zlib.crc32(data), len(data)))
    text = "".join(f"{path}\0{crc:08x}\0{size}\n" for path, crc, size in sorted(lines))
    assert sources.variant_of("cifar10", folder) == f"images-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def test_one_changed_image_is_another_variant(image_folder: ImageFolder) -> None:
    folder = image_folder()
    before = sources.variant_of("cifar10", folder)
    write_image(folder / "train" / "cat" / "0000.png", (200, 0, 0))
    assert sources.variant_of("cifar10", folder) != before


def test_hidden_and_other_files_are_not_images(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder = image_folder()
    before = sources.variant_of("cifar10", folder)
    (folder / "README.txt").write_text("not an image")
    (folder / "train" / "cat" / "Thumbs.db").write_text("nor this")
    (folder / "train" / "cat" / "._0000.png").write_text("nor this")
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    write_image(folder / "train" / ".ipynb_checkpoints" / "0000.png", (0, 0, 0))
    archive = zip_of(folder, tmp_path / "images.zip")
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr("__MACOSX/train/cat/0000.png", "nor this")
    assert sources.variant_of("cifar10", folder) == before
    assert sources.variant_of("cifar10", archive) == before


def test_grey_and_palette_images_become_rgb(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder = image_folder()
    for part in ("train", "test"):
        for path in (folder / part / "ship").iterdir():
            Image.new("L", (32, 32), 90).save(path)
        for path in (folder / part / "truck").iterdir():
            Image.new("RGB", (32, 32), (1, 2, 3)).quantize().save(path)
    dataset = load(folder, tmp_path / "root")
    assert np.all(dataset.train_images[dataset.train_labels == NAMES.index("ship")] == 90)
    assert np.all(dataset.test_images[dataset.test_labels == NAMES.index("truck")] == (1, 2, 3))


# -- refused -----------------------------------------------------------------------------------------------------------


def refused(location: Path, root: Path, *words: str, name: str = "cifar10") -> None:
    with pytest.raises(UserError) as caught:
        load(location, root, name)
    message = str(caught.value)
    assert message.startswith(f"{location}: ")
    assert [word for word in words if word not in message] == [], message


def test_a_class_missing_from_one_part_is_named(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder = image_folder()
    for path in (folder / "test" / "frog").iterdir():
        path.unlink()
    refused(folder, tmp_path / "root", "test/ has no images of frog", "same classes")


def test_a_missing_part_is_named(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder = image_folder()
    (folder / "train").rename(tmp_path / "elsewhere")
    refused(folder, tmp_path / "root", "no images in train/; expected train/<class>/<image>", "found test/")


def test_missing_and_unexpected_classes_are_named(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder = image_folder([*NAMES[2:], "bicycle"])
    refused(folder, tmp_path / "root", "10 classes, found 9", "missing: airplane, automobile", "unexpected: bicycle")


def test_ten_classes_are_not_cifar100(image_folder: ImageFolder, tmp_path: Path) -> None:
    refused(image_folder(), tmp_path / "root", "cifar100 needs 100 classes, found 10", name="cifar100")


def test_classes_of_other_names_serve_as_well(image_folder: ImageFolder, tmp_path: Path) -> None:
    names = tuple(f"class{number}" for number in range(10))
    assert load(image_folder(names), tmp_path / "root").classes == names


def test_images_of_another_size_are_named(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder = image_folder()
    for index in range(5):
        write_image(folder / "train" / "cat" / f"{index:04}.png", (0, 0, 0), (64, 48))
    refused(folder, tmp_path / "root", "train/cat/0000.png is 64x48 pixels, not 32x32", "0001.png", "0002.png")


@pytest.mark.parametrize("zipped", [False, True])
def test_an_image_that_cannot_be_decoded_is_named(image_folder: ImageFolder, tmp_path: Path, zipped: bool) -> None:
    location = folder = image_folder()
    damaged = folder / "test" / "dog" / "0001.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    if zipped:
        location = zip_of(folder, tmp_path / "images.zip")
    refused(location, tmp_path / "root", "test/dog/0001.png cannot be decoded (")
    assert not list((tmp_path / "root" / "cache").iterdir())


def test_a_byte_altered_inside_a_zip_is_named(image_folder: ImageFolder, tmp_path: Path) -> None:
    archive = zip_of(image_folder(), tmp_path / "images.zip")
    with zipfile.ZipFile(archive) as opened:
        info = opened.getinfo("train/bird/0003.png")
    content = bytearray(archive.read_bytes())
    content[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 1
    archive.write_bytes(content)
    refused(archive, tmp_path / "root", "train/bird/0003.png cannot be decoded (", "CRC")


def test_a_truncated_zip_is_named(image_folder: ImageFolder, tmp_path: Path) -> None:
    archive = zip_of(image_folder(), tmp_path / "images.zip")
    archive.write_bytes(archive.read_bytes()[:-500])
    refused(archive, tmp_path / "root", "not a complete zip", "download it again")


def test_images_in_the_wrong_place_are_named(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder = image_folder()
    write_image(folder / "train" / "cat" / "more" / "x.png", (0, 0, 0))
    refused(folder, tmp_path / "root", "train/cat/more/x.png", "expected train/<class>/<image>")


def test_a_folder_without_train_and_test_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "cat" / "0000.png", (0, 0, 0))
    with pytest.raises(UserError, match="not an image folder; expected train/<class>/<image>"), open_images(tmp_path):
        pass


def test_a_zip_without_images_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("train/cat/readme.txt", "nothing")
    refused(archive, tmp_path / "root", "no images", "expected train/<class>/<image>")


# -- cache -------------------------------------------------------------------------------------------------------------


def test_images_are_decoded_once(image_folder: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, root = image_folder(), tmp_path / "root"
    decoded = load(folder, root)
    assert the_cache(root).name == f"cifar10-{decoded.variant}.safetensors"
    monkeypatch.setattr(sources, "decode_substitute", None)
    assert same(load(folder, root), decoded)
    assert same(load(zip_of(folder, tmp_path / "images.zip"), root), decoded)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def alter_a_pixel(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def alter_a_class_name(path: Path) -> None:
    content = path.read_bytes()
    assert b"airplane" in content
    path.write_bytes(content.replace(b"airplane", b"aeroplan"))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_other_images(path: Path) -> None:
    other = cache.read_cache(path)
    path.unlink()
    made = Dataset("cifar10", "images-000000000000", other.classes, *(getattr(other, name) for name in cache.ARRAYS))
    other_path = cache.cache_path(path.parent.parent, made.name, made.variant)
    cache.write_cache(other_path, made)
    other_path.rename(path)


@pytest.mark.parametrize("damage", [truncate, alter_a_pixel, alter_a_class_name, empty, replace_by_other_images])
def test_a_damaged_cache_is_named_and_made_again(
    damage: Callable[[Path], None], image_folder: ImageFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, root = image_folder(), tmp_path / "root"
    decoded = load(folder, root)
    path = the_cache(root)
    damage(path)
    with caplog.at_level(logging.WARNING):
        assert same(load(folder, root), decoded)
    assert str(path) in caplog.text
    assert same(cache.read_cache(path), decoded)


def test_a_cache_of_another_version_is_made_again(
    image_folder: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder, root = image_folder(), tmp_path / "root"
    load(folder, root)
    monkeypatch.setattr(cache, "CACHE_VERSION", cache.CACHE_VERSION + 1)
    load(folder, root)
    assert "another version" in caplog.text


def test_a_full_disk_costs_the_cache_and_not_the_images(
    image_folder: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_space(_: object, path: Path, __: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "save_file", no_space)
    root = tmp_path / "root"
    assert len(load(image_folder(), root).train_images) == 10 * TRAIN
    assert "No space left on device" in caplog.text
    assert not list((root / "cache").iterdir())
