"""Runs on images that stay in their files: the same weights however they are decoded and however often it is killed."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

import bench.__main__
from tests.data.streamed.photographs import write_imagenet

ROOT = Path(__file__).resolve().parents[2]
GRID = """
replicates: 1
base:
  data: {name: imagenet, image_size: 32, train_images: 100, validation_images: 20, test_images: 12}
  model: {name: "tests.training.slow:slow"}
  batch_size: 20
  semantics: standard
cells:
  - name: edst
    method: edst
    members: 2
    sparsity: 0.8
    recipe: {exploration_epochs: 3, refinement_lengths: [1, 1], update_every: 4}
"""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    write_imagenet(root)
    return root


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grid") / "grid.yaml"
    path.write_text(GRID)
    return path


def arguments(grid: Path, store: Path, images: Path, decoders: int) -> list[str]:
    places = ["--store", str(store), "--data", str(images)]
    return ["run", str(grid), *places, "--device", "cpu", "--decoders", str(decoders), "--checkpoint-seconds", "0"]


def run(grid: Path, store: Path, images: Path, decoders: int = 0) -> int:
    with pytest.raises(SystemExit) as ended:
        bench.__main__.main(arguments(grid, store, images, decoders))
    return int(ended.value.code or 0)


def tensors(store: Path) -> dict[str, bytes]:
    """Return the bytes of tickets and logits."""
    files = store.glob("runs/*/*/*.safetensors")
    return {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def expected(grid: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    store = tmp_path_factory.mktemp("alone")
    assert run(grid, store, photographs) == 0
    found = tensors(store)
    assert len(found) == 4
    return found


def test_tars_give_the_same_weights(grid: Path, photographs: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    for part in ("train", "val"):
        with tarfile.open(tmp_path / f"{part}.tar", "w") as tar:
            tar.add(photographs / part, part)
    assert run(grid, tmp_path / "store", tmp_path, decoders=2) == 0
    assert tensors(tmp_path / "store") == expected


@pytest.mark.slow
def test_kills_and_signals_within_epochs_cost_no_bit(
    grid: Path, photographs: Path, expected: dict[str, bytes], tmp_path: Path, slower: Path
) -> None:
    store, ends = tmp_path / "store", []
    command = [sys.executable, "-m", "bench", *arguments(grid, store, photographs, decoders=1)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        before = saved(store)
        while process.poll() is None and saved(store) in (before, 0):
            time.sleep(0.01)
        time.sleep(0.2)
        if number == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, number)  # as SLURM does: to the decoders too
        ends.append(process.wait(300))
    assert ends == [75, -signal.SIGKILL]
    slower.unlink()
    assert run(grid, store, photographs) == 0
    assert tensors(store) == expected


def saved(store: Path) -> int:
    """Return when the last checkpoint was written, 0 if there is none."""
    files = list(store.glob("runs/*/checkpoint.pt"))
    return files[0].stat().st_mtime_ns if files else 0


@pytest.mark.parametrize("decoders", [0, 1])
def test_a_damaged_image_is_named(
    decoders: int, grid: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photographs, tmp_path / "images")
    for file in (tmp_path / "images" / "train").rglob("*_2.JPEG"):
        file.write_bytes(file.read_bytes()[:200])
    assert run(grid, tmp_path / "store", tmp_path / "images", decoders) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "_2.JPEG: cannot be decoded (Truncated File Read); put it right, or remove it" in line
