"""Local corruptions on disk: made once, the bytes of `corrupt`, made again where they are not what they should be."""

import errno
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from bench.data import local_c
from bench.data.corruptions import apply
from bench.data.corruptions.apply import corrupt
from bench.data.dataset import LabelledImages
from bench.data.local_c import LocalCorruptions
from bench.errors import UserError

TYPE, SEVERITY = "speckle_noise", 4
COUNT = 11


def source(count: int = COUNT, seed: int = 0) -> LabelledImages:
    random = np.random.default_rng(seed)
    images = random.integers(256, size=(count, 16, 16, 3), dtype=np.uint8)
    return LabelledImages(images, random.integers(10, size=count))


def corruptions(root: Path, test: LabelledImages | None = None, variant: str = "official") -> LocalCorruptions:
    return LocalCorruptions("cifar10", variant, test or source(), root)


def expected(test: LabelledImages | None = None, type: str = TYPE, severity: int = SEVERITY) -> np.ndarray:
    images = torch.from_numpy((test or source()).images)
    return corrupt(images, type, severity, torch.arange(len(images)), 0).numpy()


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Return a list of what is corrupted: type, severity and number of images of each call."""
    calls: list[tuple[str, int, int]] = []

    def counting(images: torch.Tensor, type: str, severity: int, index: torch.Tensor, seed: int) -> torch.Tensor:
        calls.append((type, severity, len(images)))
        return corrupt(images, type, severity, index, seed)

    monkeypatch.setattr(apply, "corrupt", counting)
    return calls


def test_a_set_holds_the_bytes_of_corrupt_and_the_labels_of_the_test_images(tmp_path: Path) -> None:
    reader = corruptions(tmp_path)
    for type, severity in ((TYPE, SEVERITY), ("fog", 1), ("jpeg_compression", 5)):
        found = reader.read(type, severity, COUNT)
        assert isinstance(found.images, np.memmap)
        assert found.images.dtype == np.uint8
        assert np.array_equal(found.images, expected(None, type, severity))
        assert np.array_equal(found.labels, source().labels)
        assert found.source == reader.source
    assert "cifar10 (official)" in reader.source
    assert "suite" in reader.source
    assert len(files(tmp_path)) == 3
    assert {file.relative_to(tmp_path).parts[:2] for file in files(tmp_path)} == {("cache", "local-c")}
    by_hand = load_file(files(tmp_path)[-1])
    assert np.array_equal(by_hand["images"], expected())


def test_a_set_is_made_once_and_read_by_every_later_process(
    tmp_path: Path, counted: list[tuple[str, int, int]]
) -> None:
    first = corruptions(tmp_path).read(TYPE, SEVERITY, COUNT)
    (file,) = files(tmp_path)
    made = file.stat().st_mtime_ns
    assert counted == [(TYPE, SEVERITY, COUNT)]
    for reader in (corruptions(tmp_path), corruptions(tmp_path)):
        assert np.array_equal(reader.read(TYPE, SEVERITY, COUNT).images, first.images)
    assert counted == [(TYPE, SEVERITY, COUNT)]
    assert file.stat().st_mtime_ns == made


def test_the_first_images_are_a_part_of_the_same_file(tmp_path: Path, counted: list[tuple[str, int, int]]) -> None:
    part = corruptions(tmp_path).read(TYPE, SEVERITY, 4)
    assert (part.images.shape, part.labels.shape) == ((4, 16, 16, 3), (4,))
    assert np.array_equal(part.images, expected()[:4])
    assert np.array_equal(part.labels, source().labels[:4])
    corruptions(tmp_path).read(TYPE, SEVERITY, COUNT)
    assert len(counted) == 1
    with pytest.raises(UserError, match="12 images asked for; there are 11"):
        corruptions(tmp_path).read(TYPE, SEVERITY, 12)


def test_the_file_of_fewer_test_images_leaves_that_of_more(tmp_path: Path, counted: list[tuple[str, int, int]]) -> None:
    """As the scales of a grid have them, side by side in one data folder."""
    fewer = source().first(5)
    for test in (source(), fewer, source(), fewer):
        found = corruptions(tmp_path, test).read(TYPE, SEVERITY, 5)
        assert np.array_equal(found.images, expected()[:5])
    assert len(counted) == 2


def test_other_test_images_of_the_same_name_are_corrupted_anew(
    tmp_path: Path, counted: list[tuple[str, int, int]]
) -> None:
    corruptions(tmp_path).read(TYPE, SEVERITY, COUNT)
    other = source(seed=1)
    found = corruptions(tmp_path, other).read(TYPE, SEVERITY, COUNT)
    assert np.array_equal(found.images, expected(other))
    assert len(counted) == 2
    one_pixel = source()
    one_pixel.images[3, 0, 0, 0] ^= 1
    assert np.array_equal(corruptions(tmp_path, one_pixel).read(TYPE, SEVERITY, COUNT).images, expected(one_pixel))
    assert len(counted) == 3


def test_variants_and_versions_have_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corruptions(tmp_path).read(TYPE, SEVERITY, COUNT)
    corruptions(tmp_path, variant="images-0123").read(TYPE, SEVERITY, COUNT)
    monkeypatch.setattr(local_c, "VERSION", 2)
    corruptions(tmp_path).read(TYPE, SEVERITY, COUNT)
    assert len(files(tmp_path)) == 3


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip_last_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def replace(file: Path) -> None:
    """Write a safetensors file of something else."""
    save_file({"images": np.zeros((2, 2), np.float32)}, file)


def without_images(file: Path) -> None:
    save_file({"labels": np.zeros(3, np.int64)}, file)


def reshape(file: Path) -> None:
    """Keep the bytes of the images, as images of another shape."""
    from safetensors import safe_open

    with safe_open(file, framework="np") as content:
        metadata, images = content.metadata(), content.get_tensor("images")
    save_file({"images": images.reshape(COUNT, 8, 32, 3)}, file, metadata)


@pytest.mark.parametrize("damage", [truncate, flip_last_byte, empty, lengthen, reshape])
def test_a_damaged_file_is_made_again_with_a_warning_that_names_it(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    corruptions(tmp_path).read(TYPE, SEVERITY, COUNT)
    (file,) = files(tmp_path)
    damage(file)
    with caplog.at_level(logging.WARNING):
        found = corruptions(tmp_path).read(TYPE, SEVERITY, COUNT)
    assert np.array_equal(found.images, expected())
    (record,) = caplog.records
    assert str(file) in record.getMessage()
    assert "corrupted again" in record.getMessage()
    corruptions(tmp_path).read(TYPE, SEVERITY, COUNT)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("foreign", [replace, without_images])
def test_a_file_of_something_else_is_replaced(tmp_path: Path, foreign: Callable[[Path], None]) -> None:
    corruptions(tmp_path).read(TYPE, SEVERITY, COUNT)
    (file,) = files(tmp_path)
    foreign(file)
    assert np.array_equal(corruptions(tmp_path).read(TYPE, SEVERITY, COUNT).images, expected())


@pytest.mark.parametrize("threads", [1, 5])
def test_chunks_and_threads_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(local_c, "CHUNK", 3)
    monkeypatch.setattr(local_c, "cpu_count", lambda: threads)
    for type in ("glass_blur", "elastic_transform", TYPE):
        found = corruptions(tmp_path).read(type, SEVERITY, COUNT)
        assert np.array_equal(found.images, expected(None, type))


def test_unknown_numbers_of_cores_are_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_c, "cpu_count", lambda: None)
    assert np.array_equal(corruptions(tmp_path).read(TYPE, SEVERITY, COUNT).images, expected())


def test_test_images_may_be_read_only(tmp_path: Path) -> None:
    np.save(tmp_path / "test.npy", source().images)
    mapped = LabelledImages(np.load(tmp_path / "test.npy", mmap_mode="r"), source().labels)
    found = corruptions(tmp_path / "data", mapped).read(TYPE, SEVERITY, COUNT)
    assert np.array_equal(found.images, expected())


def refused(root: Path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        corruptions(root).read(TYPE, SEVERITY, COUNT)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in (f"{TYPE}-{SEVERITY}.safetensors", *words) if word not in message] == [], message


def test_a_data_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    refused(tmp_path, str(tmp_path / "cache"), "could not be written")


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device")],
    ids=["OSError", "SafetensorError"],
)
def test_a_full_disk_is_named_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(tensors: dict[str, np.ndarray], file: Path, metadata: dict[str, str]) -> None:
        assert tensors["images"].shape == (COUNT, 16, 16, 3)
        assert metadata
        file.write_bytes(b"the first bytes")
        raise error

    monkeypatch.setattr(local_c, "save_file", full)
    refused(tmp_path, "could not be written", "No space left on device")
    assert files(tmp_path) == []


def test_a_disk_that_loses_bytes_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def losing(tensors: dict[str, np.ndarray], file: Path, metadata: dict[str, str]) -> None:
        save_file({"images": tensors["images"] ^ 1}, file, metadata)

    monkeypatch.setattr(local_c, "save_file", losing)
    refused(tmp_path, "read back differ")
