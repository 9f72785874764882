"""What the site has beside docs/*.md: README and its like, notebooks, and each file that a page links to.

So one relative link works in both places. `mkdocs` calls on_files and on_page_markdown (mkdocs.yml, hooks).
"""

import json
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(?<=\]\()(?![\w+.-]+:|[#/])([^)\s#]+)")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".csv": "text"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/, then what pages link to, and what those pages link to in turn."""
    for path, page in PAGES.items():
        files.append(File.generated(config, page, content=_read(path)))
    for notebook in sorted((ROOT / "docs").rglob("*.ipynb")):
        path = notebook.relative_to(ROOT).as_posix()
        files.append(File.generated(config, _place_of(path), content=_notebook(path)))
    waiting = files.documentation_pages()
    while waiting:
        page = waiting.pop()
        for path in _linked(page.content_string, _path_of(page.src_uri)):
            if files.get_file_from_path(_place_of(path)) is None:
                file = File.generated(config, _place_of(path), content=_shown(path))
                files.append(file)
                waiting.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001, as called
    """Turn links to files of the repository into links to where these are in the site."""
    here = page.file.src_uri

    def to_place(link: re.Match[str]) -> str:
        path = _target(link[1], _path_of(here))
        return link[1] if path is None else posixpath.relpath(_place_of(path), posixpath.dirname(here) or ".")

    return LINK.sub(to_place, markdown)


def _linked(markdown: str, path: str) -> list[str]:
    targets = (_target(link, path) for link in LINK.findall(markdown))
    return [target for target in targets if target is not None]


def _target(link: str, path: str) -> str | None:
    """Return what a link of a file means, relative to the repository; None unless it is there."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    return target if (ROOT / target).exists() and not target.startswith("..") else None


def _place_of(path: str) -> str:
    """Return where a file of the repository is in the site."""
    if path in PAGES:
        return PAGES[path]
    if path.endswith(".ipynb"):
        path = f"{path.removesuffix('.ipynb')}.md"
    inside = path.removeprefix("docs/")
    return inside if inside != path else f"source/{path.removesuffix('.md')}.md"


def _path_of(place: str) -> str:
    """Return which file of the repository a page of the site shows; the inverse of _place_of for pages."""
    paths = {page: path for path, page in PAGES.items()}
    shown = place.removeprefix("source/").removesuffix(".md")
    if place.startswith("source/"):
        return shown if (ROOT / shown).exists() else f"{shown}.md"
    return paths.get(place, f"docs/{place}")


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _notebook(path: str) -> str:
    """Return the page of a notebook: its text and its code; it is stored without results."""
    cells = json.loads(_read(path))["cells"]
    texts = ("".join(cell["source"]) for cell in cells)
    shown = (
        text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
        for cell, text in zip(cells, texts, strict=True)
    )
    return "\n\n".join(shown) + "\n"


def _shown(path: str) -> str:
    """Return the page that shows a file, or the files of a folder."""
    file = ROOT / path
    if file.suffix == ".md":
        return _read(path)
    if file.is_dir():
        names = sorted(child.name for child in file.iterdir() if child.is_file())
        text = "\n".join(f"- [{name}]({file.name}/{name})" for name in names)
    else:
        text = f"````{LANGUAGES.get(file.suffix, 'text')}\n{_read(path)}````"
    return f"---\nsearch: {{exclude: true}}\n---\n# {path}\n\n{text}\n"
