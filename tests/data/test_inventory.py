"""`bench data list, verify, prepare`: what is there, whether it is intact, and how to get it."""

from pathlib import Path

import pytest

from bench.data import cache, sources
from bench.data.inventory import Row, inventory, prepare, verify
from bench.data.official import FILES
from bench.errors import UserError
from tests.data.images import TEST, TRAIN, ImageFolder, zip_of

IMAGES = 10 * (TRAIN + TEST)
BATCHES = FILES["cifar10"].folder


def one(rows: list[Row], name: str = "cifar10", variant: str = "official") -> Row:
    (row,) = [row for row in rows if (row.name, row.variant) == (name, variant)]
    return row


def test_an_empty_data_folder_offers_digits_and_says_how_to_get_the_rest(tmp_path: Path) -> None:
    rows = inventory(tmp_path / "data")
    assert [(row.name, row.state, row.images) for row in rows] == [
        ("digits", "embedded", 1797),
        ("cifar10", "absent", None),
        ("cifar100", "absent", None),
    ]
    assert "python -m bench data prepare cifar100" in rows[2].note
    assert FILES["cifar100"].url in rows[2].note
    assert [row.state for row in verify(None, tmp_path / "data", None)] == ["intact", "absent", "absent"]
    assert not (tmp_path / "data").exists()


def test_an_archive_becomes_ready_when_prepared(cifar_archive: Path) -> None:
    root = cifar_archive.parent
    (root / BATCHES).rename(root / "elsewhere")
    assert one(inventory(root)).state == "archive only"
    assert one(verify(None, root, None)).state == "intact"
    prepared = prepare("cifar10", root, None, False)
    assert (prepared.state, prepared.where, prepared.images) == ("ready", root / BATCHES, 60)
    assert one(inventory(root)).state == "ready"
    assert one(verify("cifar10", root, None)).state == "intact"


def test_a_damaged_archive_is_found(cifar_archive: Path) -> None:
    root = cifar_archive.parent
    (root / BATCHES).rename(root / "elsewhere")
    cifar_archive.write_bytes(b"half")
    row = one(verify("cifar10", root, None))
    assert (row.state, row.where) == ("damaged", cifar_archive)


def test_damaged_and_missing_batches_are_named(cifar_archive: Path) -> None:
    root = cifar_archive.parent
    damaged = root / BATCHES / "data_batch_2"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert one(inventory(root)).state == "ready"  # a list reads no content
    row = one(verify("cifar10", root, None))
    assert row.state == "damaged"
    assert "data_batch_2" in row.note
    damaged.unlink()
    row = one(inventory(root))
    assert row.state == "damaged"
    assert "data_batch_2" in row.note


def test_verify_looks_at_the_data_set_and_place_asked_for(cifar_archive: Path, tmp_path: Path) -> None:
    assert [row.name for row in verify("digits", tmp_path, None)] == ["digits"]
    assert [row.state for row in verify("cifar10", tmp_path / "empty", cifar_archive.parent)] == ["intact"]


def test_prepared_images_are_listed_and_verified(image_folder: ImageFolder, tmp_path: Path) -> None:
    archive, root = zip_of(image_folder(), tmp_path / "images.zip"), tmp_path / "data"
    variant = sources.variant_of("cifar10", archive)
    prepared = prepare("cifar10", root, archive, False)
    path = cache.cache_path(root, "cifar10", variant)
    assert prepared == Row("cifar10", variant, "ready", path, IMAGES, "")
    listed, verified = (one(rows, variant=variant) for rows in (inventory(root), verify(None, root, None)))
    assert (listed.state, listed.where, listed.images) == ("ready", path, IMAGES)
    assert (verified.state, verified.where, verified.images) == ("intact", path, IMAGES)
    assert verify("cifar10", root, None) == [verified]  # that the official files are absent is no fault here
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert one(verify("cifar10", root, None), variant=variant).state == "damaged"
    assert [(row.variant, row.state) for row in verify("cifar100", root, None)] == [("official", "absent")]
    path.write_bytes(content[:-5])
    assert one(inventory(root), variant=variant).state == "damaged"


def test_every_image_of_a_folder_is_verified(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder = image_folder()
    (row,) = verify("cifar10", tmp_path / "data", folder)
    assert (row.state, row.where, row.images) == ("intact", folder, IMAGES)
    (folder / "train" / "deer" / "0002.png").write_bytes(b"no image")
    (row,) = verify("cifar10", tmp_path / "data", folder)
    assert row.state == "damaged"
    assert "train/deer/0002.png" in row.note
    assert not (tmp_path / "data").exists()


def test_a_truncated_zip_is_found(image_folder: ImageFolder, tmp_path: Path) -> None:
    archive = zip_of(image_folder(), tmp_path / "images.zip")
    archive.write_bytes(archive.read_bytes()[:2000])
    (row,) = verify("cifar10", tmp_path / "data", archive)
    assert (row.state, row.where) == ("damaged", archive)
    assert "not a complete zip" in row.note


def test_preparing_fails_where_the_images_cannot_be_kept(image_folder: ImageFolder, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way of the folder")
    with pytest.raises(UserError, match="could not be written"):
        prepare("cifar10", tmp_path / "data", image_folder(), False)


def test_digits_are_always_prepared(tmp_path: Path) -> None:
    assert prepare("digits", tmp_path, None, False).state == "embedded"


def test_mistakes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the data set"):
        verify(None, tmp_path, tmp_path)
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        verify("cifar1", tmp_path, None)
    with pytest.raises(UserError, match="did you mean 'digits'"):
        prepare("digit", tmp_path, None, False)
