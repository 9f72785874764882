"""Sets opened by name: which reader, with which arguments, and one attempt only at what can not be opened."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data.catalog import DATASETS, OOD, RELEASES
from bench.data.dataset import Split
from bench.data.lazy import EvaluationImages
from bench.data.streamed.source import test_order as order_of_tests
from bench.errors import UserError
from bench.evaluation import open as module
from bench.evaluation.open import EvaluationSets
from bench.evaluation.sets import LOCAL, CorruptedSet, OodSet, RelabelledSet, ShiftSet
from bench.spec.run import DataSpec
from tests.data.cifar_c import write_imagenet_c
from tests.data.images import write_image
from tests.data.shifts import write_shift
from tests.evaluation.stored import random_images
from tests.training.runs import DATA

CIFAR = DataSpec(name="cifar10", train_images=8, validation_images=2, test_images=6)
IMAGENET = DataSpec(name="imagenet", train_images=8, validation_images=2, test_images=6)
TEST = random_images(6)


def opened_images(source: str) -> EvaluationImages:
    return EvaluationImages(TEST.images, TEST.labels, source)


class Reader:
    """Corrupted images that note what is asked of them."""

    def __init__(self, name: str = "", asked: list[tuple[Any, ...]] | None = None) -> None:
        self.name = name
        self.asked: list[tuple[Any, ...]] = [] if asked is None else asked

    def read(self, *arguments: Any) -> EvaluationImages:
        self.asked.append(arguments)
        return opened_images("corrupted")


class Opener:
    """Stands for a function of bench.data: notes calls, and returns or raises what it was made with."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls.append((arguments, named))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class Opened:
    """A record that is opened by an Opener."""

    def __init__(self, record: Any, opener: Opener) -> None:
        self._record, self.open = record, opener

    def __getattr__(self, name: str) -> Any:
        return getattr(self._record, name)


Replace = Callable[[str, Any], Opener]


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Replace:
    """Return a function that puts an Opener in the place of what opens a set, or of a name in the module."""

    def replace(name: str, result: Any) -> Opener:
        opener = Opener(result)
        if name in RELEASES or name in OOD:
            registry = RELEASES if name in RELEASES else OOD
            monkeypatch.setitem(registry, name, Opened(registry[name], opener))
        else:
            monkeypatch.setattr(module, name, opener)
        return opener

    return replace


def sets(root: Path = Path("data"), *, download: bool = False) -> EvaluationSets:
    return EvaluationSets(root, lambda data: Split(TEST, TEST, TEST.first(data.test_images)), download=download)


# -- corrupted ---------------------------------------------------------------------------------------------------------


def test_local_corruptions_are_made_of_the_test_images_of_the_run(tmp_path: Path) -> None:
    """On a reader that is the real one."""
    data = DATA.model_copy(update={"test_images": 6})
    images = sets(tmp_path)
    whole, part = (images.open(CorruptedSet(LOCAL, "brightness", 5, count), data) for count in (None, 4))
    assert whole.images.shape == (6, 32, 32, 3)
    assert np.array_equal(whole.images[:4], part.images)
    assert np.array_equal(whole.labels, TEST.labels)
    assert np.array_equal(part.labels, TEST.labels[:4])
    assert whole.images.astype(float).mean() > TEST.images.astype(float).mean() + 20
    assert "digits (official)" in whole.source


def test_a_reader_is_opened_once_for_all_types_and_runs_on_the_same_images(replaced: Replace) -> None:
    reader = Reader()
    opener = replaced("LocalCorruptions", reader)
    images = sets()
    for type in ("fog", "snow"):
        for severity in (1, 2):
            images.open(CorruptedSet(LOCAL, type, severity), DATA)
    # Another split of the training images has the same test images; fewer test images are others.
    images.open(CorruptedSet(LOCAL, "fog", 1), DATA.model_copy(update={"train_images": 7}))
    assert len(opener.calls) == 1
    images.open(CorruptedSet(LOCAL, "fog", 1, 5), DATA)
    assert len(opener.calls.pop()[0][2].labels) == 5
    images.open(CorruptedSet(LOCAL, "fog", 1), DATA.model_copy(update={"test_images": 6}))
    images.open(CorruptedSet(LOCAL, "fog", 1), DATA.model_copy(update={"variant": "folder-1"}))
    assert len(opener.calls) == 3
    assert reader.asked == [
        *[(type, severity, 60) for type in ("fog", "snow") for severity in (1, 2)],
        *[("fog", 1, 60), ("fog", 1, 5), ("fog", 1, 6), ("fog", 1, 60)],
    ]
    (name, variant, test, root), _ = opener.calls[-1]
    assert (name, variant, len(test.labels), root) == ("digits", "folder-1", 6, Path("data"))


@pytest.mark.parametrize(("name", "family"), [("cifar10", "cifar-10-c"), ("cifar100", "cifar-100-c")])
@pytest.mark.parametrize("download", [True, False])
def test_released_sets_belong_to_the_data(replaced: Replace, name: str, family: str, download: bool) -> None:
    reader = Reader()
    opener = replaced(family, reader)
    data = CIFAR.model_copy(update={"name": name})
    sets(download=download).open(CorruptedSet(family, "fog", 3), data)
    assert opener.calls == [((family, Path("data")), {"download": download, "size": 32})]
    assert reader.asked == [("fog", 3, 6)]


def test_the_released_set_of_other_images_is_refused(replaced: Replace) -> None:
    opener = replaced("cifar-10-c", Reader())
    data = CIFAR.model_copy(update={"variant": "images-0123"})
    with pytest.raises(UserError, match=r"evaluations\.cifar_c: cifar-10-c .*images-0123.*local_c"):
        sets().open(CorruptedSet("cifar-10-c", "fog", 1), data)
    assert opener.calls == []


def test_what_could_not_be_opened_is_not_tried_again(replaced: Replace) -> None:
    opener = replaced("cifar-10-c", UserError("CIFAR-10-C.tar: no network"))
    images = sets()
    for severity in (1, 2, 3):
        with pytest.raises(UserError, match="no network"):
            images.open(CorruptedSet("cifar-10-c", "fog", severity), CIFAR)
    assert len(opener.calls) == 1
    replaced("LocalCorruptions", Reader())
    assert images.open(CorruptedSet(LOCAL, "fog", 1), CIFAR).source == "corrupted"


def test_one_damaged_file_is_no_fault_of_the_others(replaced: Replace) -> None:
    class Damaged(Reader):
        def read(self, *arguments: Any) -> EvaluationImages:
            if arguments[0] == "fog":
                raise UserError("fog.npy: damaged")
            return super().read(*arguments)

    replaced("cifar-10-c", Damaged())
    images = sets()
    for _ in range(2):
        with pytest.raises(UserError, match=r"fog\.npy"):
            images.open(CorruptedSet("cifar-10-c", "fog", 1), CIFAR)
        assert images.open(CorruptedSet("cifar-10-c", "snow", 1), CIFAR).source == "corrupted"


@pytest.mark.parametrize("images", [None, 3])
def test_imagenet_c_is_read_whole_if_it_is_of_the_size_asked_for(tmp_path: Path, images: int | None) -> None:
    write_imagenet_c(tmp_path / "ImageNet-C", ("snow",), (2,), {"n01440764": 2, "n15075141": 1})
    asked = CorruptedSet("imagenet-c" if images is None else f"imagenet-c-{images}", "snow", 2)
    if images is None:
        with pytest.raises(UserError, match=r"imagenet-c is asked for, .* is imagenet-c-3; set images"):
            sets(tmp_path).open(asked, IMAGENET)
    else:
        assert sets(tmp_path).open(asked, IMAGENET).labels.tolist() == [
            [0, 0, 999][place] for place in order_of_tests("imagenet", 3)
        ]


# -- out of distribution -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [CIFAR, IMAGENET])
def test_ood_images_have_the_size_of_the_runs_own(replaced: Replace, data: DataSpec) -> None:
    opener = replaced("svhn", opened_images("svhn"))
    assert sets().open(OodSet("svhn", None, 50), data).source == "svhn"
    size = DATASETS[data.name].image_size
    assert opener.calls == [((size, 50, Path("data")), {"download": False, "progress": False})]


def test_an_ood_set_is_opened_once_and_tried_once(replaced: Replace) -> None:
    opener = replaced("svhn", opened_images("svhn"))
    images = sets()
    first = images.open(OodSet("svhn"), CIFAR)
    assert images.open(OodSet("svhn"), CIFAR) is first
    assert len(opener.calls) == 1
    more = replaced("mnist", opened_images("mnist"))
    for other, data in (
        (OodSet("svhn", None, 5), CIFAR),
        (OodSet("mnist"), CIFAR),
        (OodSet("svhn"), IMAGENET),
    ):
        images.open(other, data)
    assert (len(opener.calls), len(more.calls)) == (3, 1)
    failing = replaced("mnist", UserError("mnist: no network"))
    for _ in range(3):
        with pytest.raises(UserError, match="no network"):
            images.open(OodSet("mnist", None, 9), CIFAR)
    assert len(failing.calls) == 1


def test_noise_and_digits_need_no_file(tmp_path: Path) -> None:
    noise = sets(tmp_path).open(OodSet("gaussian", None, 12), DATA)
    digits = sets(tmp_path).open(OodSet("digits", None, 7), CIFAR)
    assert (noise.images.shape, digits.images.shape) == ((12, 32, 32, 3), (7, 32, 32, 3))
    assert set(noise.labels) == set(digits.labels) == {-1}


def test_a_folder_of_ones_own_is_found_where_it_is_said_to_be(tmp_path: Path) -> None:
    for number in range(3):
        write_image(tmp_path / "cats" / f"{number}.png", (number, 5, 6), (40, 50))
    asked = OodSet("cats", str(tmp_path / "cats"), 2)
    found = sets(tmp_path / "data").open(asked, DATA)
    assert found.images.shape == (2, 32, 32, 3)
    assert found.images[0:2][:, 0, 0, 0].tolist() == [0, 1]
    missing = OodSet("dogs", str(tmp_path / "dogs"))
    with pytest.raises(UserError, match="dogs: no such folder"):
        sets(tmp_path).open(missing, DATA)


def test_images_of_another_place_are_seen_at_the_size_of_the_runs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shift(tmp_path, "imagenet_r", monkeypatch)
    images = sets(tmp_path)
    found = images.open(ShiftSet("imagenet_r"), IMAGENET)
    assert found.images.shape == (4, 224, 224, 3)
    assert images.open(ShiftSet("imagenet_r"), IMAGENET) is found
    assert images.open(ShiftSet("imagenet_r", 3), IMAGENET).labels.tolist() == found.labels.tolist()[:3]


def test_other_labels_are_of_the_test_images_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text(json.dumps([[], [7], [8, 9], *([[]] * 49_997)]))
    file_names = np.array([b"ILSVRC2012_val_00000003.JPEG", b"ILSVRC2012_val_00000001.JPEG"])
    split = Split(TEST, TEST, TEST.first(2), file_names)
    images = EvaluationSets(tmp_path, lambda _: split)
    assert images.label_pairs(RelabelledSet("imagenet_real"), IMAGENET)[0].tolist() == [[0, 8], [0, 9]]
    with pytest.raises(UserError, match="labels/imagenet_real: the test images of imagenet have no file names"):
        sets(tmp_path).label_pairs(RelabelledSet("imagenet_real"), IMAGENET)


def test_test_images_are_asked_for_only_where_they_are_corrupted(replaced: Replace) -> None:
    replaced("cifar-10-c", Reader())
    replaced("svhn", opened_images("svhn"))

    def split(_: DataSpec) -> Split:
        raise AssertionError("loaded")

    images = EvaluationSets(Path("data"), split)
    images.open(CorruptedSet("cifar-10-c", "fog", 1), CIFAR)
    images.open(OodSet("svhn"), CIFAR)
    with pytest.raises(AssertionError):
        images.open(CorruptedSet(LOCAL, "fog", 1), CIFAR)
