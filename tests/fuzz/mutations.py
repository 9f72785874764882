"""Mutations of documents: of what a parser makes of them, and of their bytes."""

import math
from collections.abc import Iterator, MutableMapping, MutableSequence
from copy import deepcopy
from datetime import date
from typing import Any

from hypothesis import strategies as st

TEXTS = ["", " ", "a", "0", "1e3", "a\nb", "a\tb", "\0", "\x1b[31m", "\u202e", "\u2028", "ä" * 61, "x" * 5000, "-1"]
TEXTS += ["--help", "$HOME", "$NOT_SET", "%j", "{x}", "../..", "/dev/null", "~nobody_of_this_name/x", ":", "nowhere:x"]
TEXTS += ["\\", "'", '"', "a;b", "a|b", "#", "auto", "null", "1/3", "1e999", "9" * 400, "24:00:00", "999999999d", "a.b"]
NUMBERS = [-1, 0, 1, 2, 3, 999, 10**9, 10**17, 10**30, -(10**30)]
NUMBERS += [0.5, -0.0, 1e-320, 1e308, math.inf, -math.inf, math.nan]
OTHERS = [None, True, False, [], {}, [None], [[]], [[[]]], {"a": 1}, {"": {}}, {"name": None}, [1] * 1001, [0.5, "a"]]
VALUES = st.sampled_from([*TEXTS, *NUMBERS, *OTHERS])
# What YAML knows besides.
YAML_VALUES = st.one_of(VALUES, st.sampled_from([date(2024, 1, 1), b"bytes", {1: 2}, {None: 1}, {True: {}}]))
SNIPPETS = [b"\0", b"\xff\xfe", b"\t", b"\r", b"\xe9", "\u2028é".encode(), b"---\n", b"...\n", b"%YAML 9\n"]
SNIPPETS += [b"&a ", b"*a ", b"<<: *a\n", b"!!binary ", b"!!float abc ", b"!!python/object/apply:os.abort []"]
SNIPPETS += [b"- - - ", b"{", b"}", b"[", b"]", b"[" * 50, b"'", b'"', b"? ", b": ", b", ", b"|\n", b">\n", b"# "]
SNIPPETS += [b"9" * 5000, b"1e999999", b"2024-01-01", b".nan"]


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container of a tree with each of its keys."""
    for key in list(tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()):
        yield tree, key
        yield from _places(tree[key])


@st.composite
def mutated_tree(draw: st.DrawFn, tree: Any, values: st.SearchStrategy[Any] = VALUES) -> Any:
    """Return a copy of a tree of mappings and lists with one to three mistakes in it."""
    whole = [deepcopy(tree)]
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(whole))
        container, key = places[draw(st.integers(0, len(places) - 1))]
        other, other_key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "wrap", "copy", "repeat"])):
            case "replace":
                container[key] = deepcopy(draw(values))
            case "remove" if container is not whole:
                del container[key]
            case "rename" if isinstance(container, MutableMapping):
                container[draw(st.sampled_from(TEXTS))] = container.pop(key)
            case "wrap":
                container[key] = draw(st.sampled_from([[container[key]], {"a": container[key]}]))
            case "copy":
                container[key] = deepcopy(other[other_key])
            case "repeat" if isinstance(container, MutableSequence) and container is not whole:
                container.append(deepcopy(container[key]))
    return whole[0]


@st.composite
def mutated_bytes(draw: st.DrawFn, content: bytes, snippets: tuple[bytes, ...] = tuple(SNIPPETS)) -> bytes:
    """Return bytes that were cut, flipped, added to, or of which lines were lost, repeated or exchanged."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        lines = content.split(b"\n")
        line, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        match draw(st.sampled_from(["cut", "flip", "insert", "insert", "lose", "repeat", "exchange"])):
            case "cut":
                content = content[:at]
            case "flip" if content:
                content = content[:at] + bytes([content[at] ^ 1 << draw(st.integers(0, 7))]) + content[at + 1 :]
            case "insert":
                content = content[:at] + draw(st.sampled_from(snippets)) + content[at:]
            case "lose":
                content = b"\n".join(lines[:line] + lines[line + 1 :])
            case "repeat":
                content = b"\n".join([*lines[:line], lines[line], *lines[line:]])
            case "exchange":
                lines[line], lines[other] = lines[other], lines[line]
                content = b"\n".join(lines)
    return content
