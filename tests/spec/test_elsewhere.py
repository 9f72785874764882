"""What is named in a user's module: found, or said why not, whatever the module does."""

import re
import sys
from pathlib import Path

import pytest

from bench.spec.elsewhere import find_elsewhere

MODULES = {
    "ends": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "divides": ("1 / 0", "ZeroDivisionError: division by zero"),
    "is_none": ("def (", "SyntaxError"),
    "lacks": ("a = 1", "AttributeError: module 'lacks' has no attribute 'thing'"),
}


def test_an_attribute_is_found_at_any_depth() -> None:
    assert find_elsewhere("pathlib:Path.cwd") == Path.cwd


@pytest.mark.parametrize("name", MODULES)
def test_a_module_may_do_anything(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, message = MODULES[name]
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match=re.escape(f"cannot be imported: {message}")):
        find_elsewhere(f"{name}:thing")
    sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["no.such.module:a", "", ":", "a", "pathlib:", ".x:y"])
def test_what_is_no_name_is_said_to_be_none(name: str) -> None:
    with pytest.raises(ImportError, match=r"^cannot be imported: "):
        find_elsewhere(name)


def test_a_package_that_is_not_found_is_said_to_be_looked_for_on_pythonpath(tmp_path, monkeypatch) -> None:
    (tmp_path / "plugged_lacking.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("no_such_package:net", "no_such_package.nets:net"):
        with pytest.raises(ImportError, match=r"No module named 'no_such_package'; .* PYTHONPATH names its folder$"):
            find_elsewhere(name)
    with pytest.raises(ImportError, match=r"No module named 'no_such_dependency'$"):  # which no folder of theirs has
        find_elsewhere("plugged_lacking:net")
