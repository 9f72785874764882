"""One pass for all tickets: the bits of one ticket at a time, every batch read once, draws that can be repeated."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.data.augment import DeviceImages
from bench.data.dataset import LabelledImages, at_once
from bench.data.stream import Batches, StreamedImages
from bench.errors import UserError
from bench.evaluation import predict as module
from bench.evaluation.networks import normaliser
from bench.evaluation.predict import predict_all
from bench.models import predict as evaluate
from bench.spec.run import RunSpec
from tests.evaluation.stored import FACTS, SPECS, networks_of, normalised, random_images, random_model
from tests.training.runs import CPU

COUNT = 23


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches, the last one partial."""
    monkeypatch.setattr(module, "at_once", lambda _: 10)
    monkeypatch.setattr(evaluate, "at_once", lambda _: 10)


def streamed(spec: RunSpec, source: LabelledImages | None = None) -> StreamedImages:
    return StreamedImages(source or random_images(COUNT), normaliser(spec, CPU))


class Counting:
    """Normalised images that note which parts of them are read."""

    def __init__(self, images: Batches) -> None:
        self.images = images
        self.read: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.images)

    @property
    def side(self) -> int:
        return self.images.side

    def plain(self, start: int, stop: int) -> Tensor:
        self.read.append((start, stop))
        return self.images.plain(start, stop)


@pytest.mark.parametrize(("side", "images"), [(28, 500), (32, 500), (64, 500), (96, 222), (128, 125), (224, 100)])
def test_images_predicted_at_once_are_fewer_where_they_are_large(side: int, images: int) -> None:
    assert at_once(side) == images


@pytest.mark.parametrize("kind", [kind for kind in SPECS if kind != "mc dropout"])
def test_all_tickets_together_predict_what_each_does_alone_to_the_bit(tmp_path: Path, kind: str) -> None:
    spec, source = SPECS[kind], random_images(COUNT)
    networks = networks_of(tmp_path, spec)
    made = predict_all(networks, streamed(spec), "a set")
    images = DeviceImages(source, FACTS.mean, FACTS.std, channels_last=spec.execution.channels_last)
    expected = torch.cat([evaluate.predict(network.model, network.forward, images) for network in networks])
    assert made.logits.dtype == np.float32
    assert made.logits.shape == (spec.tickets * spec.model.members, COUNT, 10)
    assert np.array_equal(made.logits, expected.numpy())
    assert made.seconds >= made.forward_seconds > 0


def test_plain_modules_on_images_normalised_by_numpy_agree(tmp_path: Path) -> None:
    spec = SPECS["two tickets"]
    made = predict_all(networks_of(tmp_path, spec), streamed(spec), "a set")
    with torch.no_grad():
        expected = torch.stack([random_model(spec, ticket)(normalised(random_images(COUNT))) for ticket in (0, 1)])
    np.testing.assert_allclose(made.logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first", [1, 10, 13, COUNT])
def test_the_first_images_are_predicted_as_among_all(tmp_path: Path, first: int) -> None:
    """As training does of the images that it watches."""
    spec = SPECS["two tickets"]
    network = networks_of(tmp_path, spec)[0]
    images = Counting(DeviceImages(random_images(COUNT), FACTS.mean, FACTS.std, channels_last=False))
    whole, part = (
        evaluate.predict(network.model, network.forward, images, part=part) for part in (None, slice(0, first))
    )
    assert part.shape == (1, first, 10)
    torch.testing.assert_close(part, whole[:, :first])
    assert images.read[3:] == [(start, min(start + 10, first)) for start in range(0, first, 10)]


@pytest.mark.parametrize(
    ("count", "parts"), [(23, [(0, 10), (10, 20), (20, 23)]), (20, [(0, 10), (10, 20)]), (1, [(0, 1)])]
)
def test_every_batch_is_read_once_for_all_tickets(tmp_path: Path, count: int, parts: list[tuple[int, int]]) -> None:
    spec = SPECS["two tickets"]
    images = Counting(streamed(spec, random_images(count)))
    assert predict_all(networks_of(tmp_path, spec), images, "a set").logits.shape == (2, count, 10)
    assert images.read == parts


def test_a_file_is_read_in_slices_and_never_whole(tmp_path: Path) -> None:
    source, taken = random_images(COUNT), []

    class OnDisk:
        """Gives copies of slices, and nothing else that an array does."""

        shape = (COUNT, 32, 32, 3)

        def __len__(self) -> int:
            return COUNT

        def __getitem__(self, part: slice) -> np.ndarray:
            taken.append(part)
            return source.images[part]

    spec = SPECS["two tickets"]
    networks = networks_of(tmp_path, spec)
    lazy = LabelledImages(OnDisk(), source.labels)  # type: ignore[arg-type]
    made = predict_all(networks, streamed(spec, lazy), "a set")
    assert taken == [slice(0, 10), slice(10, 20), slice(20, 23)]
    assert np.array_equal(made.logits, predict_all(networks, streamed(spec), "a set").logits)


def test_between_batches_comes_before_each_and_may_end_the_pass(tmp_path: Path) -> None:
    spec = SPECS["two tickets"]
    networks, images = networks_of(tmp_path, spec), Counting(streamed(spec))
    seen: list[int] = []

    class StoppedError(Exception):
        pass

    def check() -> None:
        seen.append(len(images.read))
        if len(seen) == 5:
            raise StoppedError

    predict_all(networks, images, "a set", check)
    assert len(seen) == len(images.read) == 3
    with pytest.raises(StoppedError):
        predict_all(networks, images, "a set", check)
    assert len(seen) == 5  # the second batch was not computed, though it may have been read


def test_what_cannot_be_read_ends_the_pass(tmp_path: Path) -> None:
    spec = SPECS["two tickets"]

    class Damaged(Counting):
        def plain(self, start: int, stop: int) -> Tensor:
            if start == 10:
                raise UserError("image 12 is damaged")
            return super().plain(start, stop)

    with pytest.raises(UserError, match="image 12"):
        predict_all(networks_of(tmp_path, spec), Damaged(streamed(spec)), "a set")
