"""A grid, a site and a store in a folder, for commands against a faked SLURM."""

from pathlib import Path

import pytest

from bench.grid import load_grid
from bench.plan import make_plan
from bench.plan.records import RunPlan
from bench.store.store import Store
from slurm import __main__ as command_line

GRID = """
replicates: 2
base:
  data: {name: digits, train_images: 64, validation_images: 32, test_images: 32}
  model: {name: wide_resnet, depth: 10, width: 1}
cells:
  - {name: dense, method: dense, recipe: {epochs: 3}}
  - {name: PF, method: prune_finetune, members: 1, sparsity: 0.8, recipe: {dense_epochs: 3, epochs: 2}}
"""
RUNS = 4  # two dense ones, which are the parents of the two others
SITE = "{partition: main, gpus: 0, cpus: 2, walltime: 2h, max_jobs: 3}"


class Place:
    """A grid, a site and a store in one folder, and the commands on them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.grid, self.site, self.store = folder / "my grid.yaml", folder / "site.yaml", Store(folder / "results")
        self.grid.write_text(GRID)
        self.site.write_text(SITE)
        self._capsys = capsys

    def call(self, *arguments: str) -> tuple[int, str]:
        code = 0
        try:
            command_line.main(list(arguments))
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = self._capsys.readouterr()
        return code, out + err

    def submit(self, *options: str) -> tuple[int, str]:
        return self.call("submit", str(self.grid), "--site", str(self.site), "--store", str(self.store.root), *options)

    def on_store(self, command: str, *options: str) -> tuple[int, str]:
        return self.call(command, *options, "--store", str(self.store.root))

    def runs(self) -> tuple[RunPlan, ...]:
        return make_plan(load_grid(self.grid), "paper", self.store).runs

    def ids(self) -> list[str]:
        return [run.id for run in self.runs()]
