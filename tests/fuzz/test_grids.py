"""Mutated grids: planned, or refused in a message that names the file."""

import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import bench.__main__
from bench.grid import grid_files
from tests.fuzz.calls import COUNTS, call, inputs
from tests.fuzz.mutations import YAML_VALUES, mutated_bytes, mutated_tree
from tests.grid_text import PAPER_CONFIGS

# Every key that a grid has, at least once.
ALL_KEYS = """
title: Everything
description: All keys of a grid.
replicates: 2
base:
  data: {name: digits, train_images: 64, validation_images: 32, test_images: 32}
  model: {name: wide_resnet, depth: 10, width: 1}
  batch_size: 32
  optimizer: {learning_rate: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.0005, decay: all, label_smoothing: 0.1}
  augmentation: {padding: 2, padding_mode: zero, flip: true}
  execution: {precision: fp32, channels_last: true, compile: false}
  seed: 18
axes: {sparsity: [0.5, 0.8], method: [dst, edst, static], members: [2, 4]}
exclude: [{sparsity: 0.5, method: static}]
cells:
  - {name: dense, method: dense, recipe: {epochs: 4, decay_epochs: [2, 3], decay_factor: 0.1, warmup_epochs: 1}}
  - {name: released, method: dst, sparsity: 0.8, semantics: {preset: released, ties: lowest_index}}
  - {name: uniform, method: static, sparsity: 0.8, topology: {distribution: uniform}}
  - {name: MIMO, method: dense, members: 3, model.ensemble: {kind: mimo, members: 3, batch_repetitions: 2}}
  - {name: tree, method: dense, members: 2, model: {ensemble: {kind: tree_net, members: 2, head_blocks: 1}}}
  - {name: batch, method: dense, members: 4, model: {ensemble: batch_ensemble}}
  - {name: MC, method: dense, members: 8, model: {ensemble: {kind: mc_dropout, rate: 0.2, samples: 8}}}
  - {name: PF, method: prune_finetune, sparsity: 0.9, recipe: {dense_epochs: 4, epochs: 2}}
  - {name: LTR, method: lottery_rewinding, sparsity: 0.9, recipe: {epochs: 4, rewind_epoch: 1}}
  - {name: GMP, method: gradual_pruning, sparsity: 0.9, recipe: {epochs: 8, update_every: 2}}
  - {name: ACDC, method: acdc, sparsity: 0.9, recipe: {epochs: 12, first_dense_epochs: 2, alternation_epochs: 2}}
  - {name: snapshot, method: snapshot_dst, members: 2, sparsity: 0.8, recipe: {cycle_epochs: 4, update_every: 2}}
  - {name: FGE, method: fge, members: 2, recipe: {constant_epochs: 2, anneal_epochs: 2, half_cycle_epochs: 1}}
evaluations:
  local_c: {types: [fog, frost], severities: [1, 5], images: 16}
  ood: {sets: [gaussian, svhn], folders: {mine: folder}, images: 16}
  fgsm: {budgets: [2, 8], images: 16}
  pgd: {budgets: [8], steps: 5, images: 16}
scales:
  paper: {needs_gpu: true}
  tiny: {epochs: 0.5, depth: 10, width: 1, train_images: 32, test_images: 16, replicates: 1, batch_size: 16}
  third: {epochs: 1/2, precision: bf16, channels_last: false, compile: true, evaluations: {fgsm: {budgets: [1]}}}
"""


@pytest.fixture(scope="module")
def grids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped grids, which extend each other, and one with every key."""
    folder = tmp_path_factory.mktemp("grids") / "paper_configs"
    shutil.copytree(PAPER_CONFIGS, folder)
    (folder / "everything.yaml").write_text(ALL_KEYS, encoding="utf-8")
    return folder


def planned(path: Path, scale: str) -> None:
    COUNTS["inputs"] += 1
    ended = call(bench.__main__, "plan", str(path), "--scale", scale, "--store", str(path.parent / "none"), "--json")
    if ended.code:
        assert ended.code == 2
        assert str(path) in ended.err
        assert ended.err.count("\n") <= 6
        assert ended.err.removesuffix("\n").replace("\n", "").isprintable()


def test_grids_with_wrong_values(grids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(grids.parent)
    whole = {path: yaml.safe_load(path.read_text(encoding="utf-8")) for path in shipped(grids)}

    @inputs(600)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from([*whole, *[grids / "everything.yaml"] * len(whole)]))
        mutated = path.with_name("mutated.yaml")
        mutated.write_text(yaml.safe_dump(data.draw(mutated_tree(whole[path], YAML_VALUES))), encoding="utf-8")
        planned(mutated, data.draw(st.sampled_from(["paper", "tiny"])))

    check()


def test_grids_with_wrong_bytes(grids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(grids.parent)

    @inputs(400)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(shipped(grids)))
        mutated = path.with_name("mutated.yaml")
        mutated.write_bytes(data.draw(mutated_bytes(path.read_bytes())))
        planned(mutated, "paper")

    check()


def shipped(folder: Path) -> list[Path]:
    """Return the grids in a copy of paper_configs, everything.yaml among them."""
    return [path for path in grid_files([folder, folder / "ablations"]) if path.name != "mutated.yaml"]
