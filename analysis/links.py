"""Where a page finds its files: beside it, or, in a page that is sent as one file, within it."""

import base64
import html
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

KINDS = {
    ".png": "image/png",
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".tex": "text/x-tex",
    ".json": "application/json",
    ".yaml": "application/yaml",
}


class Links:
    """Links to files by their path from the folder of the report.

    within   the page has pictures and small files within, and none of the other files beside it
    """

    def __init__(self, folder: Path, *, within: bool = False) -> None:
        self._folder = folder
        self._within = within

    def source(self, path: str) -> str:
        """Return what an image or a link points to."""
        if not self._within:
            return quote(path)
        file = self._folder / path
        content = base64.b64encode(file.read_bytes()).decode("ascii")
        return f"data:{KINDS.get(file.suffix, 'text/plain')};base64,{content}"

    def around(self, path: str, body: str) -> str:
        """Return HTML as a link to a file, or as it is where that is not beside the page."""
        return body if self._within else f'<a class="image" href="{quote(path)}">{body}</a>'

    def link(self, text: str, path: str) -> str:
        """Return a link to a file, in a page that has its files within one that saves it."""
        saved = f' download="{html.escape(Path(path).name)}"' if self._within else ""
        return f'<a href="{self.source(path)}"{saved}>{html.escape(text)}</a>'

    def of(self, what: str, files: Mapping[str, str], *, small: bool = False) -> str:
        """Return a line of links to files, text -> path; only small ones are had in a page that has them within."""
        if self._within and not small:
            return ""
        links = ", ".join(self.link(text, path) for text, path in files.items())
        return f'<p class="files">{what}{": " if what else ""}{links}</p>'
