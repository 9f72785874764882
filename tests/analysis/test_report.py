"""The report: complete, readable without a network, honest about what is missing."""

import base64
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from analysis.loading import load
from analysis.paper.work import Work
from analysis.report import all_tables, write_report
from bench.plan import make_plan
from bench.store.store import DataRecord
from bench.work.code import suite_version
from tests.analysis.stores import truncate
from tests.analysis.synthetic import fill

VOID = {"meta", "img", "link", "br", "hr"}


class Page(HTMLParser):
    """Collects references and text, and checks that tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.references, self.ids, self.text = [], [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.references += [value for key, value in attributes if key in ("href", "src")]
        self.ids += [value for key, value in attributes if key == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def report(loaded, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    return out, Page(write_report(loaded, out).read_text(encoding="utf-8"))


def lead_of(text):
    """What a page says before the first table."""
    return text[text.index('id="at-answer"') : text.index('id="at-results"')]


def test_tags_are_balanced_and_style_and_script_are_within(report):
    _, page = report
    assert page.open == []
    assert page.tags.count("script") == page.tags.count("style") == 1
    assert not {"iframe", "link"} & set(page.tags)


def test_every_reference_is_a_file_of_the_report_or_a_place_in_the_page(report):
    out, page = report
    assert page.references
    for reference in page.references:
        assert not reference.startswith(("http", "/", "data:"))
        if reference.startswith("#"):
            assert unquote(reference[1:]) in page.ids
        else:
            assert (out / unquote(reference)).is_file()


def test_every_file_is_in_the_index(report):
    out, page = report
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} - {"index.html"}
    assert files == {unquote(reference) for reference in page.references if not reference.startswith("#")}
    assert len(set(page.ids)) == len(page.ids)


def test_every_cell_and_figure_is_shown(report, loaded):
    _, page = report
    assert page.tags.count("img") == len(list(loaded.figures()))
    assert page.tags.count("table") == 8
    assert all(cell in page.text for cell in loaded.results.cells["cell"])
    assert "A small grid" in page.text


@pytest.fixture
def without_figures(monkeypatch):
    """Drawing takes seconds, and is tested elsewhere."""
    monkeypatch.setattr("analysis.report.write_figures", lambda *_: [])


@pytest.mark.usefixtures("without_figures")
def test_the_report_of_a_scale_says_what_it_is_not(grid, store, read, tmp_path):
    store.record_data("digits", DataRecord("folder-12ab", "x", "Photographs, not the embedded digits."))
    plan = make_plan(grid, "small", store)
    fill(store, plan, images=40, leave_out={plan.cells[-1].runs[0][0]})
    out = tmp_path / "with a space & more"
    text = write_report(read("small"), out).read_text(encoding="utf-8")
    assert Page(text).open == []
    introduction = lead_of(text)
    assert "Scale small: not comparable with published numbers." in introduction
    assert "Photographs, not the embedded digits." in introduction
    assert "EDST M=3 S=0.9 (0 of 1)" in introduction
    assert "1 missing" in introduction


def test_runs_without_a_complete_replicate_still_make_a_report(plan, store, read, tmp_path):
    ensemble = plan.cells[2]
    fill(store, plan, images=40, leave_out={run.id for run in plan.runs} - {ensemble.runs[0][0]})
    page = Page(write_report(read(), tmp_path / "out").read_text(encoding="utf-8"))
    assert "n = 0 replicates a cell." in page.text
    assert "Training curves" in page.text


@pytest.mark.usefixtures("without_figures", "full")
def test_claims_of_the_grid_are_judged_in_the_report(grid, read, tmp_path):
    grid.path.write_text(f"{grid.path.read_text()}\nclaims: claims.yaml\n")
    (grid.path.parent / "claims.yaml").write_text(
        "claims: [{id: x, text: Dynamic beats dense., where: abstract, left: {cell: DST M=2 S=0.8, metric: accuracy},"
        " right: {cell: dense, metric: accuracy}, direction: higher}]"
    )
    page = Page(write_report(read(), tmp_path / "out").read_text(encoding="utf-8"))
    assert "Dynamic beats dense." in page.text
    assert (tmp_path / "out" / "tables" / "small_claims.csv").is_file()


@pytest.mark.usefixtures("without_figures")
def test_what_was_left_out_is_named_in_the_report(plan, full, read, tmp_path):
    path = full.run(plan.cells[2].runs[0][0]).path / "logits" / "test.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    text = write_report(read(), tmp_path / "out").read_text(encoding="utf-8")
    assert Page(text).open == []
    assert str(path) in lead_of(text)


@pytest.mark.parametrize("lost", [("dense",), ("dense", "dense ensemble M=2"), ("EDST M=3 S=0.9",), None])
def test_a_report_is_made_though_every_run_of_a_cell_is_unusable(evaluated, lost):
    cells = [cell for cell in evaluated.plan.cells if lost is None or cell.name in lost]
    runs = {run for cell in cells for replicate in cell.runs for run in replicate}
    paths = [path for run in runs for path in evaluated.store.run(run).path.glob("logits/**/*.safetensors")]
    for path in paths:
        truncate(path)
    loaded = evaluated.read()
    for entry in loaded.figures():
        entry.draw()
    main, *_ = all_tables(loaded)
    done = dict(zip(loaded.results.cells["cell"], loaded.results.cells["replicates_done"], strict=True))
    usable = {cell.name for cell in evaluated.plan.cells if not runs & {run for row in cell.runs for run in row}}
    assert {name for name, count in done.items() if count == 2} == usable
    assert [row[0] for row in main.rows] == list(done)
    for replicate in (replicate for cell in cells for replicate in cell.runs):
        assert any(str(evaluated.store.run(run).path) in problem for run in replicate for problem in loaded.problems)


@pytest.mark.usefixtures("without_figures", "full")
def test_the_same_results_give_the_same_bytes(read, tmp_path):
    pages = [write_report(read(), tmp_path / name, single_file=True) for name in ("one", "other")]
    assert len({page.read_bytes() for page in pages}) == 1
    assert len({page.with_name("index.html").read_bytes() for page in pages}) == 1


def test_a_page_in_one_file_asks_for_no_other(loaded, tmp_path, monkeypatch):
    first = next(iter(loaded.figures()))
    monkeypatch.setattr("analysis.loading.Loaded.figures", lambda _: [first])
    path = write_report(loaded, tmp_path / "out", single_file=True)
    assert path.name == "small-paper.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert all(reference.startswith(("#", "data:")) for reference in page.references)
    picture = next(reference for reference in page.references if reference.startswith("data:image/png"))
    content = base64.b64decode(picture.partition(",")[2])
    assert content == (tmp_path / "out" / "figures" / f"{first.name}.png").read_bytes()
    csv = base64.b64encode((tmp_path / "out" / "tables" / "small.csv").read_bytes()).decode()
    assert f"data:text/csv;base64,{csv}" in page.references


@pytest.mark.usefixtures("without_figures", "full")
def test_a_grid_lies_beside_its_report_with_what_it_extends(grid, tmp_path):
    below = grid.path.rename(grid.path.with_name("below & more.yaml"))
    grid.path.write_text("title: Above\nextends: below & more.yaml\n")
    out = tmp_path / "out"
    text = write_report(load(grid.path, tmp_path / "results", "paper"), out).read_text(encoding="utf-8")
    assert (out / "grid" / "small.yaml").read_text() == grid.path.read_text()
    assert (out / "grid" / below.name).read_text() == below.read_text()
    assert 'href="grid/below%20%26%20more.yaml"' in lead_of(text)
    assert "exploration_epochs: 6" in lead_of(text)


def test_the_page_opens_with_what_was_run_on_what_and_for_how_long(loaded, monkeypatch, tmp_path):
    work = Work(
        hours=1.5, runs=10, sessions=12, unfinished=1, devices=("A device",), versions=("Python 3.11, torch 2.6",),
        commits=("0123456789ab",), began="2026-01-01 10:00", ended="2026-01-02 11:00", device_hours=2.25,
        gpu_energy=0.5,
    )  # fmt: skip
    monkeypatch.setattr("analysis.report.write_figures", lambda *_: [])
    text = lead_of(write_report(replace(loaded, work=work), tmp_path).read_text(encoding="utf-8"))
    for said in (
        "10 distinct runs: 10 done", "A device", "Python 3.11, torch 2.6", "commit 0123456789ab", "1.50 hours",
        "2.25 device-hours", "0.50 kWh of GPUs", "2026-01-01 10:00 to 2026-01-02 11:00", "12 sessions for 10 finished",
        suite_version(), "n = 2 replicates a cell.",
    ):  # fmt: skip
        assert said in text
    assert "Not finished" not in text
