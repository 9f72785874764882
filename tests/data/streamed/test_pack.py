"""A pack holds the images it was made of, says if it is damaged, and those encoded anew are other images."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data.pack import pack
from bench.data.streamed.files import ImageFiles
from bench.data.streamed.folder import open_file_folder
from bench.data.streamed.pack import Encoding
from bench.errors import UserError
from tests.commands.test_cli import call
from tests.data.streamed.photographs import encoded, photograph
from tests.data.streamed.test_index import TRAIN, WNIDS, folder, picture, shards, write_parquet

CLASSES = {"cats": 0, "train": 1, "images": 2}


@pytest.fixture(autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path_factory.mktemp("data")))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of one's own, with classes that are called as parts are, and parts to test and to validate on."""
    for part, count in (("train", 4), ("test", 2), ("val", 1)):
        files = {
            f"{part}/{name}/{number}.jpg": encoded(photograph(number, (label, 0, 90 + 10 * number, 64 + label)))
            for name, label in CLASSES.items()
            for number in range(count)
        }
        folder(tmp_path / "own", files)
    return tmp_path / "own"


def content(path: Path) -> list[tuple[bytes, int]]:
    """Return the bytes and labels of all images to train on, in the order in which they are taken."""
    data = open_file_folder(path, 32, name="own", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    parts = data.read(path)
    files = parts.train_images
    assert isinstance(files, ImageFiles)
    return [(files.read(place), int(label)) for place, label in enumerate(parts.train_labels)]


def test_a_pack_of_ones_own_folder_is_the_same_data_set(images: Path, tmp_path: Path) -> None:
    rows = pack(None, images, tmp_path / "packed", None)
    assert [(row.where and row.where.name, row.images) for row in rows] == [
        ("train.tar", 12),
        ("test.tar", 6),
        ("val.tar", 3),
    ]
    before, after = (open_file_folder(path, 32, name="own") for path in (images, tmp_path / "packed"))
    assert (after.version, after.class_names, after.mean, after.std) == (
        before.version,
        tuple(sorted(CLASSES)),
        before.mean,
        before.std,
    )
    assert (after.train_images, after.validation_images, after.test_images) == (12, 3, 6)
    assert content(images) == content(tmp_path / "packed")


def test_another_image_to_validate_on_is_another_data_set(images: Path) -> None:
    before = open_file_folder(images, 32).version
    (images / "val/cats/0.jpg").rename(images / "val/cats/1.jpg")
    assert open_file_folder(images, 32).version != before


def test_the_same_images_give_the_same_bytes(images: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        pack(None, images, tmp_path / name, None)
    assert (tmp_path / "a/train.tar").read_bytes() == (tmp_path / "b/train.tar").read_bytes()


def test_any_program_reads_a_pack(images: Path, tmp_path: Path) -> None:
    pack(None, images, tmp_path / "packed", None)
    with tarfile.open(tmp_path / "packed/train.tar") as tar:
        names = tar.getnames()
        stream = tar.extractfile("cats/0.jpg")
        assert stream is not None
        assert stream.read() == (images / "train/cats/0.jpg").read_bytes()
    assert names == [*sorted(names[:-1]), "checksums.npz"]


def test_an_altered_byte_is_found(images: Path, tmp_path: Path) -> None:
    pack(None, images, tmp_path / "packed", None)
    tar = tmp_path / "packed/train.tar"
    data = bytearray(tar.read_bytes())
    data[700] ^= 1  # within the scan of the first image, where no decoder sees it
    tar.write_bytes(data)
    with pytest.raises(ValueError, match="altered since it was packed"):
        content(tmp_path / "packed")


@pytest.mark.parametrize("damage", [b"", b"PK", "short", "other"])
def test_damaged_checksums_are_named(damage: bytes | str, images: Path, tmp_path: Path) -> None:
    pack(None, images, tmp_path / "packed", None)
    stream = io.BytesIO()
    np.savez(stream, crc32=np.zeros(3 if damage == "short" else 12, np.uint32 if damage == "short" else np.int8))
    path = tmp_path / "packed/train.tar"
    with tarfile.open(path) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar if m.name != "checksums.npz"}  # type: ignore[union-attr]
    members["checksums.npz"] = damage if isinstance(damage, bytes) else stream.getvalue()
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with pytest.raises(UserError, match=r"train.tar/checksums.npz: (cannot be read|not a checksum).*pack"):
        open_file_folder(tmp_path / "packed", 32)


def test_images_encoded_anew_are_another_variant(images: Path, tmp_path: Path) -> None:
    pack(None, images, tmp_path / "small", Encoding(48, 80))
    pack(None, images, tmp_path / "smaller", Encoding(48, 70))
    versions = {open_file_folder(path, 32).version for path in (images, tmp_path / "small", tmp_path / "smaller")}
    original = open_file_folder(images, 32).version
    assert versions == {original, f"{original}-short48-q80", f"{original}-short48-q70"}
    for data, _ in content(tmp_path / "small"):
        with Image.open(io.BytesIO(data)) as image:
            assert min(image.size) == 48
    # One part of each.
    (tmp_path / "small/test.tar").unlink()
    (tmp_path / "small/test.tar").write_bytes((tmp_path / "smaller/test.tar").read_bytes())
    assert open_file_folder(tmp_path / "small", 32).version == f"{original}-short48-q80-short48-q70-short48-q80"


def test_a_pack_of_a_pack_says_all_that_was_done_to_its_images(images: Path, tmp_path: Path) -> None:
    original = open_file_folder(images, 32).version
    pack(None, images, tmp_path / "small", Encoding(48, 80))
    rows = pack(None, tmp_path / "small", tmp_path / "again", None)
    assert {row.variant for row in rows} == {"short48-q80"}
    assert open_file_folder(tmp_path / "again", 32).version == f"{original}-short48-q80"
    assert (tmp_path / "again/train.tar").read_bytes() == (tmp_path / "small/train.tar").read_bytes()
    pack(None, tmp_path / "again", tmp_path / "smaller", Encoding(32, 90))
    assert open_file_folder(tmp_path / "smaller", 32).version == f"{original}-short48-q80-short32-q90"


def test_small_images_keep_their_size(tmp_path: Path) -> None:
    files = {f"{part}/a/0.png": encoded(photograph(0, (0, 0, 50, 40)), "PNG") for part in ("train", "test")}
    folder(tmp_path / "own", files)
    pack(None, tmp_path / "own", tmp_path / "packed", Encoding(64, 100))
    ((data, _),) = content(tmp_path / "packed")
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", (50, 40))
        difference = np.asarray(image, int) - np.asarray(photograph(0, (0, 0, 50, 40)), int)
    assert np.abs(difference).mean() < 3


def test_an_unreadable_image_is_named_and_no_pack_is_left(images: Path, tmp_path: Path) -> None:
    (images / "train/cats/1.jpg").write_bytes(b"GIF89a")
    with pytest.raises(UserError, match=r"train/cats/1.jpg: "):
        pack(None, images, tmp_path / "packed", Encoding(48, 80))
    assert not list((tmp_path / "packed").iterdir())


def test_nothing_is_written_over(images: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/val.tar").write_bytes(b"")
    with pytest.raises(UserError, match=r"packed/val.tar: is there; remove it, or name another folder with --out"):
        pack(None, images, tmp_path / "packed", None)
    assert not (tmp_path / "packed/train.tar").exists()


def test_numbered_shards_of_ones_own_are_classes_by_number(tmp_path: Path) -> None:
    for part in ("train", "val"):
        shards(tmp_path, f"{part}-", TRAIN, lambda number: {".cls": b"%d" % (9 + number)})
    data = open_file_folder(tmp_path, 32)
    assert data.class_names == ("00009", "00010", "00011")
    assert sorted(label for _, label in content(tmp_path)) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


class TestParquet:
    def test_classes_are_those_that_the_file_names(self, tmp_path: Path) -> None:
        for part in ("train", "validation", "test"):
            path = tmp_path / f"here/{part}-00000-of-00001-0123456789abcdef.parquet"
            write_parquet(path, TRAIN, classes=("a/b", "b", "c"), columns=("img", "fine_label"))
        pack(None, tmp_path / "here", tmp_path / "packed", None)
        assert sorted(path.name for path in (tmp_path / "packed").iterdir()) == ["test.tar", "train.tar", "val.tar"]
        assert open_file_folder(tmp_path / "packed", 32).class_names == ("a_b", "b", "c")
        assert {data for data, _ in content(tmp_path / "packed")} == set(TRAIN.values())

    def test_images_of_one_name_are_all_kept(self, tmp_path: Path) -> None:
        for part in ("train", "test"):
            path = tmp_path / f"here/{part}-00000-of-00001.parquet"
            write_parquet(path, {f"{WNIDS[0]}/{number}/same.JPEG": picture(number) for number in range(3)})
        pack(None, tmp_path / "here", tmp_path / "packed", None)
        assert {data for data, _ in content(tmp_path / "packed")} == {picture(number) for number in range(3)}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"labels": [0] * 8 + [1000]}, r"row 8: its label is 1000; expected 0 to 999"),
            ({"labels": [0] * 8 + [None]}, r"row 8: its label is None; expected the number of a class"),
            ({"columns": ("photo", "label")}, r"no column of images; found photo, label; expected image or img"),
            ({"columns": ("image", "kind")}, r"no column of labels; found image, kind; expected label or"),
            ({"classes": ("a", "b")}, r"labels of 2 classes, where the data set has 1,000"),
        ],
    )
    def test_what_cannot_be_used_is_named(self, options: dict[str, object], message: str, tmp_path: Path) -> None:
        for part in ("train", "validation"):
            write_parquet(tmp_path / f"here/{part}-00000-of-00001.parquet", TRAIN, **options)  # type: ignore[arg-type]
        with pytest.raises(UserError, match=message):
            pack("imagenet", tmp_path / "here", tmp_path / "packed", None)

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 99])
    def test_a_damaged_file_is_named(self, content: bytes, tmp_path: Path) -> None:
        for part in ("train", "validation"):
            write_parquet(tmp_path / f"{part}-00000-of-00001.parquet", TRAIN)
        (tmp_path / "train-00000-of-00001.parquet").write_bytes(content)
        with pytest.raises(UserError, match=r"train-00000-of-00001.parquet: no whole Parquet file"):
            pack("imagenet", tmp_path, tmp_path / "packed", None)

    def test_a_file_that_is_not_downloaded_yet_is_missed(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "here/test-00000-of-00001.parquet", TRAIN)
        for number in (0, 2):
            write_parquet(tmp_path / f"here/data/train-0000{number}-of-00003.parquet", TRAIN)
        with pytest.raises(
            UserError, match=r"here/data: found 2 files train-\*.parquet, of which there are 3; download"
        ):
            pack(None, tmp_path / "here", tmp_path / "packed", None)
        assert not (tmp_path / "packed").exists()

    def test_a_part_that_is_missing_is_named(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "train-00000-of-00001.parquet", TRAIN)
        with pytest.raises(UserError, match=r"found train-\*.parquet; expected train-\*.parquet and val-\*.parquet"):
            pack("imagenet", tmp_path, tmp_path / "packed", None)


class TestCommand:
    def test_packs_are_said_and_used(self, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = call(capsys, "data", "pack", "--data", str(images), "--out", str(tmp_path / "packed"))
        assert code == 0
        assert [line.split()[:6] for line in out.splitlines() if line.startswith("own")] == [
            ["own", "as", "they", "were", "ready", images] for images in ("12", "6", "3")
        ]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--quality", "90"], "--quality: found without --short-side"),
            (["cifar10"], "cifar10: its images are not read from image files; allowed: imagenet, imagenet100"),
            (["imagnet"], "unknown data set 'imagnet'; did you mean 'imagenet'"),
            (["--data", "nowhere"], "nowhere: no such folder"),
            (["imagenet"], "train/cats: not one of the 1,000 classes"),
        ],
    )
    def test_mistakes_are_one_line(
        self, arguments: list[str], message: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        given = ["data", "pack", "--data", str(images), "--out", str(tmp_path / "packed"), *arguments]
        code, _, error = call(capsys, *given)
        assert code == 2
        assert message in error.replace("\n", " ")
