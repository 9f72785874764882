"""The pages as a site: a strict build, in which every link leads somewhere and the library is described."""

import re
import subprocess
import sys
from html import unescape
from inspect import unwrap
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import bench.metrics
from tests.grid_text import REPOSITORY


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_link_leads_to_a_file_and_a_place_in_it(site: Path, pages: dict[Path, str]) -> None:
    ids = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in pages.items()}
    count = 0
    for path, text in pages.items():
        for found in re.findall(r'\b(?:href|src)="([^"]*)"', text):
            link, anchor = urldefrag(unquote(unescape(found)))
            if ":" in link:
                continue
            target = (path.parent / link).resolve() if link else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path.relative_to(site)}: {found}"
            assert not anchor or anchor in ids[target], f"{path.relative_to(site)}: {found}"
            count += 1
    assert count > 1000


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, str]) -> None:
    for text in pages.values():
        loaded = re.findall(r'<(?:script|img|iframe)\b[^>]*\bsrc="([^"]*)"|<link\b[^>]*\bhref="([^"]*)"', text)
        assert not [link for link in map("".join, loaded) if "//" in link]


@pytest.mark.parametrize(
    ("page", "linked"),
    [
        ("index.html", "grids/"),  # README.md: docs/grids.md
        ("grids/index.html", "../source/bench/data/decode.py/"),  # docs/grids.md: ../bench/data/decode.py
        ("source/paper_configs/published/index.html", None),  # paper_configs/published/README.md, from docs/verdicts.md
        ("source/slurm/sites/example.yaml/index.html", None),
    ],
)
def test_links_of_the_repository_are_links_of_the_site(site: Path, page: str, linked: str | None) -> None:
    text = (site / page).read_text(encoding="utf-8")
    assert linked is None or f'href="{linked}"' in text


def test_every_metric_and_what_the_library_offers_is_described_once(pages: dict[Path, str]) -> None:
    described = [
        name for text in pages.values() for name in re.findall(r'<h\d id="((?:bench|analysis)\.[\w.]+)"', text)
    ]
    metrics = [unwrap(getattr(bench.metrics, name)) for name in bench.metrics.__all__]
    wanted = {f"{metric.__module__}.{metric.__name__}" for metric in metrics}
    wanted |= {"bench.sparsity.DynamicSparsity", "bench.load_ticket", "analysis.load_results"}
    assert wanted <= set(described)
    assert len(described) == len(set(described))


def test_settings_are_a_list_and_the_signature_has_their_defaults(pages: dict[Path, str], site: Path) -> None:
    text = pages[site / "api" / "sparsity" / "index.html"]
    assert "<li><strong>drop_fraction</strong>: share of each layer's active weights" in text
    plain = re.sub(r"<[^>]+>|\s", "", text)
    assert "drop_fraction:float=0.5," in plain
