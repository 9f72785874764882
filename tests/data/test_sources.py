"""One way in to every data set: what a location means, what is refused, and what tables say of substitute images."""

from pathlib import Path

import pytest

from bench.data import sources
from bench.errors import UserError
from tests.data.images import ImageFolder, zip_of


def refused(name: str, location: Path | None, *words: str) -> None:
    for function in (sources.variant_of, lambda *given: sources.load(*given, root=Path("unused"), progress=False)):
        with pytest.raises(UserError) as caught:
            function(name, location)
        assert [word for word in words if word not in str(caught.value)] == []


def test_an_unknown_data_set_is_answered_with_the_nearest() -> None:
    refused("cifar-10", None, "'cifar-10'", "did you mean 'cifar10'?", "digits")


def test_digits_take_no_location(tmp_path: Path) -> None:
    refused("digits", tmp_path, str(tmp_path), "brings its own images", "cifar10, cifar100")


def test_a_location_that_is_not_there_is_refused_and_not_made(tmp_path: Path) -> None:
    refused("cifar10", tmp_path / "typo.zip", str(tmp_path / "typo.zip"), "no such file or folder")
    assert not (tmp_path / "typo.zip").exists()


def test_official_data_are_given_by_the_folder_around_them(cifar_archive: Path) -> None:
    for inside in (cifar_archive, cifar_archive.parent / "cifar-10-batches-py"):
        refused("cifar10", inside, f"names the folder that this lies in: {cifar_archive.parent}")


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.tar"
    path.write_text("no zip")
    refused("cifar10", path, str(path), "not a complete zip")


def test_the_variant_is_known_without_decoding(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder = image_folder()
    expected = sources.load("cifar10", folder, root=tmp_path / "root", progress=False).variant
    archive = zip_of(folder, tmp_path / "images.zip")
    assert [sources.variant_of("cifar10", location) for location in (folder, archive)] == [expected] * 2


def test_official_and_embedded_data_are_the_official_variant(cifar_archive: Path, tmp_path: Path) -> None:
    assert sources.variant_of("digits", None) == "official"
    assert sources.variant_of("cifar10", None) == "official"
    assert sources.variant_of("cifar10", cifar_archive.parent) == "official"
    assert sources.variant_of("cifar10", tmp_path) == "official"
    assert sources.load("digits", None, root=tmp_path / "unused", progress=False).variant == "official"
    assert not (tmp_path / "unused").exists()


def test_tables_say_what_substitute_images_are() -> None:
    sentence = sources.describe("images-0123456789ab")
    assert "image folder (images-0123456789ab)" in sentence
    assert "comparable within this table only" in sentence
    assert sources.describe("official") == ""


def test_a_folder_of_images_is_no_place_to_download_to(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder = image_folder(name="a/b/images")
    assert sources.find_images("cifar10", folder.parent) == folder.parent
    refused("cifar10", folder.parent.parent, "holds images, but not as train/<class>/<image>", "found b/")
    (folder / "train").rename(folder / "Train")
    (folder / "test").rename(folder / "Test")
    for location in (folder, folder.parent):
        refused("cifar10", location, str(location), "found Train/ and Test/: rename to train/ and test/")
    # what the suite itself keeps in a data folder is no image folder
    (tmp_path / "data").mkdir()
    for name in ("ImageNet-C", "imagenet-a", "sketch", "images_largescale"):
        folder = folder.rename(tmp_path / "data" / name)
        assert sources.find_images("cifar10", tmp_path / "data") is None
    (tmp_path / "data" / "imagenet-r.tar").touch()
    assert sources.find_images("cifar10", tmp_path / "data") is None


def test_parts_of_other_names_are_said_to_be_renamed(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder = image_folder()
    for name in ("val", "valid", "Validation", "TEST"):
        (folder / "test").rename(folder / name)
        refused("cifar10", folder, "no images in test/", f"found {name}/: rename to test/")
        refused("cifar10", zip_of(folder, tmp_path / f"{name}.zip"), f"found {name}/: rename to test/")
        (folder / name).rename(folder / "test")


def test_folders_named_almost_as_those_of_a_data_set_are_no_place_to_download_to(tmp_path: Path) -> None:
    for name in ("Train", "TRAIN", "training"):
        folder = tmp_path / f"with {name}" / name
        (folder / "cat").mkdir(parents=True)
        (folder / "cat" / "0.npy").touch()
        refused("cifar10", folder.parent, f"found {name}/: rename to train/")
        folder.rename(folder.with_name("train"))
        refused("cifar10", folder.parent, "no images; expected train/<class>/<image>", ".png", "found train/")


@pytest.mark.parametrize("name", ["images.zip", "images.tar.gz", "train.7z", "cifar-10-binary.tar.gz"])
def test_a_folder_of_other_archives_is_no_place_to_download_to(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    refused("cifar10", tmp_path, f"holds {name}, not cifar-10-python.tar.gz", "name the zip itself", "folder without")


def test_archives_of_the_suite_and_images_below_are_told_apart(image_folder: ImageFolder, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("CIFAR-10-C.tar", "cifar-100-python.tar.gz", ".hidden.zip", "notes.txt"):
        (tmp_path / "data" / name).touch()
    assert sources.find_images("cifar10", tmp_path / "data") is None
    image_folder(name="data/1/2/3/4/5/6/7")
    refused("cifar10", tmp_path / "data", "holds images, but not as train/<class>/<image>", "found 1/")


def test_images_beside_no_folder_are_named(image_folder: ImageFolder, tmp_path: Path) -> None:
    cats = image_folder() / "train" / "cat"
    refused("cifar10", cats, "found no folder, but 0000.png, 0001.png, 0002.png and 3 more")
    refused("cifar10", zip_of(cats, tmp_path / "cats.zip"), "image at 0005.png", "found no folder, but 0000.png")
