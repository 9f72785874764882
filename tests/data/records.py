"""Records of data sets and evaluation sets with other files, addresses or checksums, as long as a test lasts."""

from dataclasses import replace
from typing import Any

import pytest

from bench.data.catalog import DATASETS, OOD, RELEASES, SHIFTED, SHOWN


def change_source(name: str, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Change where the images of a data set come from."""
    data: Any = DATASETS[name]
    monkeypatch.setitem(DATASETS, name, replace(data, source=replace(data.source, **changes)))


def change_set(name: str, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Change the record of a set to evaluate on."""
    record: Any = SHOWN[name]
    changed = replace(record, **changes)
    registry: Any
    for registry in (SHOWN, OOD, RELEASES, SHIFTED):
        if name in registry:
            monkeypatch.setitem(registry, name, changed)
