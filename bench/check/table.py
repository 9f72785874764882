"""A check as a table: what is wrong first, then what costs time, what could not be tried here, and what works."""

from typing import TYPE_CHECKING, get_args

from bench.plan.show import make_table
from bench.store.measured import Finding, FindingState, Measured

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

ORDER: tuple[FindingState, ...] = get_args(FindingState)
STYLES: dict[FindingState, str] = {"wrong": "bold red", "slow": "yellow", "not here": "dim", "ok": "green"}


def print_check(measured: Measured, console: "Console") -> None:
    """Print a check, at whatever width the console has."""
    facts = ", ".join(f"{name} {value}" for name, value in measured.facts.items())
    console.print(
        f"{measured.device_name} ({measured.device}): {facts}", "", findings_table(measured.findings), "", sep="\n"
    )
    console.print(in_words(measured.findings))


def in_words(findings: tuple[Finding, ...]) -> str:
    """Return how many findings are in which state."""
    return ", ".join(f"{sum(finding.state == state for finding in findings)} {state}" for state in ORDER)


def findings_table(findings: tuple[Finding, ...]) -> "Table":
    """Return a row for each finding, the worst first."""
    from rich.text import Text

    table = make_table("state", "cell checked", "cell found")
    table.columns[1].header, table.columns[2].header = "checked", "found"
    table.columns[2].overflow = "fold"  # a path is longer than the column, and its end says the most
    for finding in in_order(findings):
        table.add_row(Text(finding.state, STYLES[finding.state]), finding.name, finding.detail)
    return table


def in_order(findings: tuple[Finding, ...]) -> list[Finding]:
    """Return findings, the worst first, and otherwise as they are."""
    return sorted(findings, key=lambda finding: ORDER.index(finding.state))
