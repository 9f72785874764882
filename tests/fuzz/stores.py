"""A small store with a file of every kind, trained once: what it holds, and what may happen to a file of it."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

import bench.__main__
from bench.grid import load_grid
from bench.plan import make_plan, work_of
from bench.store.records import checksum_of
from bench.store.store import Store
from bench.training.trainer import Trainer
from slurm.dispatch import make_submission
from slurm.records import SubmissionFolder
from slurm.site import load_site
from tests.fuzz.calls import call
from tests.fuzz.mutations import mutated_bytes, mutated_tree

GRID = """
replicates: 1
base:
  data: {name: digits, train_images: 64, validation_images: 32, test_images: 32}
  model: {name: wide_resnet, depth: 10, width: 1}
  batch_size: 32
cells:
  - {name: dense, method: dense, recipe: {epochs: 3}}
  - name: EDST
    method: edst
    members: 2
    sparsity: 0.8
    recipe: {exploration_epochs: 2, refinement_epochs: 2, update_every: 3}
  - {name: PF, method: prune_finetune, sparsity: 0.8, recipe: {dense_epochs: 3, epochs: 2}}
  - {name: half, method: static, sparsity: 0.8, recipe: {epochs: 5}}
evaluations:
  local_c: {types: [fog], severities: [1], images: 8}
  ood: {sets: [gaussian], images: 8}
  fgsm: {budgets: [2], images: 8}
"""
DEEP = b"[" * 100_000
SNIPPETS = (
    b"\0",
    b"\xff" * 8,
    DEEP,
    b"9" * 5000,
    b"NaN",
    b"null",
    b"{}",
    b"[]",
    b'""',
    b",",
    b"\n",
    b"\xff\xff\xff\x7f",
)


def make(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make grid.yaml and results/ in a folder: three runs done, one interrupted with a checkpoint, one submission."""
    grid = folder / "grid.yaml"
    grid.write_text(GRID, encoding="utf-8")
    words = ["run", str(grid), "--store", str(folder / "results"), "--device", "cpu"]
    assert (
        call(bench.__main__, *words, "--select", "cell=dense", "--select", "cell=EDST", "--select", "cell=PF").code == 0
    )
    step = Trainer._step

    def stopping(self: Trainer, *batch: Any) -> None:
        step(self, *batch)
        if self.at.steps == 5:
            signal.raise_signal(signal.SIGTERM)

    with patch.context() as inner:
        inner.setattr(Trainer, "_step", stopping)
        with pytest.raises(SystemExit) as ended:
            bench.__main__.main(words)
    assert ended.value.code == 75
    store, site = Store(folder / "results"), load_site("local")
    plan = make_plan(load_grid(grid), "paper", store)
    options: dict[str, Any] = {"data": None, "deterministic": False, "checkpoint_seconds": 120.0}
    work = work_of(plan, plan.runs)
    SubmissionFolder.create(store, make_submission(site, "local", ("grid paper",), work, 1, **options), work)
    [half] = [run.id for run in plan.runs if "half" in run.cells]
    (store.run(half).path / "lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "a"}))


def files(store: Path) -> list[Path]:
    """Return the files of a store, from its root."""
    return sorted(path.relative_to(store) for path in store.rglob("*") if path.is_file())


def _tree(content: bytes) -> Any:
    """Return what JSON in a file means, None for a file of another kind."""
    try:
        return json.loads(content)
    except ValueError:
        return None


@st.composite
def damage(draw: st.DrawFn, path: Path, content: bytes) -> bytes | None:
    """Return what is in a file now; None: a folder, or nothing, is in its place."""
    tree = _tree(content)
    kind = draw(st.sampled_from(["bytes", "none", "header" if path.suffix == ".safetensors" else "tree"]))
    if kind == "none":
        return None
    if kind == "tree" and tree is not None:
        other = draw(mutated_tree(tree))
        if isinstance(other, dict) and isinstance(other.get("checksum"), str) and draw(st.booleans()):
            other["checksum"] = checksum_of(json.loads(json.dumps(other)))  # whoever altered it did it well
        return json.dumps(other).encode()
    if kind == "header":
        length = int.from_bytes(content[:8], "little")
        if draw(st.booleans()):  # a header of any length, up to more than there is memory
            return (
                draw(st.sampled_from([0, 1, length + 1, 10**8, 2**62, 2**64 - 1])).to_bytes(8, "little") + content[8:]
            )
        header = json.dumps(draw(mutated_tree(json.loads(content[8 : 8 + length])))).encode()
        return len(header).to_bytes(8, "little") + header + content[8 + length :]
    return draw(mutated_bytes(content, SNIPPETS))


def put(path: Path, content: bytes | None, instead: str) -> None:
    """Write what is in a file now; None: what is there instead."""
    path.unlink()
    match None if content is not None else instead:
        case None:
            path.write_bytes(content or b"")
        case "folder":
            path.mkdir()
            (path / "something").touch()
        case "loop":
            path.symlink_to(path.name)
        case "pipe":
            os.mkfifo(path)
        case "nothing":
            pass


INSTEAD = ("folder", "loop", "nothing", "pipe")


def copy(made: Path, to: Path) -> Path:
    """Return a fresh copy of a store: files are links, which damage replaces."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(made, to, copy_function=os.link)
    return to
