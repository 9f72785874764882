"""The sheet of samples: the first test image, then what it becomes, type by type and severity by severity."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from bench.data.dataset import Split
from bench.data.lazy import EvaluationImages
from bench.errors import UserError
from bench.evaluation.open import EvaluationSets
from bench.evaluation.samples import write_samples
from bench.evaluation.sets import LOCAL, CorruptedSet, OodSet, TicketSet
from bench.spec.run import DataSpec
from bench.store.samples import samples_file
from bench.store.store import Store
from tests.evaluation.stored import random_images
from tests.training.runs import DATA

TEST = random_images(4)
DIGITS = DATA.model_copy(update={"test_images": 4})


def value(type: str, severity: int) -> int:
    return len(type) * 10 + severity


class FakeSets(EvaluationSets):
    """Images of a colour that says which set they are; of those in `without` there are none."""

    def __init__(self, *without: TicketSet) -> None:
        super().__init__(Path("nowhere"), lambda _: Split(TEST, TEST, TEST))
        self.without = without

    def open(self, asked: TicketSet, data: DataSpec) -> EvaluationImages:
        assert data == DIGITS
        assert isinstance(asked, CorruptedSet), "only corrupted sets are shown"
        if asked in self.without:
            raise UserError(f"{asked.name}: not to be had")
        images = np.full((3, 32, 32, 3), value(asked.type, asked.severity), dtype=np.uint8)
        images[1:] = 0
        return EvaluationImages(images, TEST.labels[:3], "fake")


def asked_for(family: str = LOCAL) -> list[TicketSet]:
    """Return sets in an order that is nobody's."""
    return [CorruptedSet(family, type, severity) for severity in (5, 1, 3) for type in ("snow", "brightness")]


def written(root: Path, images: EvaluationSets, sets: list[TicketSet], family: str = LOCAL) -> dict[str, np.ndarray]:
    write_samples(Store(root), images, DIGITS, TEST, sets)
    file = root / "samples" / "digits" / f"{family}.safetensors"
    assert file == samples_file(Store(root), "digits", family)
    return load_file(file)


def test_a_tensor_a_type_holds_the_clean_image_then_the_severities_in_order(tmp_path: Path) -> None:
    tensors = written(tmp_path, FakeSets(), [*asked_for(), OodSet("svhn")])
    assert sorted(tensors) == ["brightness", "severities", "snow"]
    assert tensors["severities"].tolist() == [1, 3, 5]
    for type in ("snow", "brightness"):
        assert tensors[type].shape == (4, 32, 32, 3)
        assert tensors[type].dtype == np.uint8
        assert np.array_equal(tensors[type][0], TEST.images[0])
        for position, severity in enumerate((1, 3, 5), start=1):
            assert (tensors[type][position] == value(type, severity)).all()


def test_a_type_of_which_a_severity_is_missing_is_left_out(tmp_path: Path) -> None:
    tensors = written(tmp_path, FakeSets(CorruptedSet(LOCAL, "snow", 3)), asked_for())
    assert sorted(tensors) == ["brightness", "severities"]
    assert tensors["severities"].tolist() == [1, 3, 5]


def test_each_family_has_a_file_and_one_without_images_has_none(tmp_path: Path) -> None:
    sets = [*asked_for(), *asked_for("cifar-10-c"), *asked_for("local-c-v2")]
    tensors = written(tmp_path, FakeSets(*asked_for("cifar-10-c")), sets, "local-c-v2")
    assert sorted(tensors) == ["brightness", "severities", "snow"]
    assert sorted(path.name for path in (tmp_path / "samples" / "digits").iterdir()) == [
        "local-c-v2.safetensors",
        "local-c.safetensors",
    ]


@pytest.mark.parametrize("sets", [[], [OodSet("svhn")]])
def test_without_corrupted_sets_nothing_is_written(tmp_path: Path, sets: list[TicketSet]) -> None:
    write_samples(Store(tmp_path), FakeSets(), DIGITS, TEST, sets)
    assert list(tmp_path.iterdir()) == []


def test_the_real_corruptions_of_a_real_image(tmp_path: Path) -> None:
    images = EvaluationSets(tmp_path / "data", lambda _: Split(TEST, TEST, TEST))
    sets: list[TicketSet] = [CorruptedSet(LOCAL, "contrast", severity, 2) for severity in (1, 5)]
    tensors = written(tmp_path, images, sets)
    spread = tensors["contrast"].reshape(3, -1).std(axis=1)
    assert spread[0] > spread[1] > spread[2]
    opened = images.open(sets[1], DIGITS)
    assert np.array_equal(tensors["contrast"][2], opened.images[0])
