"""ImageNet-C: any part of it is read in one order, its size is its name, and what does not fit is named."""

import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data.sets import imagenet_c
from bench.data.sets.imagenet import IMAGENET
from bench.data.sets.imagenet_c import find_imagenet_c, open_imagenet_c
from bench.data.streamed.source import test_order as order_of_tests
from bench.errors import UserError
from tests.data.cifar_c import write_imagenet_c
from tests.data.images import write_image

# Positions 0, 404 and 999 of the sorted classes: tench, airliner, and the last one.
CLASSES = {"n15075141": 1, "n02690373": 2, "n01440764": 2}
LABELS = [0, 0, 404, 404, 999]
FIRST = "n01440764/ILSVRC2012_val_00000000.JPEG"
# In which the images, sorted by class and name, are taken.
ORDER = order_of_tests("imagenet", 5)


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path / "kept"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two types in groups, one without, at severities of their own."""
    folder = tmp_path / "data" / "ImageNet-C"
    write_imagenet_c(folder, ("fog", "snow"), (1, 5), CLASSES, "weather")
    write_imagenet_c(folder, ("saturate",), (3,), CLASSES)
    return folder


def test_types_severities_and_name_are_those_that_are_there(folder: Path) -> None:
    for root in (folder, folder.parent):
        found = open_imagenet_c(root)
        assert (found.types, found.where) == (("fog", "saturate", "snow"), folder)
        assert [found.severities(type) for type in found.types] == [(1, 5), (3,), (1, 5)]
        assert (found.name, found.count) == ("imagenet-c-5", 5)


def test_only_all_images_have_the_plain_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet_c, "IMAGENET_C", replace(imagenet_c.IMAGENET_C, images=5))
    assert open_imagenet_c(folder).name == "imagenet-c"


def test_images_are_decoded_slice_by_slice_in_one_order(folder: Path) -> None:
    read = open_imagenet_c(folder).read("snow", 5)
    assert read.images.shape == (5, 224, 224, 3)
    assert (read.labels.tolist(), read.labels.dtype) == ([LABELS[place] for place in ORDER], np.int64)
    sorted_paths = sorted((folder / "weather" / "snow" / "5").rglob("*.JPEG"))
    paths = [sorted_paths[place] for place in ORDER]
    expected = np.stack([np.asarray(Image.open(path)) for path in paths])
    assert np.array_equal(read.images[0:5], expected)
    assert np.array_equal(read.images[1:3], expected[1:3])
    assert np.array_equal(read.images[3:100], expected[3:])
    assert read.images[5:].shape == (0, 224, 224, 3)
    # The colour of JPEG is close to what was written: type, severity, number.
    fourth = list(ORDER).index(3)
    assert np.abs(read.images[fourth : fourth + 1].mean(axis=(0, 1, 2)) - [40, 200, 40]).max() < 2


def test_the_first_images_are_those_of_the_clean_test_set(folder: Path) -> None:
    whole, part = (open_imagenet_c(folder).read("snow", 5, images) for images in (None, 3))
    assert part.labels.tolist() == whole.labels.tolist()[:3]
    assert np.array_equal(part.images[0:3], whole.images[0:3])


def test_images_are_resized_for_networks_of_another_size(folder: Path) -> None:
    small, large = (open_imagenet_c(folder).read("snow", 5, size=size).images[0:2] for size in (32, 224))
    assert small.shape == (2, 32, 32, 3)
    assert np.abs(small.mean(axis=(1, 2)) - large.mean(axis=(1, 2))).max() < 2


def test_the_tars_of_the_release_are_read_in_place(folder: Path) -> None:
    expected = {}
    for type, severity in (("fog", 1), ("snow", 5), ("saturate", 3)):
        read = open_imagenet_c(folder).read(type, severity)
        expected[type, severity] = read.images[0:5], read.labels.tolist(), read.source
    for group, types in (("weather", ("weather/fog", "weather/snow")), ("extra", ("saturate",))):
        with tarfile.open(folder / f"{group}.tar", "w") as tar:
            for type in types:
                tar.add(folder / type, type.rpartition("/")[2])
    shutil.rmtree(folder / "weather")
    shutil.rmtree(folder / "saturate")
    found = open_imagenet_c(folder)
    assert (found.types, found.severities("fog"), found.count) == (("fog", "saturate", "snow"), (1, 5), 5)
    for (type, severity), (images, labels, source) in expected.items():
        read = found.read(type, severity)
        assert np.array_equal(read.images[0:5], images)
        assert (read.labels.tolist(), read.source) == (labels, source)
    with pytest.raises(UserError, match=r"weather\.tar/fog/2: no such folder"):
        found.read("fog", 2)


def test_labels_are_positions_among_a_thousand_sorted_classes() -> None:
    wnids = IMAGENET.class_names
    assert (list(wnids), len(wnids)) == (sorted(wnids), 1000)
    assert [wnids.index(wnid) for wnid in ("n01440764", "n02123045", "n02690373", "n15075141")] == [0, 281, 404, 999]


def test_the_source_tells_sets_of_other_files_apart(folder: Path) -> None:
    found = open_imagenet_c(folder)
    source = found.read("fog", 1).source
    assert source == open_imagenet_c(folder).read("fog", 1).source
    for place in (("weather", "fog", "1"), ("weather", "fog", "5")):
        path = folder.joinpath(*place, FIRST)
        path.rename(path.with_name("other.JPEG"))
    assert open_imagenet_c(folder).read("fog", 1).source != source
    assert found.types == ("fog", "saturate", "snow")


def test_hidden_and_other_files_are_no_images(folder: Path) -> None:
    inside = folder / "weather" / "fog" / "1" / "n01440764"
    (inside / "._ILSVRC2012_val_00000000.JPEG").write_bytes(b"of another system")
    (inside / "readme.txt").write_text("text")
    (folder / ".git").mkdir()
    assert sorted(open_imagenet_c(folder).read("fog", 1).labels.tolist()) == LABELS


def test_damaged_images_are_named_when_they_are_read(folder: Path) -> None:
    path = folder / "weather" / "fog" / "5" / FIRST
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"no image", b""):
        path.write_bytes(damaged)
        read = open_imagenet_c(folder).read("fog", 5)
        first = list(ORDER).index(0)
        assert len(read.images[first + 1 :]) == 4 - first
        with pytest.raises(UserError, match=f"{path}: cannot be decoded"):
            read.images[: first + 1]
    write_image(path, (0, 0, 0), (224, 200))
    with pytest.raises(UserError, match=f"{path}: 224x200 pixels, not 224x224"):
        open_imagenet_c(folder).read("fog", 5).images[:]


def test_an_image_that_is_not_everywhere_is_named(folder: Path) -> None:
    found = open_imagenet_c(folder)
    (folder / "weather" / "snow" / "5" / FIRST).unlink()
    with pytest.raises(UserError, match=f"snow/5/{FIRST}: missing, but .*fog/1/{FIRST} is there"):
        found.read("snow", 5)
    write_image(folder / "saturate" / "3" / "n01440764" / "more.JPEG", (0, 0, 0), (224, 224))
    with pytest.raises(UserError, match=r"fog/1/n01440764/more\.JPEG: missing, but .*saturate/3/n01440764/more"):
        found.read("saturate", 3)
    assert sorted(found.read("snow", 1).labels.tolist()) == LABELS


def test_a_class_that_imagenet_has_not_is_named(folder: Path) -> None:
    strange = folder / "saturate" / "3" / "n00000000"
    write_image(strange / "one.JPEG", (0, 0, 0), (224, 224))
    found = open_imagenet_c(folder)
    with pytest.raises(UserError, match=f"{strange}: not one of the 1,000 classes"):
        found.read("saturate", 3)
    assert len(found.read("fog", 1).labels) == 5


def test_what_is_not_there_is_said(folder: Path) -> None:
    found = open_imagenet_c(folder)
    with pytest.raises(UserError, match=r"fog/2: no such folder; expected \[group/\]<type>"):
        found.read("fog", 2)
    with pytest.raises(UserError, match="no folder frost; found: fog, saturate, snow"):
        found.read("frost", 1)
    with pytest.raises(ValueError, match="no type 'rain'"):
        found.read("rain", 1)
    shutil.rmtree(folder / "weather" / "snow" / "5")
    (folder / "weather" / "snow" / "5" / "n01440764").mkdir(parents=True)
    with pytest.raises(UserError, match="snow/5/n01440764: holds no image"):
        found.read("snow", 5)


def test_folders_that_mean_nothing_are_refused(folder: Path) -> None:
    (folder / "saturate" / "6").mkdir()
    with pytest.raises(UserError, match="saturate: folder '6'; expected the severities, 1, 2"):
        open_imagenet_c(folder).severities("saturate")
    (folder / "noise" / "gausian_noise").mkdir(parents=True)
    with pytest.raises(UserError, match="gausian_noise is not a type of corruption; did you mean 'gaussian_noise'"):
        open_imagenet_c(folder)


def test_a_type_that_is_there_twice_is_refused(folder: Path) -> None:
    shutil.copytree(folder / "weather" / "fog", folder / "fog")
    with pytest.raises(UserError, match="the same type is in"):
        open_imagenet_c(folder)


def test_a_type_without_severities_is_refused(folder: Path) -> None:
    (folder / "frost").mkdir()
    with pytest.raises(UserError, match="frost: no folder of a severity"):
        open_imagenet_c(folder).severities("frost")


def test_without_any_type_the_message_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError) as caught:
            open_imagenet_c(root)
        for words in (str(root), "<type>/<severity>/<wnid>/<name>.JPEG", "zenodo.org/records/2235448", "ImageNet-C"):
            assert words in str(caught.value)


def test_the_folder_is_found_in_small_letters_too(tmp_path: Path) -> None:
    assert find_imagenet_c(tmp_path / "nowhere") is None
    assert find_imagenet_c(tmp_path) is None
    (tmp_path / "imagenet-c").mkdir()
    assert find_imagenet_c(tmp_path) == tmp_path / "imagenet-c"
