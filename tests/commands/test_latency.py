"""`bench latency`: what is trained is measured and kept; what is not, or is damaged, is named."""

from pathlib import Path

import pytest

from bench.__main__ import main
from bench.grid import load_grid
from bench.plan import make_plan
from bench.store.latency import read_latencies
from bench.store.store import Store
from tests.evaluation.stored import finished_run
from tests.grid_text import write_grid

GRID = """
replicates: 2
base: {data: digits, model: {depth: 10, width: 1}}
cells:
  - {name: dense, method: dense}
  - {name: DST, method: dst, sparsity: 0.8, members: 2}
  - {name: static, method: static, sparsity: 0.8}
"""


class Here:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.grid, self.root, self._capsys = write_grid(folder, GRID), folder / "results", capsys
        self.plan = make_plan(load_grid(self.grid), "paper", None)
        self.specs = {run.id: run.spec for run in self.plan.runs}

    def train(self, *cells: str) -> None:
        for cell in self.plan.cells:
            if cell.name in cells:
                for run in cell.runs[0]:
                    finished_run(self.root, self.specs[run])

    def __call__(self, *words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["latency", str(self.grid), "--store", str(self.root), "--seconds", "0", *words])
        out, err = self._capsys.readouterr()
        return int(ended.value.code or 0), out, err

    def kept(self) -> list[str]:
        (latencies,), problems = read_latencies(self.root)
        assert not problems
        return [ensemble.cell for ensemble in latencies.ensembles]


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setenv("COLUMNS", "120")
    return Here(tmp_path, capsys)


def test_finished_cells_are_measured_and_the_others_named(here: Here) -> None:
    here.train("dense", "DST")
    code, out, err = here()
    assert (code, err) == (1, "")
    assert "not measured: static (missing)" in out
    assert here.kept() == ["dense", "DST"]
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith(("dense ", "DST "))}
    assert rows["DST"][1] == "2"
    assert "2:4 kernels do not apply" in out


def test_a_later_call_adds_to_what_is_kept(here: Here) -> None:
    here.train("dense", "DST", "static")
    assert here("--select", "cell=dense")[0] == 0
    assert here.kept() == ["dense"]
    assert here("--select", "cell=static")[0] == 0
    assert here.kept() == ["dense", "static"]


@pytest.mark.parametrize("bytes_left", [0, 1])
def test_a_damaged_ticket_costs_its_cell_alone(here: Here, bytes_left: int) -> None:
    here.train("dense", "DST", "static")
    run = Store(here.root).run(here.plan.cells[1].runs[0][1])
    file = run.tensor_file("tickets", 0)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # which only its checksum shows
    file.write_bytes(content * bytes_left)
    code, out, err = here()
    assert code == 1
    assert here.kept() == ["dense", "static"]
    found = " ".join((out + err).split())
    assert (run.path.name if bytes_left else "not measured: DST (damaged)") in found
    assert "Traceback" not in found


def test_damaged_records_are_named_and_no_ensemble_is_measured_in_vain(here: Here) -> None:
    here.train("dense")
    here("--select", "cell=dense")
    (file,) = (here.root / "latency").glob("*.json")
    file.write_text("{}")
    code, _, err = here("--select", "cell=dense")
    assert (code, err.startswith("error: "), file.name in err) == (2, True, True)
