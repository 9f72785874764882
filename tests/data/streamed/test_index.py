"""Every layout that people have gives the same images and labels; every other says what is wrong."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from scipy.io import savemat

from bench.data.pack import pack
from bench.data.sets.imagenet import DEVKIT, IMAGENET, KAGGLE
from bench.data.streamed.files import ImageFiles
from bench.data.streamed.index import index_part
from bench.data.streamed.source import FileSource
from bench.data.streamed.tars import tar_members
from bench.errors import UserError
from tests.data.streamed.photographs import encoded, photograph

WNIDS = IMAGENET.class_names[:3]
SOURCE = IMAGENET.source


def picture(number: int) -> bytes:
    return encoded(photograph(number, (number, number, number + 40, number + 50)))


TRAIN = {
    f"{wnid}/{wnid}_{number}.JPEG": picture(7 * label + number)
    for label, wnid in enumerate(WNIDS)
    for number in (1, 2, 10)
}
VAL = {
    f"{wnid}/ILSVRC2012_val_{2 * label + number:08d}.JPEG": picture(50 + 2 * label + number)
    for label, wnid in enumerate(WNIDS)
    for number in (1, 2)
}
# Flat, the order of the names is not that of the classes.
FLAT = {name.rpartition("/")[2]: data for name, data in VAL.items()}
LABELS = {name.rpartition("/")[2]: name.partition("/")[0] for name in VAL}


def folder(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def tarred(files: dict[str, bytes], kind: int = tarfile.GNU_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def tar_of_tars(files: dict[str, bytes]) -> bytes:
    """As ILSVRC2012_img_train.tar: a tar for each class."""
    inner = {}
    for wnid in WNIDS:
        inner[f"{wnid}.tar"] = tarred(
            {name.partition("/")[2]: data for name, data in files.items() if name.startswith(wnid)}
        )
    return tarred(inner)


def tar_with_link(path: Path, name: str, kind: bytes) -> None:
    """As `tar` writes a file that it has written already, or a class of another folder."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "elsewhere"
    with tarfile.open(path, "w") as tar:
        for there, data in TRAIN.items():
            other = tarfile.TarInfo(there)
            other.size = len(data)
            tar.addfile(other, io.BytesIO(data))
        tar.addfile(member)


def with_size(size: bytes) -> bytes:
    content = bytearray(tarred(TRAIN))
    content[124 : 124 + len(size)] = size
    return bytes(content)


def kaggle(root: Path) -> None:
    lines = [f"{name.removesuffix('.JPEG')},{wnid} 1 2 3 4 " for name, wnid in LABELS.items()]
    (root / KAGGLE).write_text("\n".join(["ImageId,PredictionString", *reversed(lines)]))


def devkit(root: Path) -> None:
    synsets = np.zeros(3, dtype=[("ILSVRC2012_ID", int), ("WNID", object)])
    numbers = {WNIDS[0]: 3, WNIDS[1]: 1, WNIDS[2]: 2}
    for place, (wnid, number) in enumerate(numbers.items()):
        synsets[place] = (number, wnid)
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets})
    truth = "".join(f"{numbers[LABELS[name]]}\n" for name in sorted(LABELS)).encode()
    files = {f"{DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt": truth, f"{DEVKIT}/data/meta.mat": meta.getvalue()}
    folder(root, files)


def devkit_archive(root: Path) -> None:
    devkit(root)
    with tarfile.open(root / f"{DEVKIT}.tar.gz", "w:gz") as tar:
        tar.add(root / DEVKIT, DEVKIT)
    shutil.rmtree(root / DEVKIT)


def write(root: Path, *parts: Callable[[Path], object]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for part in parts:
        part(root)


def shards(root: Path, part: str, files: dict[str, bytes], label: Callable[[int], dict[str, bytes]]) -> None:
    """Write files in two tars, as webdataset has them: those of one sample share the name before the first dot."""
    root.mkdir(parents=True, exist_ok=True)
    # Not by class: shards are shuffled.
    names = sorted(files, key=lambda name: name[::-1])
    for shard in (0, 1):
        members = {}
        for name in names[shard::2]:
            stem, members_of = name.rpartition("/")[2].removesuffix(".JPEG"), label(WNIDS.index(name.partition("/")[0]))
            members |= {f"{stem}{suffix}": data for suffix, data in members_of.items()}
            members[f"{stem}.JPEG"] = files[name]
        (root / f"{part}{shard:04d}.tar").write_bytes(tarred(members))


def packed(root: Path) -> None:
    """Write folders, and pack them."""
    LAYOUTS["folders"](root / "before")
    pack("imagenet", root / "before", root, None)
    shutil.rmtree(root / "before")


def parquet_packed(root: Path) -> None:
    """Write what Hugging Face has, and pack it."""
    write_parquet(root / "before/data/train-00000-of-00002.parquet", dict(list(TRAIN.items())[:4]))
    write_parquet(root / "before/data/train-00001-of-00002.parquet", dict(list(TRAIN.items())[4:]))
    write_parquet(root / "before/data/validation-00000-of-00001.parquet", VAL)
    write_parquet(root / "before/data/test-00000-of-00001.parquet", VAL, labels=[-1] * len(VAL))
    pack("imagenet", root / "before", root, None)
    shutil.rmtree(root / "before")


def write_parquet(
    path: Path,
    files: dict[str, bytes],
    labels: list[int] | None = None,
    classes: tuple[str, ...] = (),
    columns: tuple[str, str] = ("image", "label"),
) -> None:
    """Write images as Hugging Face does, which adds the class to the name of a file to train on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wnids = [name.partition("/")[0] for name in files]
    images = [
        {"bytes": data, "path": f"{name.rpartition('/')[2].removesuffix('.JPEG')}_{wnid}.JPEG"}
        for (name, data), wnid in zip(files.items(), wnids, strict=True)
    ]
    numbers = [WNIDS.index(wnid) for wnid in wnids] if labels is None else labels
    table = pyarrow.table(dict(zip(columns, (images, numbers), strict=True)))
    features = {columns[0]: {"_type": "Image"}, columns[1]: {"_type": "ClassLabel", "names": list(classes)}}
    if classes:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path, row_group_size=2)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "folders": lambda root: write(root, lambda r: folder(r / "train", TRAIN), lambda r: folder(r / "val", VAL)),
    "one folder deeper": lambda root: LAYOUTS["folders"](root / "ILSVRC2012"),
    "in the data folder": lambda root: LAYOUTS["folders"](root / "imagenet"),
    "Kaggle": lambda root: write(
        root,
        lambda r: folder(r / "ILSVRC/Data/CLS-LOC/train", TRAIN),
        lambda r: folder(r / "ILSVRC/Data/CLS-LOC/val", FLAT),
        kaggle,
    ),
    "flat with development kit": lambda root: write(
        root, lambda r: folder(r / "train", TRAIN), lambda r: folder(r / "val", FLAT), devkit
    ),
    "official archives": lambda root: write(
        root,
        lambda r: (r / "ILSVRC2012_img_train.tar").write_bytes(tar_of_tars(TRAIN)),
        lambda r: (r / "ILSVRC2012_img_val.tar").write_bytes(tarred(FLAT)),
        devkit_archive,
    ),
    "tars by class": lambda root: write(
        root,
        lambda r: (r / "train.tar").write_bytes(tarred({f"./train/{name}": data for name, data in TRAIN.items()})),
        lambda r: (r / "val.tar").write_bytes(tarred(VAL, tarfile.PAX_FORMAT)),
    ),
    "folders called by numbers": lambda root: write(
        root,
        lambda r: folder(r / "train", {f"{WNIDS.index(name[:9])}{name[9:]}": data for name, data in TRAIN.items()}),
        lambda r: folder(r / "val", VAL),
    ),
    "a tar of each class": lambda root: write(
        root,
        lambda r: folder(r / "train", {f"{w}.tar": tarred({n[10:]: TRAIN[n] for n in TRAIN if w in n}) for w in WNIDS}),
        lambda r: folder(r / "val", VAL),
    ),
    "shards beside each other": lambda root: write(
        root,
        lambda r: shards(r, "imagenet1k-train-", TRAIN, lambda number: {".cls": b"%d" % number}),
        lambda r: shards(r, "imagenet1k-validation-", VAL, lambda number: {".cls": b"%d\n" % number}),
    ),
    "shards in folders": lambda root: write(
        root,
        lambda r: shards(r / "train", "", TRAIN, lambda n: {".json": b'{"label": %d}' % n, ".mask.png": b""}),
        lambda r: shards(r / "val", "", VAL, lambda n: {".cls": WNIDS[n].encode(), ".json": b"[]"}),
    ),
    "a pack": lambda root: write(root, packed),
    "a pack of Parquet files": lambda root: write(root, parquet_packed),
}


def parts_of(location: Path) -> tuple[dict[bytes, str], dict[bytes, str]]:
    """Return the class of each image to train on, and to test on, by its bytes."""
    assert isinstance(SOURCE, FileSource)
    found = SOURCE.parts(IMAGENET, location)
    return tuple(
        {part.files.read(place): part.classes[label] for place, label in enumerate(part.labels)} for part, _ in found
    )  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("FREETICKETS_DATA", str(root))
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_give_the_same_images_and_labels(layout: str, tmp_path: Path) -> None:
    LAYOUTS[layout](tmp_path)
    train, val = parts_of(tmp_path)
    assert train == {data: name.partition("/")[0] for name, data in TRAIN.items()}
    assert val == {data: name.partition("/")[0] for name, data in VAL.items()}


def test_the_order_to_train_in_and_the_variant_do_not_depend_on_the_layout(tmp_path: Path) -> None:
    seen = {}
    for layout, make in LAYOUTS.items():
        make(tmp_path / layout)
        dataset = IMAGENET.read(tmp_path / layout)
        files = dataset.train_images
        assert isinstance(files, ImageFiles)
        order = tuple(files.read(place) for place in range(len(files)))
        seen[layout] = order, tuple(dataset.train_labels), dataset.test_images[0:6].tobytes(), dataset.variant
    assert len(set(seen.values())) == 1
    assert next(iter(seen.values()))[3].startswith("images-")


MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (
        lambda r: shutil.rmtree(r),
        r"the images of imagenet are not in .*found: no folder.*https://image-net.org",
    ),
    "train alone": (lambda r: shutil.rmtree(r / "val"), r"found train, no val; expected train/<class>/<image> and"),
    "val alone": (lambda r: shutil.rmtree(r / "train"), r"found val, no train"),
    "a class that is none": (
        lambda r: (r / "train" / WNIDS[1]).rename(r / "train" / "n0144353"),
        r"train/n0144353: not one of the 1,000 classes; did you mean 'n01443537'",
    ),
    "an empty class": (
        lambda r: [file.unlink() for file in (r / "train" / WNIDS[1]).iterdir()],
        rf"train/{WNIDS[1]}: holds no image; remove the folder, or fill it",
    ),
    "a flat val without labels": (
        lambda r: (shutil.rmtree(r / "val"), folder(r / "val", FLAT)),
        r"val: holds images, ILSVRC2012_val_00000001.JPEG, .* and 1 more, and nothing says which class each is of",
    ),
    "a flat val, and labels of others": (
        lambda r: (shutil.rmtree(r / "val"), folder(r / "val", {**FLAT, "b.JPEG": picture(1)}), kaggle(r)),
        r"val/b.JPEG: no label is given for it",
    ),
    "a truncated tar": (
        lambda r: (shutil.rmtree(r / "train"), (r / "train.tar").write_bytes(tar_of_tars(TRAIN)[:9_000])),
        r"train.tar: truncated: a member at byte [\d,]+ has",
    ),
    "a compressed tar": (
        lambda r: (shutil.rmtree(r / "train"), (r / "train.tar").write_bytes(b"\x1f\x8b" * 999)),
        r"train.tar: no tar header at byte 0; it is compressed, truncated or no tar",
    ),
    "a class that is a link to nowhere": (
        lambda r: (r / "train" / "n02123045").symlink_to("nowhere"),
        r"train/n02123045: a link to what is not here",
    ),
    "Parquet files": (
        lambda r: (shutil.rmtree(r), write_parquet(r / "data/train-00000-of-00001.parquet", TRAIN)),
        r"holds Parquet files, which give no single image; .*: python -m bench data pack imagenet --data",
    ),
    "two series of shards": (
        lambda r: (shutil.rmtree(r / "train"), (r / "a-train-00.tar").touch(), (r / "b-train-00.tar").touch()),
        r"found a-train-\*.tar and b-train-\*.tar; keep one of them",
    ),
    "a shard without labels": (
        lambda r: (
            shutil.rmtree(r / "train"),
            (r / "train-00.tar").write_bytes(tarred({"a.jpg": picture(1), "a.cls": b"0"})),
            (r / "train-01.tar").write_bytes(tarred({"b.jpg": picture(1), "b.cls": b"0", "c.jpg": picture(2)})),
        ),
        r"train-01.tar/c.jpg: no label beside it, where others have one; expected c.cls",
    ),
    "a shard that is missing": (
        lambda r: (
            shutil.rmtree(r / "train"),
            [(r / f"train-{number:02d}.tar").write_bytes(tarred(TRAIN)) for number in (0, 1, 3)],
        ),
        r"train-\*.tar: shard 02 is missing; download it",
    ),
    "a sample of two images": (
        lambda r: (
            shutil.rmtree(r / "train"),
            (r / "train-00.tar").write_bytes(tarred({"a.jpg": picture(1), "a.cls": b"0", "a.png": picture(2)})),
        ),
        r"train-00.tar/a.png: the second image of its sample",
    ),
    "a label that is none": (
        lambda r: (
            shutil.rmtree(r / "train"),
            (r / "train-00.tar").write_bytes(tarred({"a.jpg": picture(1), "a.json": b'{"caption": "a cat"}'})),
        ),
        r"train-00.tar/a.json: found b.*a cat.*; expected a class, a number or a name under cls, label, class_id",
    ),
    **{
        f"a label {label!r}": (
            lambda r, label=label: (
                shutil.rmtree(r / "train"),
                (r / "train-00.tar").write_bytes(tarred({"a.jpg": picture(1), "a.cls": label})),
            ),
            r"train-00.tar/a.cls: found b.*; expected a class, a number or a name",
        )
        for label in (b"..", b".", b".hidden", b"-1", b"a/b", b"a\nb", b"")
    },
    "shards with captions alone": (
        lambda r: (
            shutil.rmtree(r / "train"),
            [
                (r / f"train-0{number}.tar").write_bytes(
                    tarred({f"{number}.jpg": picture(number), f"{number}.txt": b"a"})
                )
                for number in range(2)
            ],
        ),
        r"train-\*.tar: holds images, 0.jpg, 1.jpg, and nothing says which class each is of",
    ),
    "a label of no class": (
        lambda r: (
            shutil.rmtree(r / "train"),
            (r / "train-00.tar").write_bytes(tarred({"a.jpg": picture(1), "a.cls": b"1000"})),
        ),
        r"01000: not one of the 1,000 classes",
    ),
    "a link to an image in a tar": (
        lambda r: (
            shutil.rmtree(r / "train"),
            tar_with_link(r / "train.tar", f"{WNIDS[0]}/link.JPEG", tarfile.LNKTYPE),
        ),
        rf"train.tar: {WNIDS[0]}/link.JPEG is a link, whose images are not in the tar; make it with tar --dereference",
    ),
    "a link to a class in a tar": (
        lambda r: (shutil.rmtree(r / "train"), tar_with_link(r / "train.tar", WNIDS[1], tarfile.SYMTYPE)),
        rf"train.tar: {WNIDS[1]} is a link",
    ),
    "a damaged size in a tar": (
        lambda r: (shutil.rmtree(r / "train"), (r / "train.tar").write_bytes(with_size(b"-0000001024"))),
        r"train.tar: damaged: the member at byte 0 has no size",
    ),
    "a file for a folder": (
        lambda r: (shutil.rmtree(r / "train"), (r / "train").write_bytes(b"")),
        r"train: holds no image, nor a folder of images for each class",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_layout_that_cannot_be_used_is_explained(mistake: str, tmp_path: Path) -> None:
    LAYOUTS["folders"](tmp_path / "here")
    do, message = MISTAKES[mistake]
    do(tmp_path / "here")
    with pytest.raises(UserError, match=message):
        IMAGENET.read(tmp_path / "here")


def test_what_is_no_image_is_not_looked_at(tmp_path: Path) -> None:
    LAYOUTS["folders"](tmp_path)
    (tmp_path / "train" / WNIDS[0] / "._n.JPEG").write_bytes(b"")
    (tmp_path / "train" / WNIDS[0] / "Thumbs.db").write_bytes(b"")
    (tmp_path / "train" / ".DS_Store").write_bytes(b"")
    (tmp_path / "train" / ".hidden").mkdir()
    assert len(parts_of(tmp_path)[0]) == len(TRAIN)


def test_an_index_is_kept_until_a_folder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LAYOUTS["folders"](tmp_path)
    first = index_part(tmp_path / "train", tmp_path / "cache")
    calls = []
    monkeypatch.setattr("bench.data.streamed.index._in_class", lambda where: calls.append(where) or [])
    again = index_part(tmp_path / "train", tmp_path / "cache")
    assert not calls
    assert (again.fingerprint, again.classes) == (first.fingerprint, first.classes)
    monkeypatch.undo()
    (tmp_path / "train" / WNIDS[2] / "new.JPEG").write_bytes(picture(3))
    assert len(index_part(tmp_path / "train", tmp_path / "cache").labels) == len(TRAIN) + 1


def test_images_that_come_to_a_folder_within_a_class_are_seen(tmp_path: Path) -> None:
    """As train/n01443537/images/ of Tiny ImageNet."""
    where = tmp_path / "train"
    nested = {f"{name.replace('/', '/images/')}": data for name, data in TRAIN.items()}
    folder(where, nested)
    first = index_part(where, tmp_path / "cache")
    (where / WNIDS[1] / "images" / "new.JPEG").write_bytes(picture(3))
    second = index_part(where, tmp_path / "cache")
    assert second.paths() - first.paths() == {f"{WNIDS[1]}/images/new.JPEG"}
    (where / WNIDS[1] / "images" / "new.JPEG").unlink()
    assert index_part(where, tmp_path / "cache").paths() == first.paths()


@pytest.mark.parametrize("layout", ["folders", "shards beside each other"])
def test_a_kept_index_serves_whoever_names_the_images_from_elsewhere(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LAYOUTS[layout](tmp_path / "here")
    (tmp_path / "link").symlink_to("here")
    for place, name in (
        (tmp_path, "here"),
        (tmp_path / "here", "."),
        (tmp_path, "link"),
        (tmp_path / "cache", "../here"),
    ):
        place.mkdir(exist_ok=True)
        monkeypatch.chdir(place)
        train, _ = SOURCE.parts(IMAGENET, Path(name))[0]
        assert train.files.path(0).startswith(name) or name == "."
        assert train.files.read(0)


def test_more_tars_are_read_than_a_process_may_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.data.streamed.files.MOST_OPEN", 2)
    before = len(list(Path("/proc/self/fd").iterdir()))
    folder(tmp_path / "train", {f"{number}.tar": tarred({"a.JPEG": picture(number)}) for number in range(6)})
    part = index_part(tmp_path / "train", tmp_path / "cache")
    for _ in range(2):
        assert [part.files.read(place) for place in range(6)] == [picture(number) for number in range(6)]
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    some = part.files[1:3]
    assert some.read(0) == picture(1)
    del part, some
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_slow_disk_is_listed_by_threads_to_the_same_part_and_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    LAYOUTS["folders"](tmp_path)
    first = index_part(tmp_path / "train", tmp_path / "cache")
    monkeypatch.setattr("bench.data.streamed.index.LOCAL_SECONDS", -1.0)
    with caplog.at_level("INFO"):
        again = index_part(tmp_path / "train", tmp_path / "other cache")
    assert (again.fingerprint, again.files.holders) == (first.fingerprint, first.files.holders)
    assert f"listing the folders of {tmp_path / 'train'}: 0 of 2" in caplog.text


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"[]"])
def test_a_damaged_index_is_made_again(damage: bytes, tmp_path: Path) -> None:
    LAYOUTS["folders"](tmp_path)
    first = index_part(tmp_path / "train", tmp_path / "cache")
    (kept,) = (tmp_path / "cache").glob("index-*.npz")
    kept.write_bytes(damage)
    assert index_part(tmp_path / "train", tmp_path / "cache").fingerprint == first.fingerprint


def test_an_index_is_made_where_it_cannot_be_kept(tmp_path: Path) -> None:
    LAYOUTS["folders"](tmp_path)
    (tmp_path / "cache").write_text("")
    assert len(index_part(tmp_path / "train", tmp_path / "cache").labels) == len(TRAIN)


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("length", [20, 99, 100, 101, 150, 240])
def test_members_are_those_of_tarfile(kind: int, length: int, tmp_path: Path) -> None:
    """Long names are stored in three ways."""
    files = {
        f"{'d' * min(length // 2, 90)}/{place}{'n' * (length - length // 2)}": b"x" * place
        for place in (0, 1, 511, 512, 513)
    }
    if kind == tarfile.USTAR_FORMAT and length > 150:
        pytest.skip("too long for this format")
    path = tmp_path / "some.tar"
    path.write_bytes(tarred(files, kind))
    content = path.read_bytes()
    assert {m.name: content[m.offset : m.offset + m.size] for m in tar_members(path)} == files
    with tarfile.open(path) as tar:
        assert [(m.name, m.offset_data, m.size) for m in tar] == [(m.name, m.offset, m.size) for m in tar_members(path)]


def test_damaged_attributes_of_a_member_are_named(tmp_path: Path) -> None:
    path = tmp_path / "some.tar"
    content = tarred({"d" * 120 + "/n.JPEG": b"x"}, tarfile.PAX_FORMAT)
    path.write_bytes(content.replace(b" path=", b" path ", 1).replace(b"137 path", b"abc path", 1))
    with pytest.raises(UserError, match="damaged: the attributes at byte 0 cannot be read"):
        list(tar_members(path))
