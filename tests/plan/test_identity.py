"""Which run is which: ids follow from specs alone, and every change of a field is another run."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bench.grid import load_grid
from bench.plan import Plan
from bench.spec.run import RunSpec, identity
from tests.grid_text import PAPER_CONFIGS, load_text

BASE = "base: {data: digits, model: {depth: 10, width: 1}, sparsity: 0.8, recipe: {epochs: 8, update_every: 4}}\n"


# The identity of the first run of the CIFAR-10 grid's dense cell, written out by hand. If this test fails, stored
# results no longer belong to their specs: raise bench.spec.SPEC_VERSION on purpose, or undo the change.
DENSE_RUN = {
    "spec_version": 2,
    "data": {
        "name": "cifar10",
        "variant": "official",
        "train_images": 45000,
        "validation_images": 5000,
        "test_images": 10000,
    },
    "model": {"name": "wide_resnet", "arguments": {"depth": 28, "width": 10}, "ensemble": None},
    "topology": None,
    "phases": [
        {
            "name": "train",
            "epochs": 250,
            "lr": {"values": [0.1, 0.01, 0.001], "boundaries": [125, 187], "warmup_epochs": 0},
            "rewire": None,
            "pruning": None,
            "on_start": [],
            "ticket": {"select": "best_validation", "reset_best": True},
            "keep": [5],
        }
    ],
    "optimizer": {
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 0.0005,
        "decay": "all",
        "label_smoothing": 0.0,
    },
    "batch_size": 128,
    "augmentation": {"padding": 4, "padding_mode": "reflect", "flip": True},
    "validation_augmented": False,
    "execution": {"precision": "fp32", "channels_last": True, "compile": False},
    "seed": 18,
    "parent": None,
}


def test_a_run_id_is_the_sha256_of_the_canonical_json(tmp_path: Path) -> None:
    (cell,) = load_text(tmp_path, "cells: [{name: dense, method: dense, data: cifar10}]").cells
    text = json.dumps(DENSE_RUN, sort_keys=True, separators=(",", ":"))
    assert cell.spec.run_id == hashlib.sha256(text.encode()).hexdigest()[:16] == "656d0a9196aaeaed"


OTHER_TEXT = {
    "cifar10": "cifar100",
    "official": "folder-1234",
    "wide_resnet": "another",
    "erk": "uniform",
    "bernoulli": "exact",
    "exact": "bernoulli",
    "gradient": "random",
    "rewired": "exempt",
    "all": "lowest_index",
    "dense": "masked",
    "constant": "cosine",
    "after_optimizer": "instead_of_optimizer",
    "best_validation": "last",
    "reflect": "zero",
    "fp32": "tf32",
    "tf32": "bf16",
    "explore": "explore 1",
    "refine 1": "refine",
    "refine 2": "refine",
    "refine 3": "refine",
}


def other(value: Any, key: object) -> Any:
    """Another value of the same kind, allowed in the same place."""
    if key == "decay":
        return "not_norm"
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value / 2 or 0.5
    return OTHER_TEXT[value]


def changed(value: Any, at: object = None) -> Iterator[tuple[str, Any]]:
    """Yield (path, copy of the JSON value with the leaf there changed) for every leaf."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            for path, replacement in changed(inner, key):
                copy = value.copy()
                copy[key] = replacement
                yield f"{key}.{path}", copy
    elif value is not None and value != "global_exploration":  # the only action there is
        yield "", other(value, at)


def test_a_change_of_any_field_is_another_run() -> None:
    grid = load_grid(PAPER_CONFIGS / "cifar10.yaml")
    spec = next(cell.spec for cell in grid.cells if cell.name == "EDST M=3 S=0.8")
    document = spec.model_dump(mode="json")
    ids = {"": identity(spec)}
    for path, copy in changed(document):
        if path.endswith("inactive_momentum."):  # refused unless it is the same in all phases
            continue
        ids[path] = identity(RunSpec.model_validate_json(json.dumps(copy)))
    everywhere = spec.model_dump_json().replace('"inactive_momentum":"dense"', '"inactive_momentum":"masked"')
    ids["inactive_momentum"] = identity(RunSpec.model_validate_json(everywhere))
    for path in ("topology.", "phases.0.rewire."):  # from something to nothing
        assert any(key.startswith(path) for key in ids)
    without_rewire = [phase.model_copy(update={"rewire": None}) for phase in spec.phases]
    ids["no rewire"] = identity(spec.model_copy(update={"phases": tuple(without_rewire)}))
    ids["no tickets"] = identity(spec.model_copy(update={"phases": spec.phases[:-1]}))
    assert len(ids) > 60
    assert len(set(ids.values())) == len(ids)


@given(seeds=st.lists(st.integers(0, 2**63), max_size=5))
def test_a_copy_under_another_seed_has_an_id_of_its_own(paper: Plan, seeds: list[int]) -> None:
    spec = paper.runs[-1].spec
    assert spec.run_id == identity(spec)  # which the spec remembers from here on
    for seed in seeds:
        copied = spec.model_copy(update={"seed": seed})
        assert copied.run_id == identity(copied) == identity(RunSpec.model_validate_json(copied.model_dump_json()))
    assert spec == RunSpec.model_validate_json(spec.model_dump_json())


def test_every_run_of_a_plan_is_named_by_its_spec(paper: Plan) -> None:
    assert all(run.id == run.spec.run_id for run in paper.runs)
