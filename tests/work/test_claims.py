"""The density of a ticket is counted from its weights when its run ends; a claim that does not hold fails the run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from torch import Tensor, nn

from bench.recipes import RELEASED, Setting
from bench.recipes.fixed import step_decay
from bench.spec.run import ModelSpec, RunSpec, Topology
from bench.store.store import Store
from bench.work.claims import DensityError, check_density
from tests.training.runs import do, edst_spec, run_spec

SETTING = Setting(members=1, learning_rate=0.05)


class Centred(nn.Module):
    """Moves its own weight at every pass, so that no mask holds."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        if not self.stem.weight.is_meta:
            self.stem.weight.data += 0.01
        return self.head(self.stem(x).relu().mean((2, 3)))


class Fickle(nn.Module):
    """Has another layer where it is really built than where it is traced."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        if not self.stem.weight.is_meta:
            self.more = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).relu().mean((2, 3)))


def static_spec(network: str, *dense: str, **changes: Any) -> RunSpec:
    spec = run_spec(step_decay(SETTING, epochs=3), density=0.2, model=ModelSpec(name=network), **changes)
    return spec.model_copy(update={"topology": Topology(density=0.2, dense=dense)})


def test_a_network_that_changes_its_weights_fails_and_its_files_stay(tmp_path: Path) -> None:
    store, spec = Store(tmp_path), static_spec("tests.work.test_claims:Centred")
    assert do([spec], store) == 1
    folder = store.run(spec.run_id)
    error = folder.error()
    assert error is not None
    assert error.type == "DensityError"
    ticket = load_file(folder.tensor_file("tickets", 0))
    nonzero = sum(np.count_nonzero(ticket[name]) for name in ("stem.weight", "head.weight"))
    inactive = nonzero - round(0.2 * (216 + 80))
    assert error.message == (
        f"ticket 0: {nonzero} of 296 weights with a mask are not zero, a density of {nonzero / 296:.4f}; {inactive} of "
        "those are inactive: the network itself changed its weights"
    )


def test_a_network_that_is_not_the_one_that_was_planned_fails_before_it_trains(tmp_path: Path) -> None:
    store, spec = Store(tmp_path), static_spec("tests.work.test_claims:Fickle")
    assert do([spec], store) == 1
    folder = store.run(spec.run_id)
    error = folder.error()
    assert error is not None
    assert error.message.startswith(
        "tests.work.test_claims:Fickle was built with other weights than the plan found: more."
    )
    assert folder.history() == []


TRANSFORMER = ("*.in_proj_weight", "class_token", "encoder.pos_embedding")


@pytest.mark.parametrize(
    ("network", "dense"),
    [("shared", ()), ("vision_transformer", TRANSFORMER), ("weight_norm", ("0",)), ("Volume", ()), ("gru", ("rows",))],
)
def test_networks_of_all_kinds_are_as_sparse_as_is_said(tmp_path: Path, network: str, dense: tuple[str, ...]) -> None:
    store, spec = Store(tmp_path), static_spec(f"tests.models.networks:{network}", *dense)
    assert do([spec], store) == 0
    folder = store.run(spec.run_id)
    ticket, masks = folder.ticket(0), folder.masks(0)
    total = sum(mask.size for mask in masks.values())
    assert sum(np.count_nonzero(ticket[name]) for name in masks) == round(0.2 * total)
    matrices = [n for n, t in ticket.items() if t.ndim >= 2 and not n.startswith("mask/") and n not in masks]
    # What has no mask is named dense, or is the second name of a weight that has one.
    same = [name for name in matrices if any(np.array_equal(ticket[name], ticket[mask]) for mask in masks)]
    assert all(not spec.topology.masks(name) for name in matrices if name not in same)  # type: ignore[union-attr]
    assert same == (["2.weight"] if network == "shared" else [])


def claim(weights: list[float], mask: list[int], density: float = 0.5, **more: Any) -> None:
    ticket = {"fc.weight": np.array(weights), "mask/fc.weight": np.array(mask, dtype=bool)}
    spec = more.pop("spec", run_spec(step_decay(SETTING, epochs=3), density=0.5))
    zeros = more.pop("zeros", {"fc.weight": 0})
    check_density(ticket, spec, {"index": 0, "density": density}, more.pop("history", []), zeros)


def test_a_claim_that_holds() -> None:
    claim([1, 2, 3, 0, 0, 0], [1, 1, 1, 0, 0, 0])
    # Grown weights, and those that began at zero, may be zero.
    claim([1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], history=[{"updates": [{"grown": 2}]}])
    claim([1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], zeros={"fc.weight": 2})
    claim([1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], zeros=None)
    # As released: drawn, and tied weights go together.
    claim([1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], density=1 / 6, spec=edst_spec(RELEASED))


@pytest.mark.parametrize(
    ("weights", "mask", "density", "message"),
    [
        ([1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0], 0.5, "1 of those are inactive"),
        ([1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0], 2 / 6, "its masks have 3 active weights, its record 0.3333"),
        ([1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], 1 / 6, "its masks have 1 active weights, the grid says 0.5"),
        ([1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], 0.5, "a density of 0.1667; its masks say 0.5000"),
    ],
)
def test_a_claim_that_does_not_hold(weights: list[float], mask: list[int], density: float, message: str) -> None:
    with pytest.raises(DensityError, match=message):
        claim(weights, mask, density)
