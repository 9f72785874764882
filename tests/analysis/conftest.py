"""A small grid with one cell of each kind, and a store in which all of it is done, made without training."""

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from analysis.loading import Loaded, load
from analysis.topic import FigureEntry
from bench.grid import Grid, load_grid
from bench.plan import Plan, make_plan
from bench.store.store import Store
from tests.analysis.stores import Made, make
from tests.analysis.synthetic import fill

GRID = """
title: A small grid
replicates: 2
base:
  data: digits
  model: {name: wide_resnet, depth: 10, width: 1}
  batch_size: 64
cells:
  - {name: dense, method: dense, recipe: {epochs: 8}}
  - {name: dense ensemble M=2, method: dense, members: 2, recipe: {epochs: 8}}
  - {name: DST M=2 S=0.8, method: dst, members: 2, sparsity: 0.8, recipe: {epochs: 8, update_every: 8}}
  - name: EDST M=3 S=0.9
    method: edst
    members: 3
    sparsity: 0.9
    recipe: {exploration_epochs: 6, refinement_epochs: 4, update_every: 8}
scales:
  small: {epochs: 0.5, replicates: 1}
"""

EVALUATIONS = """
evaluations:
  local_c: {types: [fog, frost, saturate], severities: [1, 4]}
  ood: {sets: [mnist, uniform]}
  fgsm: {budgets: [2, 8], images: 40}
  pgd: {budgets: [8], steps: 5, images: 40}
"""


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    path = tmp_path / "small.yaml"
    path.write_text(GRID)
    return load_grid(path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


@pytest.fixture
def plan(grid: Grid, store: Store) -> Plan:
    """The plan of a store that is still empty; its statuses say so."""
    return make_plan(grid, "paper", store)


@pytest.fixture
def full(plan: Plan, store: Store) -> Store:
    fill(store, plan)
    return store


@pytest.fixture
def read(grid: Grid, store: Store) -> Callable[..., Loaded]:
    def read_it(scale: str = "paper") -> Loaded:
        return load(grid.path, store.root, scale)

    return read_it


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """What a full store gives, read once: not to be changed."""
    folder = tmp_path_factory.mktemp("full")
    path = folder / "small.yaml"
    path.write_text(GRID)
    made = Store(folder / "results")
    fill(made, make_plan(load_grid(path), "paper", made))
    return load(path, made.root, "paper")


@pytest.fixture(scope="session")
def robust(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same grid with all of its runs evaluated on everything, made once: not to be changed."""
    return make(tmp_path_factory.mktemp("robust"), GRID + EVALUATIONS, probe_images=12)


@pytest.fixture
def evaluated(robust: Made, tmp_path: Path) -> Made:
    """The same, to be changed."""
    return robust.copied(tmp_path / "copy")


@pytest.fixture(params=["drawn", pytest.param("rendered", marks=pytest.mark.long)])
def written(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are files: by themselves of nothing, for rendering them takes a minute; in the long tests as they are."""

    def savefig(_: Figure, file: Path, *, format: str, **__: object) -> None:
        Image.new("RGB", (40, 30)).save(file, format)

    if request.param == "drawn":
        monkeypatch.setattr(Figure, "draw_without_rendering", lambda _: None)
        monkeypatch.setattr(Figure, "savefig", savefig)


@pytest.fixture(scope="session")
def drawn(loaded: Loaded) -> dict[str, tuple[FigureEntry, Figure]]:
    """Every figure of a full store with its entry, drawn once: not to be changed."""
    return {entry.name: (entry, entry.draw()) for entry in loaded.figures()}


@pytest.fixture(scope="session")
def all_of_it(robust: Made) -> Loaded:
    """What that store gives, read once: not to be changed."""
    return robust.read()
