"""The page that holds the report: structure, style and script, nothing about its content."""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

ASSETS = Path(__file__).with_name("assets")


class Item(NamedTuple):
    """A part of a group that the contents name; its body is HTML already."""

    anchor: str
    title: str
    body: str


class Group(NamedTuple):
    """Parts that belong together, under a heading of their own."""

    anchor: str
    title: str
    items: tuple[Item, ...]


def page(title: str, subtitle: str, lead: Sequence[Item], groups: Sequence[Group]) -> str:
    """Return an HTML document that needs no other file: title, contents, what comes first, then the groups."""
    style, script = ((ASSETS / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    bodies = "\n".join(map(_group, groups))
    firsts = "\n".join(
        f'<section class="lead" id="{_text(item.anchor)}" aria-labelledby="{_text(item.anchor)}-title">\n'
        f'<h2 id="{_text(item.anchor)}-title">{_text(item.title)}</h2>\n{item.body}\n</section>'
        for item in lead
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{_text(title)}</title>\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#at-main">Skip to the results</a>\n'
        f'<header id="at-top">\n<h1>{_text(title)}</h1>\n<p>{_text(subtitle)}</p>\n</header>\n'
        f"{_contents(lead, groups)}\n"
        f'<main id="at-main" tabindex="-1">\n{firsts}\n{bodies}\n</main>\n'
        "<footer>\n<p>Made by <code>python -m analysis report</code> from the store alone.</p>\n"
        '<a class="top" href="#at-top">Back to top</a>\n</footer>\n'
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _contents(lead: Sequence[Item], groups: Sequence[Group]) -> str:
    entries = [_link(item.anchor, item.title) for item in lead]
    for group in groups:
        items = "".join(f"<li>{_link(item.anchor, item.title)}</li>" for item in group.items)
        entries.append(f"{_link(group.anchor, group.title)}{f'<ul>{items}</ul>' if len(group.items) > 1 else ''}")
    listed = "\n".join(f"<li>{entry}</li>" for entry in entries)
    return (
        f'<nav aria-label="Contents">\n<details open>\n<summary>Contents</summary>\n<ul>\n{listed}\n</ul>\n</details>\n'
        "</nav>"
    )


def _group(group: Group) -> str:
    items = []
    for item in group.items:
        head = "" if item.title == group.title else f"<h3>{_link(item.anchor, item.title)}</h3>\n"
        items.append(f'<section id="{_text(item.anchor)}">\n{head}{item.body}\n</section>')
    head = f"<h2>{_link(group.anchor, group.title)}</h2>"
    return "\n".join([f'<div id="{_text(group.anchor)}">', head, *items, "</div>"])


def _link(anchor: str, title: str) -> str:
    return f'<a href="#{quote(anchor)}">{_text(title)}</a>'


def paragraphs(sentences: Iterable[str]) -> str:
    """Return each sentence as a paragraph."""
    return "".join(f"<p>{_text(sentence)}</p>" for sentence in sentences)


def bullets(sentences: Iterable[str]) -> str:
    """Return sentences as a list, nothing for none."""
    entries = "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences)
    return f"<ul>{entries}</ul>" if entries else ""


def box(kind: str, body: str) -> str:
    """Return HTML in a frame, nothing for nothing."""
    return f'<div class="box {kind}">{body}</div>' if body else ""


def _text(text: str) -> str:
    return html.escape(text)
