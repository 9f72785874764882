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
# Of the processor: 30 where AVX512 is, three times as many with AVX2 alone, and more beside other work.
CPU_SECONDS = 600


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_results(path: Path) -> None:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert "outputs" not in cell or (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [6, pytest.param(None, marks=pytest.mark.long)])
def test_the_notebook_trains_calibrates_and_draws_within_minutes_of_one_core(tmp_path: Path, steps: int | None) -> None:
    """With a few steps a ticket; in the long tests as it is, and then its networks learn."""
    notebook = nbformat.read(REPOSITORY / "docs" / "notebooks" / "resnet18.ipynb", as_version=4)
    if steps is not None:
        (cell,) = (cell for cell in notebook.cells if cell.source.startswith("TICKETS, STEPS"))
        cell.source = cell.source.replace("= 3, 48,", f"= 3, {steps},").replace("update_every=12", "update_every=2")
        assert f"3, {steps}, 64" in cell.source
        assert "update_every=2," in cell.source
    shown = len(notebook.cells)
    notebook.cells.append(nbformat.v4.new_code_cell("print(table.to_json(orient='split'))"))
    before = children()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        patch.setenv("TMPDIR", str(tmp_path))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("MPLBACKEND", raising=False)  # a notebook shows figures below its cells
        NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert 0 < children() - before < CPU_SECONDS

    table = pd.read_json(StringIO(notebook.cells[-1].outputs[0]["text"]), orient="split")
    members, ensemble = table.iloc[:3], table.iloc[3]
    assert steps is not None or members["accuracy"].min() > 0.5  # of ten classes: they learned, each of them
    assert ensemble["NLL"] < members["NLL"].mean()  # by Jensen's inequality
    assert np.isfinite(table.to_numpy()).all()
    outputs = [output for cell in notebook.cells[:shown] for output in cell.get("outputs", [])]
    assert [output for output in outputs if "image/png" in output.get("data", {})]
    assert not [output for output in outputs if output.get("name") == "stderr"]
