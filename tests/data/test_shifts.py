"""Sets of ImageNet's classes and of none of them: labels, order and numbers worked out by hand; odd folders refused."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.data.catalog import OOD, SHIFTED, SHOWN
from bench.data.inventory import inventory, prepare, verify
from bench.data.lazy import EvaluationImages
from bench.data.sets.imagenet import IMAGENET
from bench.data.sets.imagenet_shift import IMAGENET_A, IMAGENET_R, IMAGENET_REAL
from bench.data.streamed.decode import evaluated
from bench.data.streamed.source import test_order as order_of_tests
from bench.errors import UserError
from tests.data.images import write_image
from tests.data.records import change_set
from tests.data.shifts import WNIDS, write_folders, write_openood, write_shift

LABELS = [2, 10, 100, 100]


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def opened(name: str, root: Path, images: int | None = None, size: int = 32) -> EvaluationImages:
    return (SHIFTED | OOD)[name].open(size, images, root, download=False, progress=False)


# -- other images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIFTED)
def test_labels_are_places_among_all_sorted_classes(
    name: str, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of V2 too, whose folders "10" and "100" come before "2" when they are sorted as text."""
    folder = write_shift(data_folder, name, monkeypatch)
    read = opened(name, data_folder)
    # Files sorted by folder name, then taken in the fixed order of the set's name.
    by_name = [10, 100, 100, 2] if name == "imagenet_v2" else LABELS
    assert read.labels.tolist() == [by_name[place] for place in order_of_tests(name, 4)]
    assert read.labels.dtype == np.int64
    red = read.images[0:4].mean(axis=(1, 2))[:, 0]
    assert np.abs(red - [50 * LABELS[:3].index(label) for label in read.labels]).max() < 4
    assert opened(name, data_folder, 2).labels.tolist() == read.labels.tolist()[:2]
    file = next(folder.rglob("0.JPEG"))
    label = 2 if file.parent.name in ("2", WNIDS[0]) else 10 if file.parent.name in ("10", WNIDS[1]) else 100
    place = read.labels.tolist().index(label)
    assert np.array_equal(read.images[place : place + 1][0], evaluated(file.read_bytes(), 32).numpy())


def test_a_tar_is_read_in_place(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_shift(data_folder, "imagenet_r", monkeypatch)
    whole = opened("imagenet_r", data_folder)
    pixels = whole.images[0:4]
    with tarfile.open(data_folder / "imagenet-r.tar", "w") as tar:
        tar.add(folder, "imagenet-r")
    shutil.rmtree(folder)
    read = opened("imagenet_r", data_folder)
    assert (read.labels.tolist(), read.source) == (whole.labels.tolist(), whole.source)
    assert np.array_equal(read.images[0:4], pixels)


def test_a_and_r_have_200_of_the_classes() -> None:
    for images in (IMAGENET_A, IMAGENET_R):
        assert len(set(images.wnids)) == 200
        assert [IMAGENET.class_names[label] for label in images.labels] == list(images.wnids) == sorted(images.wnids)
    # The first ones that their authors list: stingray and junco; goldfish and great white shark.
    assert (IMAGENET_A.labels[:2].tolist(), IMAGENET_R.labels[:2].tolist()) == ([6, 11], [1, 2])


Change = Callable[[Path], object]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("imagenet_v2", lambda f: (f / "2").rename(f / "two"), "two: not a class; expected folders 0 to 999"),
        ("imagenet_v2", lambda f: (f / "2").rename(f / "1000"), "1000: not a class; expected folders 0 to 999"),
        ("imagenet_v2", lambda f: (f / "2").rename(f / "-1"), "-1: not a class"),
        ("imagenet_v2", lambda f: (f / "2").rename(f / "\u0662"), "not a class"),
        ("imagenet_v2", lambda f: (f / "2").rename(f / WNIDS[0]), f"{WNIDS[0]}: not a class"),
        ("imagenet_v2", lambda f: write_image(f / "02" / "0.JPEG", (0, 0, 0)), "two folders of one class"),
        ("imagenet_v2", lambda f: shutil.rmtree(f / "10"), f"no folder of 1 of the 3 classes: {WNIDS[1]}"),
        ("imagenet_a", lambda f: shutil.rmtree(f / WNIDS[2]), f"no folder of 1 of the 3 classes: {WNIDS[2]}"),
        ("imagenet_a", lambda f: (f / WNIDS[0]).rename(f / "2"), "2: not one of the 1,000 classes"),
        (
            "imagenet_r",
            lambda f: write_image(f / IMAGENET.class_names[3] / "0.JPEG", (0, 0, 0)),
            f"{IMAGENET.class_names[3]}: a class of ImageNet, but none of the 3 of imagenet_r",
        ),
        ("imagenet_r", lambda f: (f / WNIDS[2] / "1.JPEG").unlink(), "3 images; imagenet_r has 4: extract it again"),
        ("imagenet_sketch", lambda f: write_image(f / "0.JPEG", (0, 0, 0)), None),
        ("imagenet_sketch", lambda f: (f / WNIDS[0] / "0.JPEG").unlink(), "holds no image"),
        ("imagenet_sketch", shutil.rmtree, "no sketch/<class>/<image> here. By hand: extract the archive of https://"),
    ],
)
def test_another_layout_is_one_message(
    name: str, change: Change, message: str | None, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(write_shift(data_folder, name, monkeypatch))
    if message is None:  # a file beside the folders is none of the images
        assert len(opened(name, data_folder).labels) == 4
        return
    with pytest.raises(UserError) as refused:
        opened(name, data_folder)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_all_images_are_used_where_there_are_fewer(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shift(data_folder, "imagenet_a", monkeypatch)
    assert len(opened("imagenet_a", data_folder, 5).labels) == 4


# -- other labels ------------------------------------------------------------------------------------------------------


def names(*numbers: int) -> list[str]:
    return [f"ILSVRC2012_val_{number:08d}.JPEG" for number in numbers]


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be four validation images."""
    monkeypatch.setitem(vars(IMAGENET_REAL), "images", 4)


def put_real(root: Path, content: object) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "real.json").write_text(json.dumps(content))


@pytest.mark.usefixtures("four")
def test_labels_belong_to_images_by_the_number_in_their_name(data_folder: Path) -> None:
    put_real(data_folder, [[], [970, 795], [230], [999]])
    pairs, source = IMAGENET_REAL.pairs(data_folder, names(4, 1, 2))
    assert pairs.tolist() == [[0, 999], [2, 970], [2, 795]]
    assert IMAGENET_REAL.pairs(data_folder, names(4, 1, 3))[1] != source
    assert IMAGENET_REAL.pairs(data_folder, names(1))[0].shape == (0, 2)


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(
    ("content", "files", "message"),
    [
        ([[1]] * 3, names(1), "expected a list of 4 lists of different labels, 0 to 999"),
        ([[1], [2], [3], [1000]], names(1), "expected a list of 4"),
        ([[1], [2], [3], [True]], names(1), "expected a list of 4"),
        ([[1], [2], [3], [4, 4]], names(1), "expected a list of 4"),
        ([[1], [2], [3], 4], names(1), "expected a list of 4"),
        ({"1": [1]}, names(1), "expected a list of 4"),
        ([[1]] * 4, ["photo_1.JPEG"], "photo_1.JPEG is none of those by its name"),
        ([[1]] * 4, names(5), "ILSVRC2012_val_00000005.JPEG is none of those"),
        ([[1]] * 4, names(0), "is none of those"),
        ([[1]] * 4, names(2, 2), "two test images have the name of the same validation image"),
    ],
)
def test_other_labels_or_images_are_one_message(
    content: object, files: list[str], message: str, data_folder: Path
) -> None:
    put_real(data_folder, content)
    with pytest.raises(UserError) as refused:
        IMAGENET_REAL.pairs(data_folder, files)
    assert message in str(refused.value)
    assert "real.json" in str(refused.value)


def test_absent_and_damaged_labels_are_said(data_folder: Path) -> None:
    assert IMAGENET_REAL.listed(data_folder).state == "absent"
    put_real(data_folder, [[1]])
    assert [row.state for row in verify("imagenet_real", data_folder, None)] == ["damaged"]
    with pytest.raises(UserError, match=r"imagenet_real: .*expected a list of 50,000"):
        prepare("imagenet_real", data_folder, None, False)


# -- none of the classes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ninco", "textures"])
@pytest.mark.parametrize("place", ["", "openood"])
def test_the_images_of_openood_are_those_on_its_list(name: str, place: str, data_folder: Path) -> None:
    write_openood(data_folder / place, name)
    read = opened(name, data_folder)
    assert read.labels.tolist() == [-1, -1, -1]
    reds = [0, 0, 50]  # of a/0, a/1 and b/0
    expected = [reds[index] for index in order_of_tests(name, 3)]
    assert np.abs(read.images[0:3].mean(axis=(1, 2))[:, 0] - expected).max() < 4
    assert opened(name, data_folder, 2).images.shape == (2, 32, 32, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda file: file.unlink(),
            "no benchmark_imglist/imagenet/test_ninco.txt here. By hand: put lists and folders",
        ),
        (lambda file: file.write_text("\n"), "test_ninco.txt: names no image"),
        (lambda file: file.write_text("some/a/0.JPEG\n"), "expected lines of a path and a label, found the path ''"),
        (lambda file: file.write_text("../x.JPEG -1\n"), "found the path '../x.JPEG'"),
        (
            lambda file: file.write_text("some/a/7.JPEG -1\nsome/a/0.JPEG -1\n"),
            "some/a/7.JPEG: missing, like 1 of the 2",
        ),
        (lambda file: file.write_bytes(b"some/\xff.JPEG -1\n"), "missing, like 1 of the 1"),
    ],
)
def test_a_list_that_does_not_fit_is_one_message(change: Change, message: str, data_folder: Path) -> None:
    change(write_openood(data_folder, "ninco"))
    with pytest.raises(UserError) as refused:
        opened("ninco", data_folder)
    assert message in str(refused.value)


def test_imagenet_o_is_all_images_of_its_folder(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folders(data_folder / "imagenet-o", {"n01443537": 1, "n09999999": 2})
    with pytest.raises(UserError, match=r"imagenet-o: 3 images; imagenet_o has 2,000"):
        opened("imagenet_o", data_folder)
    change_set("imagenet_o", monkeypatch, images=3)
    assert opened("imagenet_o", data_folder).labels.tolist() == [-1, -1, -1]


# -- bench data --------------------------------------------------------------------------------------------------------


def test_each_set_is_listed_with_where_to_get_it(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {row.name: row for row in inventory(data_folder)}
    sets = (*SHIFTED, "imagenet_real", "imagenet_o", "ssb_hard", "ninco", "inaturalist", "textures", "openimage_o")
    for name in sets:
        assert rows[name].state == "absent"
        assert "https://" in rows[name].note
    folder = write_shift(data_folder, "imagenet_a", monkeypatch)
    write_openood(data_folder, "ninco")
    rows = {row.name: row for row in inventory(data_folder)}
    assert (rows["imagenet_a"].state, rows["imagenet_a"].where, rows["imagenet_a"].images) == ("ready", folder, 4)
    assert (rows["ninco"].state, rows["ninco"].images) == ("ready", 3)
    assert [row.state for row in verify("imagenet_a", data_folder, None)] == ["intact"]
    (folder / WNIDS[0] / "0.JPEG").write_bytes(b"no image")
    (row,) = verify("imagenet_a", data_folder, None)
    assert (row.state, f"{WNIDS[0]}/0.JPEG: cannot be decoded" in row.note) == ("damaged", True)
    shutil.rmtree(folder / WNIDS[1])
    assert SHOWN["imagenet_a"].listed(data_folder).state == "damaged"  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"imagenet_a: .*no folder of 1 of the 3 classes"):
        prepare("imagenet_a", data_folder, None, False)
