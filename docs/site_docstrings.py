"""Shows the aligned lines of a docstring (`name   what it is`) as a list; a site would run them together."""

import re

from griffe import Extension, Object

LINE = re.compile(r"(\w+(?:, \w+)*) {2,}(\S.*)")


def as_list(text: str) -> str:
    """Return a docstring whose paragraphs of aligned lines are lists; a line that begins with a blank goes on."""
    return "\n\n".join(_paragraph(paragraph) for paragraph in text.split("\n\n"))


def _paragraph(text: str) -> str:
    items: list[str] = []
    for line in text.split("\n"):
        if match := LINE.fullmatch(line):
            items.append(f"- **{match[1]}**: {match[2]}")
        elif items and line.startswith(" "):
            items[-1] += f" {line.strip()}"
        else:
            return text
    return "\n".join(items)


class AlignedLines(Extension):
    """Changes every docstring as it is read."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_list(obj.docstring.value)
