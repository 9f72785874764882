"""docs/adding-a-letter.md quotes the code as it is."""

import re
from pathlib import Path
from textwrap import dedent, indent

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "adding-a-letter.md").read_text(encoding="utf-8")
QUOTES = re.findall(r"^```python (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("file", "quote"), QUOTES, ids=[file for file, _ in QUOTES])
def test_quoted_code_is_in_the_file_it_is_quoted_from(file: str, quote: str) -> None:
    source = (ROOT / file).read_text(encoding="utf-8")
    assert any(indent(dedent(quote), " " * depth) in source for depth in range(0, 32, 4))


def test_files_named_on_the_page_exist() -> None:
    named = set(re.findall(r"`((?:bench|analysis|tests|paper_configs)/[\w/.]+\.(?:py|yaml))`", PAGE))
    assert len(named) > 10
    assert not [file for file in named if not (ROOT / file).is_file()]
