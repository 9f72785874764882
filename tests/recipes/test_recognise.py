"""A run says by its phases which method it is of."""

import pytest

from bench.grid import load_grid
from bench.grid.suite import suite_grids
from bench.recipes import METHODS, Setting
from bench.recipes.recognise import method_of_spec
from bench.spec.phases import LearningRate, Phase, TicketPolicy
from tests.store.runs import run_spec

GRIDS = {name: path for name, path in suite_grids().items() if path.is_file()}


@pytest.mark.parametrize("path", GRIDS.values(), ids=GRIDS)
def test_every_cell_of_the_suite_is_recognised(path) -> None:
    for cell in load_grid(path).cells:
        assert method_of_spec(cell.spec) == cell.method, cell.name


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("acdc", {"epochs": 40, "first_dense_epochs": 10, "alternation_epochs": 20}),
        ("edst", {"tickets": 1}),
        ("edst", {"exploration_fraction": 0.0}),
        ("fge_dst", {"cycles": 1}),
        ("snapshot_dst", {"cycles": 1}),
        ("gradual_pruning", {"begin_epoch": 0}),
    ],
)
def test_however_long_and_many_its_phases_are(method: str, parameters: dict[str, float]) -> None:
    phases = METHODS[method].recipe(Setting(members=3, learning_rate=0.1), **parameters)
    assert method_of_spec(run_spec(phases=phases)) == method


def test_what_the_suite_has_no_method_of_has_no_name() -> None:
    phase = Phase(name="train", epochs=2, lr=LearningRate(values=(0.1,)), ticket=TicketPolicy())
    assert method_of_spec(run_spec(phases=(phase,), topology=None)) == "dense"
    of_ones_own = phase.model_copy(update={"name": "constant"})  # as in the README
    assert method_of_spec(run_spec(phases=(of_ones_own,), topology=None)) is None
    assert method_of_spec(run_spec(phases=(phase, phase), topology=None)) is None
