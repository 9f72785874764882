"""However many processes decode, the images are the same; and nothing is left of them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.data.augment import Normalise
from bench.data.streamed.crew import Crew
from bench.data.streamed.files import ImageFiles
from bench.data.streamed.images import FileImages
from bench.data.streamed.index import index_part
from bench.data.streamed.tasks import AHEAD, PIECE, Task
from bench.errors import UserError
from bench.spec.run import ResizedCrop
from tests.data.streamed.photographs import write_classes

SIZE, BATCH = 16, 80
DRAWS = (7, "train", 3)


def files_of(root: Path) -> ImageFiles:
    return index_part(root, root.parent).files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ImageFiles:
    root = tmp_path_factory.mktemp("images") / "train"
    write_classes(root, classes=3, images=70)
    return files_of(root)


def batches(files: ImageFiles, workers: int, parts: list[slice]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    normalise = Normalise((0, 0, 0), (1, 1, 1), (SIZE, SIZE), device="cpu", layout=torch.channels_last)
    with Crew(files, ResizedCrop(), SIZE, workers) as crew:
        images = FileImages(crew, np.arange(len(files)), True, normalise)
        with images.epoch(parts, *DRAWS) as epoch:
            return list(epoch)


def parts_of(first: int, stop: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, stop)) for start in range(first, stop, size)]


@pytest.fixture(scope="module")
def alone(files: ImageFiles) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return batches(files, 0, parts_of(0, len(files), BATCH))


def same(first: list[tuple[torch.Tensor, torch.Tensor]], second: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(image, other) and torch.equal(label, of_other)
        for (image, label), (other, of_other) in zip(first, second, strict=True)
    )


def test_an_epoch_shows_every_image_once(alone: list[tuple[torch.Tensor, torch.Tensor]], files: ImageFiles) -> None:
    assert [len(labels) for _, labels in alone] == [80, 80, 50]
    assert sorted(torch.cat([labels for _, labels in alone]).tolist()) == list(range(len(files)))
    assert alone[0][0].shape == (BATCH, 3, SIZE, SIZE)
    assert alone[0][0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_processes_gives_the_same_batches(
    workers: int, alone: list[tuple[torch.Tensor, torch.Tensor]], files: ImageFiles
) -> None:
    assert same(batches(files, workers, parts_of(0, len(files), BATCH)), alone)


def test_an_epoch_that_goes_on_is_the_rest_of_the_whole(
    alone: list[tuple[torch.Tensor, torch.Tensor]], files: ImageFiles
) -> None:
    assert same(batches(files, 1, parts_of(BATCH, len(files), BATCH)), alone[1:])


def test_shares_of_a_batch_are_the_batch(alone: list[tuple[torch.Tensor, torch.Tensor]], files: ImageFiles) -> None:
    shares = batches(files, 0, [slice(0, 27), slice(27, 54), slice(54, 80)])
    assert torch.equal(torch.cat([images for images, _ in shares]), alone[0][0])


def test_an_epoch_can_be_left_and_begun_again(files: ImageFiles) -> None:
    tasks = [Task(np.arange(first, first + 10)) for first in range(0, 200, 10)]
    with Crew(files, ResizedCrop(), SIZE, 2) as crew:
        whole = [piece.clone() for piece in crew.decoded(tasks)]
        for taken in (1, 7):
            pieces = crew.decoded(tasks)
            for number in range(taken):
                assert torch.equal(next(pieces), whole[number])
            pieces.close()
        assert all(torch.equal(piece, again) for piece, again in zip(crew.decoded(tasks), whole, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:300]), "cannot be decoded"),
        (lambda file: file.unlink(), "No such file"),
        (lambda file: (file.unlink(), file.mkdir()), "no file"),
        (lambda file: (file.unlink(), file.symlink_to(file.name)), "symbolic links"),
        (lambda file: (file.unlink(), os.mkfifo(file)), "no file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(workers: int, damage: object, reason: str, tmp_path: Path) -> None:
    write_classes(tmp_path / "train", classes=2, images=6)
    files = files_of(tmp_path / "train")
    bad = tmp_path / "train" / "n00000001" / "n00000001_2.JPEG"
    damage(bad)  # type: ignore[operator]
    with Crew(files, ResizedCrop(), SIZE, workers) as crew:
        pieces = crew.decoded([Task(np.arange(4)), Task(np.arange(4, 12)), Task(np.arange(4))])
        next(pieces)
        with pytest.raises(UserError, match=rf"n00000001/n00000001_2\.JPEG: .*{reason}"):
            next(pieces)
        assert len(list(crew.decoded([Task(np.arange(4))]))) == 1


def test_a_killed_worker_is_said(files: ImageFiles) -> None:
    with Crew(files, ResizedCrop(), SIZE, 2) as crew:
        tasks = [Task(np.arange(50))] * 30
        pieces = crew.decoded(tasks)
        next(pieces)
        os.kill(crew.processes[0].pid or 0, signal.SIGKILL)
        with pytest.raises(UserError, match="a process that decodes images died"):
            list(pieces)


PROGRAM = """
import sys, time
from pathlib import Path
from bench.data.streamed.crew import Crew
from bench.spec.run import ResizedCrop
from tests.data.streamed.test_crew import files_of, SIZE

if __name__ == "__main__":
    crew = Crew(files_of(Path(sys.argv[1])), ResizedCrop(), SIZE, 2)
    print(*[process.pid for process in crew.processes], flush=True)
    time.sleep(600)
"""


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_nothing_outlives_a_killed_parent_and_signals_do_not_reach_the_workers(tmp_path: Path) -> None:
    write_classes(tmp_path / "images", classes=1, images=2)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    root = Path(__file__).resolve().parents[3]
    parent = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path / "images")],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert len(workers) == 2
    servers = [int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1]) for worker in workers]
    for worker in workers:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(worker, number)
    time.sleep(0.3)
    assert all(map(alive, workers))
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 120
    while any(map(alive, [*workers, *servers])):
        assert time.monotonic() < deadline, "decoders or their server outlive a killed process"
        time.sleep(0.05)


def test_memory_does_not_grow_with_the_batch(files: ImageFiles) -> None:
    with Crew(files, ResizedCrop(), SIZE, 2) as crew:
        assert crew.bytes == 2 * 2 * PIECE * SIZE * SIZE * 3


def resident(kinds: tuple[str, ...], process: int) -> int:
    """Return bytes of memory of a process, the sum of these kinds in /proc/<process>/smaps_rollup."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(tuple(f"{kind}:" for kind in kinds)))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from /proc")
def test_memory_stays_as_it_is_over_200_steps(files: ImageFiles) -> None:
    def steps(crew: Crew, count: int) -> None:
        tasks = [Task(np.arange(PIECE) % len(files), 0, PIECE * place) for place in range(count)]
        assert sum(1 for _ in crew.decoded(tasks)) == count

    with Crew(files, ResizedCrop(), SIZE, 1) as crew:
        steps(crew, 20)
        before = resident(("Rss",), os.getpid())
        steps(crew, 200)
        assert resident(("Rss",), os.getpid()) - before < 20e6
        assert resident(("Private_Clean", "Private_Dirty"), crew.processes[0].pid or 0) < 60e6


@pytest.mark.parametrize("workers", [1, 12])
def test_the_shared_memory_of_a_crew_does_not_grow_with_the_batch(workers: int, files: ImageFiles) -> None:
    """At 224 pixels, of a crew of twelve: 24 pieces of 64 images."""
    crew = Crew(files, ResizedCrop(), 224, 0)
    assert crew.bytes == 64 * 224 * 224 * 3
    assert workers * AHEAD * crew.bytes <= 0.3e9
