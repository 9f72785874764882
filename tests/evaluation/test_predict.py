"""One pass for all tickets: the bits of one ticket at a time, every batch read once, draws that can be repeated."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.data.augment import DeviceImages
from bench.data.dataset import LabelledImages
from bench.data.stream import Batches, StreamedImages
from bench.evaluation import predict as module
from bench.evaluation.networks import normaliser
from bench.evaluation.predict import predict_all
from bench.models import predict as evaluate
from bench.spec.run import RunSpec
from bench.spec.seeds import derived_seed
from tests.evaluation.stored import FACTS, SPECS, networks_of, normalised, random_images, random_model
from tests.training.runs import CPU

COUNT = 23
SIZES = module.BATCH, evaluate.BATCH


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches, the last one partial."""
    monkeypatch.setattr(module, "BATCH", 10)
    monkeypatch.setattr(evaluate, "BATCH", 10)


def streamed(spec: RunSpec, source: LabelledImages | None = None) -> StreamedImages:
    return StreamedImages(source or random_images(COUNT), normaliser(spec, CPU))


class Counting:
    """Normalised images that note which parts of them are read."""

    def __init__(self, images: Batches) -> None:
        self.images = images
        self.read: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.images)

    def plain(self, start: int, stop: int) -> Tensor:
        self.read.append((start, stop))
        return self.images.plain(start, stop)


def test_batches_are_as_large_as_those_of_a_run() -> None:
    """Else a ticket's logits would differ by rounding from those that its run would have stored."""
    assert SIZES == (500, 500)


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
    whole, part = (evaluate.predict(network.model, network.forward, images, first=n) for n in (None, first))  # type: ignore[arg-type]
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
    assert seen == [0, 1, 2]
    with pytest.raises(StoppedError):
        predict_all(networks, images, "a set", check)
    assert len(images.read) == 4


def drawn(root: Path, name: str = "a set") -> np.ndarray:
    """Return what a network of three samples predicts of the same two images, over and over."""
    two = random_images(2)
    source = LabelledImages(two.images.repeat(12, axis=0)[:COUNT], two.labels.repeat(12)[:COUNT])
    spec = SPECS["mc dropout"]
    return predict_all(networks_of(root, spec), streamed(spec, source), name).logits


def test_draws_depend_on_the_set_and_the_batch_and_can_be_repeated(tmp_path: Path) -> None:
    first = drawn(tmp_path)
    torch.manual_seed(1)
    assert np.array_equal(first, drawn(tmp_path))
    assert not np.allclose(first, drawn(tmp_path, "another"))
    assert not np.allclose(first[:, :2], first[:, 10:12])
    assert not np.allclose(first[0], first[1])


def test_draws_are_named_by_run_set_batch_and_ticket(tmp_path: Path) -> None:
    """Whoever changes the names changes numbers that are stored."""
    spec = SPECS["mc dropout"]
    networks, images = networks_of(tmp_path, spec), streamed(spec)
    made = predict_all(networks, images, "local-c/fog/3").logits
    sampled: Callable[..., Tensor] = networks[0].model.member_logits  # type: ignore[assignment]
    for start, stop in ((0, 10), (10, 20), (20, 23)):
        seed = derived_seed(spec.stream, "sampling", "local-c/fog/3", start, 0)
        with torch.inference_mode():
            expected = sampled(networks[0].forward, images.plain(start, stop), seed)
        assert np.array_equal(made[:, start:stop], expected.numpy())
