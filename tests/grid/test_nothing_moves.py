"""A recipe under which no weight moves, or nothing is sparse, is refused when the grid is read."""

from pathlib import Path

import pytest

from bench.errors import UserError
from bench.recipes import Setting
from bench.spec.phases import LearningRate, Phase, Ramp, Rewire, TicketPolicy
from tests.grid_text import load_text

BASE = "base: {data: {name: digits, train_images: 320}, batch_size: 32, model: {depth: 10, width: 1}}\n"
ALL = "cells[0].recipe.update_every: dT = 1: topology updates take the place of all optimiser steps of phase"


def phases(*rates: float, rewire: Rewire | None = None, last: Rewire | None = None) -> tuple[Phase, ...]:
    several = [Phase(name=f"at {rate}", epochs=1, lr=LearningRate(values=(rate,)), rewire=rewire) for rate in rates]
    return (*several[:-1], several[-1].model_copy(update={"ticket": TicketPolicy(), "rewire": last}))


def standing(_: Setting) -> tuple[Phase, ...]:
    return phases(0.0, 0.0)


def ramp_of_nothing(_: Setting) -> tuple[Phase, ...]:
    return (Phase(name="flat", epochs=2, lr=Ramp(start=0, end=0, shape="cosine"), ticket=TicketPolicy()),)


def explores_only(_: Setting, *, often: int = 1) -> tuple[Phase, ...]:
    return phases(0.1, 0.1, rewire=Rewire(every=often, drop_fraction=0.5))


def statistics_at_the_end(_: Setting) -> tuple[Phase, ...]:
    return phases(0.1, 0.0)


def read(folder: Path, cell: str) -> None:
    load_text(folder, f"{BASE}cells: [{{name: a, {cell}}}]")


def own(name: str) -> str:
    return f'method: "tests.grid.test_nothing_moves:{name}"'


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("method: dst, sparsity: 0.8, recipe: {epochs: 4, update_every: 1}", f"{ALL} 'train'"),
        ("method: edst, sparsity: 0.8, recipe: {tickets: 1, update_every: 1}", f"{ALL} 'explore'"),
        ("method: superposed_edst, sparsity: 0.8, recipe: {update_every: 1}", f"{ALL} 'explore'"),
        ("method: snapshot_dst, sparsity: 0.8, recipe: {update_every: 1}", f"{ALL} 'cycle 1'"),
        (f"{own('explores_only')}, sparsity: 0.8", "cells[0].recipe: dT = 1: topology updates take the place of all"),
        (own("standing"), "cells[0].recipe: a learning rate of 0 in all phases, so no weight would move"),
        (own("ramp_of_nothing"), "cells[0].recipe: a learning rate of 0 in all phases"),
        (
            "method: dst, sparsity: 0.8, recipe: {epochs: 4, update_every: 40}",
            "cells[0].recipe: dT = 40 steps, but the run has 40 (4 epochs of 10), so the topology would never change "
            "(at the last step a cosine schedule drops nothing); at most 39 is allowed",
        ),
        ("method: static, sparsity: 1.0e-6", "cells[0].sparsity: a sparsity of 0.000001 leaves all 77,360 weights"),
    ],
)
def test_a_run_that_could_not_learn_is_refused(tmp_path: Path, cell: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        read(tmp_path, cell)
    assert str(refused.value).startswith(f"{tmp_path / 'grid.yaml'}: {message}")


@pytest.mark.parametrize(
    "cell",
    [
        "method: dst, sparsity: 0.8, recipe: {epochs: 4, update_every: 2}",
        "method: dst, sparsity: 0.8, recipe: {epochs: 4, update_every: 1}, semantics: {update_step: after_optimizer}",
        "method: dst, sparsity: 0.8, recipe: {epochs: 4, update_every: 40}, semantics: {drop_schedule: constant}",
        "method: superposed_edst, sparsity: 0.8, recipe: {update_every: 20}",
        own("statistics_at_the_end"),
        f"{own('explores_only')}, sparsity: 0.8, recipe: {{often: 3}}",
    ],
)
def test_a_run_that_learns_a_little_is_not(tmp_path: Path, cell: str) -> None:
    read(tmp_path, cell)
