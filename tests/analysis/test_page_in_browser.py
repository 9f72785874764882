"""The page as a reader has it: in a browser, on a phone, in the dark, on paper, by keyboard, without its script."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from analysis.loading import Loaded
from analysis.report import write_report
from bench.store.store import Store
from tests.analysis.browser import opened
from tests.analysis.conftest import GRID
from tests.analysis.stores import Made
from tests.analysis.synthetic import fill

WIDE, PHONE = {"width": 1400, "height": 900}, {"width": 400, "height": 800}
CLAIMS = """
about: a paper
claims:
  - {id: a, text: DST beats dense., where: abstract, direction: higher,
     left: {cell: DST M=2 S=0.8, metric: accuracy}, right: {cell: dense, metric: accuracy}}
  - {id: b, text: EDST is cheaper., where: abstract, direction: lower,
     left: {cell: EDST M=3 S=0.9, metric: train_flops_ratio}, right: {cell: dense, metric: train_flops_ratio}}
"""
DRAWN = ("scores_by_cell", "local-c_severity")
MAIN = "#small table"
ROW_NAMES = f"{MAIN} tbody th"


@pytest.fixture(scope="module", autouse=True)
def browser():
    with opened() as browser:
        yield browser


@pytest.fixture(scope="module")
def finished(robust: Made, tmp_path_factory) -> tuple[Path, Loaded]:
    """A report with claims and two pictures, and what it was made of."""
    made = robust.copied(tmp_path_factory.mktemp("finished") / "grid")
    made.path.write_text(f"{made.path.read_text()}\nclaims: claims.yaml\n")
    (made.path.parent / "claims.yaml").write_text(CLAIMS)
    loaded = made.read()
    out = tmp_path_factory.mktemp("a report & more")
    with pytest.MonkeyPatch.context() as patch:
        # Drawing all takes long, and is tested elsewhere.
        entries = [entry for entry in loaded.figures() if entry.name in DRAWN]
        patch.setattr(Loaded, "figures", lambda _: entries)
        write_report(loaded, out, single_file=True)
    return out, loaded


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory) -> Path:
    """The report of a grid that is still trained, with a replicate less of one cell and none of another."""
    folder = tmp_path_factory.mktemp("unfinished")
    (folder / "small.yaml").write_text(GRID)
    made = Made(folder / "small.yaml", Store(folder / "results"))
    runs = made.plan.cells[2].runs[1][:1] + made.plan.cells[3].runs[0] + made.plan.cells[3].runs[1]
    fill(made.store, made.plan, images=40, leave_out=set(runs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.report.write_figures", lambda *_: [])
        write_report(made.read(), folder / "out")
    return folder / "out"


@dataclass
class Seen:
    """An open page, what its console said, and what it asked for."""

    page: object
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def look(browser):
    contexts = []

    def open_it(path: Path, viewport=WIDE, **options) -> Seen:
        contexts.append(browser.new_context(viewport=viewport, **options))
        seen = Seen(contexts[-1].new_page())
        seen.page.set_default_timeout(60_000)
        seen.page.on("console", lambda message: seen.said.append(message.text))
        seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
        seen.page.on("request", lambda request: seen.asked.append(request.url))
        seen.page.goto(path.as_uri())
        return seen

    yield open_it
    for context in contexts:
        context.close()


@pytest.fixture
def page(look, finished):
    return look(finished[0] / "index.html").page


def texts(page, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


def column(page, head: str) -> list[str]:
    """The texts of a column of the main table that are in sight."""
    heads = [text.split("\n")[0] for text in page.locator(f"{MAIN} thead th").all_text_contents()]
    cells = f"{MAIN} tbody tr:not([hidden]) > :nth-child({heads.index(head) + 1})"
    return page.locator(cells).all_text_contents()


def sort_by(page, head: str):
    """Click on a head of the main table; return what it says of the order."""
    column = page.locator(f"{MAIN} thead th", has=page.get_by_role("button", name=head, exact=True))
    column.get_by_role("button").click()
    return column.get_attribute("aria-sort")


@pytest.mark.parametrize("name", ["index.html", "small-paper.html"])
def test_the_console_is_silent_and_nothing_is_asked_of_a_network(look, finished, name):
    seen = look(finished[0] / name)
    for place in seen.page.locator("section").all():
        place.scroll_into_view_if_needed()
    assert seen.said == []
    assert all(url.startswith(("file://", "data:")) for url in seen.asked)


@pytest.mark.parametrize("viewport", [WIDE, PHONE, {"width": 320, "height": 600}], ids=["wide", "phone", "narrow"])
def test_the_page_never_scrolls_sideways(look, finished, unfinished, viewport):
    for path in (finished[0] / "index.html", unfinished / "index.html"):
        page = look(path, viewport).page
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_axe_finds_nothing(look, finished, unfinished, viewport, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    folder = finished[0] if scheme == "light" else unfinished
    result = axe.Axe().run(look(folder / "index.html", viewport, color_scheme=scheme).page)
    assert result.violations_count == 0, result.generate_report()
    assert result.response["passes"]


def test_links_lead_to_places_of_the_page_and_to_files(page, finished):
    missing = page.evaluate(
        """[...document.querySelectorAll("a[href^='#']")].map((link) => decodeURIComponent(link.hash.slice(1)))
        .filter((id) => !document.getElementById(id))"""
    )
    assert missing == []
    files = page.evaluate("[...document.querySelectorAll('a:not([href^=\"#\"])')].map((link) => link.href)")
    assert len(files) > 20
    for file in files:
        path = Path(unquote(urlsplit(file).path))
        assert path.is_file()
        assert path.is_relative_to(finished[0])


def test_a_click_on_a_head_sorts_the_best_first_then_the_other_way_then_as_before(page):
    before = texts(page, ROW_NAMES)
    values = [float(text.split()[0]) for text in column(page, "Accuracy (%)")]
    assert sort_by(page, "Accuracy (%)") == "descending"
    assert [float(text.split()[0]) for text in column(page, "Accuracy (%)")] == sorted(values, reverse=True)
    assert sort_by(page, "Accuracy (%)") == "ascending"
    assert [float(text.split()[0]) for text in column(page, "Accuracy (%)")] == sorted(values)
    assert sort_by(page, "NLL") == "ascending"
    assert page.locator(f"{MAIN} th[aria-sort=ascending]").count() == 1
    assert sort_by(page, "NLL") == "descending"
    assert sort_by(page, "NLL") == "none"
    assert texts(page, ROW_NAMES) == before


def test_rows_without_a_value_stay_last(page):
    for _ in range(2):
        sort_by(page, "Disagreement")
        shown = column(page, "Disagreement")
        assert shown[-1] == ""
        assert "" not in shown[:-1]


def test_names_are_sorted_as_words_and_numbers(page):
    assert sort_by(page, "Cell") == "ascending"
    assert texts(page, ROW_NAMES) == ["dense", "dense ensemble M=2", "DST M=2 S=0.8", "EDST M=3 S=0.9"]


def test_the_keyboard_sorts_and_reaches_every_table(page):
    page.locator(f"{MAIN} thead button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator(f"{MAIN} thead th").first.get_attribute("aria-sort") == "ascending"
    assert page.locator(".scroll").evaluate_all("areas => areas.every((area) => area.tabIndex === 0)")


def test_the_skip_link_comes_first_and_leads_to_the_results(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.tagName") == "MAIN"


def test_the_box_filters_rows_by_all_of_its_words(page):
    box = page.get_by_role("searchbox", name="Filter rows of Results", exact=True)
    box.fill("dst s=0.8")
    assert column(page, "Cell") == ["DST M=2 S=0.8"]
    assert page.locator("#small output").inner_text() == "1 of 4 rows"
    box.fill("")
    assert len(column(page, "Cell")) == 4
    assert page.locator("#small output").inner_text() == ""


def test_differences_to_dense_are_shown_on_demand(page, finished):
    replicates = finished[1].results.replicates.set_index(["cell", "replicate"])["accuracy"] * 100
    before = column(page, "Accuracy (%)")
    box = page.get_by_role("checkbox", name="Difference to dense in Results", exact=True)
    box.check()
    shown = dict(zip(column(page, "Cell"), column(page, "Accuracy (%)"), strict=True))
    assert shown["dense"] == "reference"
    for cell in ("DST M=2 S=0.8", "EDST M=3 S=0.9"):
        assert float(shown[cell].split()[0]) == pytest.approx((replicates[cell] - replicates["dense"]).mean(), abs=5e-3)
    assert column(page, "Disagreement") == ["", "", "", ""]
    box.uncheck()
    assert column(page, "Accuracy (%)") == before


def test_columns_under_one_head_sort_and_show_differences_each_by_itself(page):
    table = page.locator("#small_ood_auroc table")
    assert texts(page, "#small_ood_auroc th[scope=colgroup]")[0] == "1 - max probability"
    heads = table.locator("thead tr").last.locator("th")
    assert [text.split("\n")[0] for text in heads.all_text_contents()][1:3] == ["MNIST", "Uniform noise"]

    def values(column: int) -> list[float]:
        cells = table.locator(f"tbody tr > :nth-child({column + 1})").all_text_contents()
        return [float(text.split()[0]) for text in cells if text]

    for column in (1, 2):
        before = values(column)
        heads.nth(column).get_by_role("button").click()
        assert heads.nth(column).get_attribute("aria-sort") == "descending"
        assert values(column) == sorted(before, reverse=True)
        assert table.locator("th[aria-sort=descending]").count() == 1
    assert table.locator("td strong").count() >= 2
    page.get_by_role("checkbox", name="Difference to dense in Out of distribution: AUROC (%)", exact=True).check()
    dense = table.locator("tbody tr", has=page.get_by_role("rowheader", name="dense", exact=True))
    assert dense.locator("td").all_inner_texts() == ["reference"] * 4 + ["", ""]


def test_the_name_of_a_row_stays_in_sight(look, finished):
    page = look(finished[0] / "index.html", PHONE).page
    name, area = page.locator(ROW_NAMES).first, page.locator("#small .scroll")
    before = name.bounding_box()["x"]
    area.evaluate("area => { area.scrollLeft = 200; }")
    assert area.evaluate("area => area.scrollLeft") == 200
    assert name.bounding_box()["x"] == pytest.approx(before, abs=1)


def test_contents_are_folded_on_a_phone_and_beside_the_text_on_a_wide_screen(look, finished):
    phone, wide = (look(finished[0] / "index.html", viewport).page for viewport in (PHONE, WIDE))
    link = "nav a[href='#at-accuracy']"
    assert not phone.locator(link).is_visible()
    phone.locator("nav summary").click()
    phone.locator(link).click()
    assert phone.locator("#at-accuracy").bounding_box()["y"] < 100
    assert wide.locator(link).is_visible()
    wide.locator("#at-files").scroll_into_view_if_needed()
    assert wide.locator("nav").bounding_box()["y"] == pytest.approx(0, abs=1)
    wide.get_by_role("link", name="Back to top").click()
    assert wide.evaluate("scrollY") == 0


def test_pictures_say_what_they_show_and_keep_their_place(page):
    for picture in page.locator("main img").all():
        picture.scroll_into_view_if_needed()
        picture.evaluate("image => image.decode()")
        size = picture.evaluate("image => [image.naturalWidth, image.naturalHeight, image.width, image.height]")
        assert [int(picture.get_attribute(name)) for name in ("width", "height")] == size[:2]
        assert size[2] / size[3] == pytest.approx(size[0] / size[1], rel=0.01)
        assert picture.get_attribute("loading") == "lazy"
        assert "of 4 cells" in picture.get_attribute("alt")


def test_everything_can_be_read_without_the_script(look, finished):
    page = look(finished[0] / "index.html", java_script_enabled=False).page
    assert page.locator("input, button").count() == 0
    assert texts(page, ROW_NAMES) == ["dense", "dense ensemble M=2", "DST M=2 S=0.8", "EDST M=3 S=0.9"]
    assert page.locator("nav a").first.is_visible()


def test_figures_lie_on_white_in_the_dark(look, finished):
    page = look(finished[0] / "index.html", color_scheme="dark").page
    color = "element => getComputedStyle(element).backgroundColor.match(/\\d+/g).map(Number)"
    assert max(page.locator("body").evaluate(color)) < 60
    assert min(page.locator("a.image").first.evaluate(color)) > 240


def test_paper_has_no_controls_and_pictures_fit_on_it(look, finished):
    page = look(finished[0] / "index.html", {"width": 720, "height": 1000}, color_scheme="dark").page
    page.emulate_media(media="print")
    for hidden in ("nav", ".tools", ".top", ".skip"):
        assert not page.locator(hidden).first.is_visible()
    assert page.locator("main img").evaluate_all("all => Math.max(...all.map((image) => image.height))") < 1000
    assert page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_grid_that_is_not_finished_says_how_far_it_is(look, unfinished):
    page = look(unfinished / "index.html").page
    bar = page.get_by_role("progressbar", name="Runs that are done")
    assert (bar.get_attribute("value"), bar.get_attribute("max")) == ("7", "10")
    assert "Not finished: 7 of 10 runs are done" in page.locator("#at-answer").inner_text()
    assert dict(zip(column(page, "Cell"), column(page, "Replicates"), strict=True))["EDST M=3 S=0.9"] == "0 of 2"
