"""The images of runs: loaded once, recorded in the store, and made by one of several processes that want them."""

import logging
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from bench.data import loading, sources
from bench.data.alone import alone
from bench.data.cache import default_root
from bench.data.loading import ImageLoader
from bench.data.streamed import decode
from bench.data.streamed.decode import evaluated
from bench.errors import UserError
from bench.spec.run import DataSpec
from bench.store.store import Store
from tests.data.images import TEST, TRAIN, ImageFolder
from tests.data.streamed.photographs import write_imagenet

ROOT = Path(__file__).resolve().parents[2]
DIGITS = DataSpec(name="digits", train_images=100, validation_images=20, test_images=30)


def cifar(variant: str) -> DataSpec:
    return DataSpec(
        name="cifar10", variant=variant, train_images=10 * TRAIN - 20, validation_images=20, test_images=10 * TEST
    )


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FREETICKETS_DATA", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.mark.usefixtures("root")
def test_a_split_is_kept_until_another_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    load = loading.load
    monkeypatch.setattr(loading, "load", lambda *given, **named: calls.append(given) or load(*given, **named))
    images = ImageLoader(Store(tmp_path / "store"))
    first = images.load(DIGITS)
    assert (len(first.train.labels), len(first.validation.labels), len(first.test.labels)) == (100, 20, 30)
    assert images.load(DIGITS.model_copy()) is first
    assert len(images.load(DIGITS.model_copy(update={"test_images": 5})).test.labels) == 5
    assert len(calls) == 2


def test_test_images_that_stay_in_their_files_are_decoded_when_a_slice_is_read(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 50,000 of ImageNet would be 7.5 GB, in each process that trains."""
    write_imagenet(root / "imagenet", train=2, val=2)
    decoded: list[int] = []
    monkeypatch.setattr(decode, "evaluated", lambda data, size: decoded.append(1) or evaluated(data, size))
    variant = sources.variant_of("imagenet", root / "imagenet")
    spec = DataSpec(name="imagenet", variant=variant, train_images=4, validation_images=2, test_images=5)
    split = ImageLoader(Store(tmp_path / "store")).load(spec)
    assert len(decoded) == 2  # those that validate
    test = split.test.first(4)
    assert (len(decoded), test.images.shape, len(test.labels)) == (2, (4, 224, 224, 3), 4)
    assert split.test_names is not None
    assert len(split.test_names) == 5
    assert np.array_equal(test.images[1:3], split.test.images[0:5][1:3])
    assert len(decoded) == 2 + 2 + 5


@pytest.mark.usefixtures("root")
def test_a_store_remembers_where_its_images_were(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder, store = image_folder(), Store(tmp_path / "store")
    spec = cifar(sources.variant_of("cifar10", folder))
    first = ImageLoader(store, folder).load(spec)
    assert store.data_records()["cifar10"].location == str(folder)
    again = ImageLoader(store).load(spec)
    assert np.array_equal(first.train.images, again.train.images)


@pytest.mark.usefixtures("root")
def test_images_that_are_not_the_runs_leave_no_record(image_folder: ImageFolder, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(UserError, match="the run asks for"):
        ImageLoader(store, image_folder()).load(cifar("images-0123456789ab"))
    assert store.data_records() == {}


@pytest.mark.usefixtures("root")
def test_an_embedded_set_takes_no_location_beside_one_that_does(image_folder: ImageFolder, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert len(ImageLoader(store, image_folder()).load(DIGITS).train.labels) == 100
    assert store.data_records()["digits"].location is None


PROGRAM = """
import sys, time
from pathlib import Path
from bench.data import sources

decode, log = sources.decode_substitute, Path(sys.argv[3])

def decode_slowly(*given, **named):
    with log.open("a") as lines:
        lines.write("decoded\\n")
    time.sleep(1)
    return decode(*given, **named)

sources.decode_substitute = decode_slowly
print(len(sources.load("cifar10", Path(sys.argv[1]), root=Path(sys.argv[2]), progress=False).train_images))
"""


def test_of_several_processes_one_decodes(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder, log = image_folder(), tmp_path / "log"
    command = [sys.executable, "-c", PROGRAM, str(folder), str(tmp_path / "root"), str(log)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) for _ in range(3)]
    assert [process.communicate(timeout=600)[0].strip() for process in running] == [str(10 * TRAIN)] * 3
    assert log.read_text() == "decoded\n"


def test_who_waits_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with alone(tmp_path / "lock", "held"):
            entered.set()
            leave.wait(120)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(120)
    threading.Timer(0.7, leave.set).start()
    with caplog.at_level(logging.INFO), alone(tmp_path / "lock", "cifar10 is downloaded"):
        assert leave.is_set()
    holder.join()
    assert [record.message.endswith(": cifar10 is downloaded") for record in caplog.records] == [True]
    assert not (tmp_path / "lock").exists()


def test_what_is_made_in_a_folder_without_locks_is_made_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with alone(tmp_path / "file" / "lock", "made"):
        made = True
    assert made


def test_the_data_folder_is_data_unless_the_environment_names_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FREETICKETS_DATA", raising=False)
    assert default_root() == Path("data")
    monkeypatch.setenv("FREETICKETS_DATA", "/somewhere/else")
    assert default_root() == Path("/somewhere/else")
