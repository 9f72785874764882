"""Stores in which all that a grid asks for is done, what to look up in them, and how to damage them."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from analysis.loading import Loaded, load
from analysis.reading import StoreView
from bench.grid import load_grid
from bench.plan import Plan, make_plan
from bench.store.store import Store
from tests.analysis.synthetic import evaluate, fill

N = TypeVar("N")


@dataclass(frozen=True)
class Made:
    """A grid's file and a store in which all that it asks for is done."""

    path: Path
    store: Store

    @property
    def plan(self) -> Plan:
        """The plan with what the store holds now."""
        return make_plan(load_grid(self.path), "paper", self.store)

    def copied(self, folder: Path) -> "Made":
        """Return the same elsewhere, to be changed."""
        shutil.copytree(self.path.parent, folder)
        return Made(folder / self.path.name, Store(folder / self.store.root.name))

    def read(self) -> Loaded:
        return load(self.path, self.store.root, "paper")


def numbers_of(load_numbers: Callable[[StoreView], N], plan: Plan, store: Store) -> tuple[N, tuple[str, ...]]:
    """Return the numbers of a topic, and the problems met while they were read."""
    view = StoreView(plan, store)
    return load_numbers(view), view.problems


def make(folder: Path, text: str, *, images: int = 60, probe_images: int = 0) -> Made:
    """Write a grid with this text, its runs, and its evaluation sets on as many images as the test images."""
    path = folder / "small.yaml"
    path.write_text(text)
    made = Made(path, Store(folder / "results"))
    fill(made.store, made.plan, images=images, probe_images=probe_images)
    evaluate(made.store, made.plan, images=images)
    return made


def of(frame, **keys):
    """The rows of a DataFrame in which each column has this value."""
    for key, value in keys.items():
        frame = frame[frame[key] == value]
    return frame


def cell_of(plan, name):
    return next(cell for cell in plan.cells if cell.name == name)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip_a_bit(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
