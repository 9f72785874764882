"""Every layout that people have gives the same images and labels; every other says what is wrong."""

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

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
