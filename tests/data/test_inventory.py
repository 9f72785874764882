"""`bench data list, verify, prepare`: what is there, whether it is intact, and how to get it."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.data import cache, sources
from bench.data.catalog import RELEASES, SHOWN
from bench.data.inventory import Row, inventory, prepare, verify
from bench.data.sets.cifar import CIFAR10, CIFAR100
from bench.errors import UserError
from tests.data import cifar_c
from tests.data.images import TEST, TRAIN, ImageFolder, zip_of
from tests.data.ood_files import MNIST, SVHN, publish, write_ood
from tests.data.records import change_set
from tests.data.server import serve

IMAGES = 10 * (TRAIN + TEST)
PARTS = ("imagenet64", "imagenet100", "imagenette", "imagewoof", "tiny_imagenet")
SHIFTS = ("imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_sketch", "imagenet_real")
OOD = ("imagenet_o", "ssb_hard", "ninco", "inaturalist", "textures", "openimage_o")
ABSENT = ("cifar10", "cifar100", "imagenet", *PARTS, "cifar-10-c", "cifar-100-c", "svhn", "mnist", *SHIFTS, *OOD)
BATCHES = CIFAR10.source.folder


def one(rows: list[Row], name: str = "cifar10", variant: str = "official") -> Row:
    (row,) = [row for row in rows if (row.name, row.variant) == (name, variant)]
    return row


def test_an_empty_data_folder_offers_digits_and_says_how_to_get_the_rest(tmp_path: Path) -> None:
    rows = inventory(tmp_path / "data")
    assert [(row.name, row.state, row.images) for row in rows] == [
        ("digits", "embedded", 1797),
        *((name, "absent", None) for name in ABSENT),
    ]
    assert "python -m bench data prepare cifar100" in rows[2].note
    assert CIFAR100.source.url in rows[2].note
    for name, row in zip(ABSENT, rows[1:], strict=True):
        assert f"python -m bench data prepare {name}" in row.note or "not in" in row.note or "By hand: " in row.note
    assert [row.state for row in verify(None, tmp_path / "data", None)] == ["intact"] + ["absent"] * len(ABSENT)
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


# -- sets to evaluate on -----------------------------------------------------------------------------------------------


def test_sets_have_the_names_that_results_are_stored_under() -> None:
    assert set(RELEASES) < set(SHOWN)


@pytest.mark.parametrize("kept", ["folder", "archive"])
def test_released_corruptions_are_listed_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    root = tmp_path / "data"
    folder, archive = cifar_c.write_release(root, monkeypatch)
    count = len(cifar_c.TYPES) * cifar_c.IMAGES
    where = folder if kept == "folder" else archive
    if kept == "archive":
        folder.rename(tmp_path / "elsewhere")
    assert one(inventory(root), "cifar-10-c") == Row("cifar-10-c", "official", "ready", where, count, "")
    intact = Row("cifar-10-c", "official", "intact", where, count, "")
    assert one(verify(None, root, None), "cifar-10-c") == intact
    assert verify("cifar-10-c", tmp_path / "empty", root) == [intact]
    for type in ("fog", "snow"):
        stored = folder / f"{type}.npy" if kept == "folder" else archive
        cifar_c.flip_byte(stored, stored.read_bytes().index(cifar_c.array_of(type)[-1].tobytes()))
    assert one(inventory(root), "cifar-10-c").state == "ready"  # a list reads no content
    (row,) = verify("cifar-10-c", root, None)
    assert (row.state, row.where) == ("damaged", where)
    assert ("fog.npy" in row.note, "frost.npy" in row.note, "snow.npy" in row.note) == (True, False, True)


def test_missing_and_truncated_files_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, archive = cifar_c.write_release(tmp_path, monkeypatch)
    (folder / "frost.npy").unlink()
    row = one(inventory(tmp_path), "cifar-10-c")
    assert (row.state, row.images) == ("damaged", 2 * cifar_c.IMAGES)
    assert "missing or cut short: frost.npy" in row.note
    folder.rename(tmp_path / "elsewhere")
    archive.write_bytes(archive.read_bytes()[:-30_000])
    for row in (one(inventory(tmp_path), "cifar-10-c"), *verify("cifar-10-c", tmp_path, None)):
        assert (row.state, row.where, row.images) == ("damaged", archive, 2 * cifar_c.IMAGES)
        assert "snow.npy" in row.note
    archive.write_bytes(b"half")
    for row in (one(inventory(tmp_path), "cifar-10-c"), *verify("cifar-10-c", tmp_path, None)):
        assert (row.state, row.where, row.images) == ("damaged", archive, None)
        assert "not an uncompressed tar archive" in row.note


def test_a_downloaded_release_is_ready_and_not_downloaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, archive = cifar_c.write_release(tmp_path / "published", monkeypatch)
    monkeypatch.setenv("no_proxy", "*")
    with serve(archive.parent) as address:
        change_set("cifar-10-c", monkeypatch, url=f"{address}/{archive.name}")
        first = prepare("cifar-10-c", tmp_path / "data", None, False)
    assert (first.state, first.where) == ("ready", tmp_path / "data" / archive.name)
    assert prepare("cifar-10-c", tmp_path / "data", None, False) == first
    (tmp_path / "data" / archive.name).write_bytes(b"half")
    with pytest.raises(UserError, match="not an uncompressed tar archive"):
        prepare("cifar-10-c", tmp_path / "data", None, False)


def test_svhn_and_mnist_are_listed_verified_and_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_ood(tmp_path, monkeypatch)
    monkeypatch.setenv("no_proxy", "*")
    with serve(tmp_path) as address:
        for name, count in (("svhn", len(SVHN)), ("mnist", len(MNIST))):
            path = SHOWN[name].path
            publish(name, paths[name], monkeypatch, url=f"{address}/{path}", images=count)
            ready = Row(name, "official", "ready", tmp_path / "new" / path, count, "")
            assert prepare(name, tmp_path / "new", None, False) == ready
            assert one(inventory(tmp_path / "new"), name) == ready
            assert verify(name, tmp_path / "new", None) == [replace(ready, state="intact")]
            cifar_c.flip_byte(tmp_path / "new" / path, -1)
            row = one(verify(None, tmp_path / "new", None), name)
            assert (row.state, row.images) == ("damaged", None)
            assert "MD5" in row.note


def test_imagenet_c_has_a_row_where_it_is_found(tmp_path: Path) -> None:
    assert [row.state for row in verify("imagenet-c", tmp_path, None)] == ["absent"]
    with pytest.raises(UserError, match=r"zenodo\.org/records/2235448"):
        prepare("imagenet-c", tmp_path, None, False)
    folder = tmp_path / "ImageNet-C"
    cifar_c.write_imagenet_c(folder, ("fog", "snow"), (1, 3), {"n01440764": 2, "n15075141": 1}, "weather")
    note = "4 folders of 3 images, of 2 types"
    ready = Row("imagenet-c-3", "image folders", "ready", folder, 12, note)
    assert one(inventory(tmp_path), ready.name, "image folders") == ready
    assert one(verify(None, tmp_path, None), ready.name, "image folders") == replace(ready, state="intact")
    assert prepare("imagenet-c", tmp_path, None, False) == ready
    damaged = folder / "weather" / "snow" / "3" / "n15075141" / "ILSVRC2012_val_00000000.JPEG"
    damaged.write_bytes(damaged.read_bytes()[:500])
    (row,) = verify("imagenet-c", tmp_path / "empty", folder)
    assert (row.state, str(damaged) in row.note) == ("damaged", True)
    (folder / "rain").mkdir()
    row = one(inventory(tmp_path), "imagenet-c", "image folders")
    assert (row.name, row.state) == ("imagenet-c", "damaged")
    assert "not a type of corruption" in row.note


def test_digits_are_always_prepared(tmp_path: Path) -> None:
    assert prepare("digits", tmp_path, None, False).state == "embedded"


def test_mistakes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the data set"):
        verify(None, tmp_path, tmp_path)
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        verify("cifar1", tmp_path, None)
    with pytest.raises(UserError, match="did you mean 'digits'"):
        prepare("digit", tmp_path, None, False)
    with pytest.raises(UserError, match="did you mean 'cifar-10-c'"):
        verify("cifar10-c", tmp_path, None)
