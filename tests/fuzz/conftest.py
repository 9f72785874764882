"""Counts what the tests here try, and says so at the end."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fuzz.calls import COUNTS


@pytest.fixture(autouse=True)
def _counted(record_property: Callable[[str, object], None]) -> Iterator[None]:
    COUNTS.clear()
    yield
    for kind, count in COUNTS.items():  # on the report, which reaches the process that sums up
        record_property(f"fuzz {kind}", count)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many inputs were tried, and how many ended in a traceback."""
    counts = dict.fromkeys(("inputs", "calls", "refused", "tracebacks"), 0)
    for report in (one for reports in terminalreporter.stats.values() for one in reports):
        if getattr(report, "when", None) == "teardown":
            for name, value in report.user_properties:
                if name.removeprefix("fuzz ") in counts:
                    counts[name.removeprefix("fuzz ")] += value
    if counts["inputs"]:
        terminalreporter.write_line(", ".join(f"{count:,} {kind}" for kind, count in counts.items()))
