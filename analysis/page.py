"""The page that holds the report: structure and style, nothing about its content."""

import html
from collections.abc import Sequence

STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --tint: #f6f8fa; --link: #0b5394; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2.5rem 1.5rem 5rem; color: var(--ink); background: white;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.25rem; margin: 3rem 0 .75rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h2 a { color: inherit; text-decoration: none; }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: 0 1.1rem; margin: 1.25rem 0 0; font-size: .9rem; line-height: 2; }
nav a { white-space: nowrap; }
ul.caveats { margin: 1rem 0; padding: .7rem 1rem .7rem 2rem; background: #fff8e1; border-left: 4px solid #e0a800; }
div.answer { margin: 1rem 0; padding: .4rem 1rem; background: var(--tint); border-left: 4px solid var(--link); }
div.answer p, div.work p { margin: .4rem 0; } div.work { color: var(--soft); font-size: .9rem; }
div.problems { margin: 1rem 0; padding: .3rem 1rem; background: #fdecea; border-left: 4px solid #c62828; }
figure { margin: 0; }
figure img { width: 100%; height: auto; }
figcaption { margin-top: .6rem; color: var(--soft); font-size: .86rem; max-width: 60rem; }
figcaption p { margin: .35rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .42rem .7rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { border-bottom: 2px solid var(--ink); vertical-align: bottom; font-weight: 600; }
th:first-child, .text { text-align: left; }
td:not(.text) { white-space: nowrap; }
td.text { min-width: 7rem; }
tbody th { font-weight: 500; min-width: 9rem; }
tbody tr:hover { background: var(--tint); }
@media print { body { max-width: none; padding: 0; font-size: 11px; } nav { display: none; }
  figure { break-inside: avoid; } }
"""


def page(title: str, introduction: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """Return an HTML document; introduction and the bodies of sections (anchor, title, body) are HTML already."""
    links = "".join(f'<a href="#{html.escape(anchor)}">{html.escape(name)}</a>' for anchor, name, _ in sections)
    bodies = "\n".join(
        f'<section id="{html.escape(anchor)}">\n<h2><a href="#{html.escape(anchor)}">{html.escape(name)}</a></h2>\n'
        f"{body}\n</section>"
        for anchor, name, body in sections
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{html.escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{html.escape(title)}</h1>\n{introduction}\n"
        f"<nav>{links}</nav>\n</header>\n<main>\n{bodies}\n</main>\n</body>\n</html>\n"
    )
