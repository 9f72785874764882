"""Notebooks are stored without results, run as they are, and show what they say."""

import json
import resource
from io import StringIO
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient

from tests.grid_text import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "docs" / "notebooks").glob("*.ipynb"))
CPU_SECONDS = 60


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_results(path: Path) -> None:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert "outputs" not in cell or (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[nbformat.NotebookNode, float]:
    """The notebook after it ran in an empty folder, with a last cell of ours, and its CPU seconds."""
    notebook = nbformat.read(REPOSITORY / "docs" / "notebooks" / "resnet18.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("print(table.to_json(orient='split'))"))
    folder, before = tmp_path_factory.mktemp("notebook"), children()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("MPLBACKEND", raising=False)  # a notebook shows figures below its cells
        client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
        client.execute()
    return notebook, children() - before


@pytest.mark.slow
def test_it_runs_within_a_minute_of_one_core(executed: tuple[nbformat.NotebookNode, float]) -> None:
    notebook, seconds = executed
    assert 0 < seconds < CPU_SECONDS
    assert not [
        output for cell in notebook.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"
    ]


@pytest.mark.slow
def test_its_ensemble_is_better_than_its_members_and_its_figure_is_drawn(
    executed: tuple[nbformat.NotebookNode, float],
) -> None:
    *cells, last = executed[0].cells
    table = pd.read_json(StringIO(last.outputs[0]["text"]), orient="split")
    members, ensemble = table.iloc[:3], table.iloc[3]
    assert members["accuracy"].min() > 0.5  # of ten classes: they learned, each of them
    assert ensemble["NLL"] < members["NLL"].mean()  # by Jensen's inequality
    assert np.isfinite(table.to_numpy()).all()
    assert [output for cell in cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
