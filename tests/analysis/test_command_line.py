"""`python -m analysis`: what it writes, how it ends, and that asking for help is instant."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from analysis.__main__ import main
from bench.plan import make_plan
from tests.analysis.synthetic import fill

HEAVY = ("torch", "pandas", "matplotlib", "seaborn", "scipy", "numpy", "sklearn")


def run(*arguments):
    """Run in process; return the exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def where(grid, full, tmp_path):
    return [grid.path, "--store", full.root, "--out", tmp_path / "out"]


def test_tables_are_written_in_three_formats(where, tmp_path, capsys):
    assert run("tables", *where) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"small.csv", "small.md", "small.tex", "small_replicates.csv"} <= names
    assert len(pd.read_csv(tmp_path / "out" / "small.csv")) == 4
    assert str(tmp_path / "out") in capsys.readouterr().out


@pytest.mark.usefixtures("written")
def test_figures_are_written_as_png_and_pdf_with_captions(where, tmp_path):
    assert run("figures", *where) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert {"scores_by_cell.png", "scores_by_cell.replicates.csv"} <= set(names)
    assert [name[:-4] for name in names if name.endswith(".pdf")] == [n[:-4] for n in names if n.endswith(".png")]
    assert "captions.md" in names


def test_report_is_written_and_its_place_is_printed(where, tmp_path, capsys, monkeypatch):
    # Drawing takes seconds, and test_report does it.
    monkeypatch.setattr("analysis.report.write_figures", lambda *_: [])
    assert run("report", *where) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "index.html")
    assert (tmp_path / "out" / "index.html").is_file()


def test_a_second_call_replaces_what_the_first_wrote(where, tmp_path):
    assert run("tables", *where) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert run("tables", *where) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_store_without_runs_says_which_command_makes_them(grid, store, tmp_path, capsys):
    assert run("report", grid.path, "--store", store.root, "--out", tmp_path / "out", "--scale", "small") == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"python -m bench run {grid.path} --scale small --store {store.root}" in message
    assert not (tmp_path / "out").exists()


def test_runs_of_another_scale_do_not_count(grid, store, tmp_path):
    fill(store, make_plan(grid, "small", store), images=20)
    assert run("tables", grid.path, "--store", store.root, "--out", tmp_path / "out") == 2
    assert run("tables", grid.path, "--store", store.root, "--out", tmp_path / "out", "--scale", "small") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no/such/grid.yaml"], "no/such/grid.yaml"),
        ([None, "--scale", "smal"], "did you mean 'small'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(where, capsys, arguments, said):
    grid, *options = where
    first, *others = arguments
    assert run("tables", first or grid, *options, *others) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert "Traceback" not in message


@pytest.mark.parametrize("option", ["--store", "--out"])
def test_a_file_is_no_folder_to_work_in(where, tmp_path, capsys, option):
    file = tmp_path / "file"
    file.touch()
    assert run("tables", *where, option, file) == 2
    assert capsys.readouterr().err == f"error: {option} {file}: {file} is a file, not a folder\n"


def test_damaged_logits_are_named_the_rest_is_written_and_the_exit_code_is_1(where, plan, full, tmp_path, capsys):
    path = full.run(plan.cells[2].runs[0][0]).path / "logits" / "test.safetensors"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    assert run("tables", *where) == 1
    assert str(path) in capsys.readouterr().err
    table = pd.read_csv(tmp_path / "out" / "small.csv").set_index("cell")
    assert table.at["DST M=2 S=0.8", "replicates_done"] == 1
    assert table.at["dense", "replicates_done"] == 2


def test_a_damaged_result_file_is_named_too(where, plan, full, capsys):
    path = full.run(plan.cells[0].runs[0][0]).path / "result.json"
    path.write_text(path.read_text()[:40])
    assert run("tables", *where) == 1
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["tables"], ["figures"], ["report"]])
def test_help_is_instant(command):
    times = []
    for _ in range(3):
        before = os.times()
        done = python("-m", "analysis", *command, "--help")
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert done.returncode == 0
        assert "--help" in done.stdout
    assert min(times) < 0.5


def test_help_loads_nothing_heavy():
    code = f"import sys, analysis.__main__; print([name for name in {HEAVY} if name in sys.modules])"
    assert python("-c", code).stdout.strip() == "[]"


def test_analysis_never_loads_torch(where):
    lines = (
        "import sys, analysis.report",
        "from analysis.__main__ import app",
        "app(sys.argv[1:], standalone_mode=False)",
        "assert 'matplotlib' in sys.modules",
        "assert 'torch' not in sys.modules",
    )
    done = python("-c", "\n".join(lines), "tables", *map(str, where))
    assert done.returncode == 0, done.stderr


def test_options_show_their_defaults(capsys):
    assert run("report", "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "[default: results]" in text
    assert "[default: paper]" in text
    assert "[default: (report/GRID-SCALE)]" in text
