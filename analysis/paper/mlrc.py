"""A report in the form that the ML Reproducibility Challenge asks for; authors write what only they know."""

import shlex

from analysis.formats import markdown_text, to_markdown
from analysis.loading import Loaded
from analysis.paper.findings import Findings
from analysis.table import Table
from bench.errors import counted

YOURS = "*To be written by the authors:*"


def mlrc_report(loaded: Loaded, findings: Findings, main: Table) -> str:
    """Return the report in Markdown: scope, methodology, results, compute, and what is left to write."""
    plan, context, work = loaded.plan, findings.results.context, loaded.work
    runs = ", ".join(f"{count} {status}" for status, count in plan.counts().items())
    claims = [f"- {markdown_text(f'{verdict.claim.text} ({verdict.claim.where})')}" for verdict in findings.verdicts]
    command = _command(loaded)
    about = next((verdict.claim.about for verdict in findings.verdicts), "")
    rows = [
        f"| {_cell(verdict.claim.text)} | `{command}` | margin {verdict.claim.margin:g} | {verdict.decision} |"
        for verdict in findings.verdicts
    ]
    rows += [
        f"| {_cell(f'{value.cell}: {value.metric.head} {value.published.text}')} | `{command}` "
        f"| ± {value.tolerance:g} | {value.agreement} |"
        for value in findings.values
    ]
    parts = [
        f"# Reproducibility report: {markdown_text(plan.title or plan.grid)}",
        markdown_text(context.sentence),
        "## Reproducibility summary",
        "### Scope of reproducibility",
        f"Claims tested{f', of {markdown_text(about)}' if about else ''}:",
        "\n".join(claims) or "None: the grid names no claims.",
        "### Methodology",
        f"{counted(len(plan.cells), 'cell')}, {counted(len(plan.runs), 'run')} ({runs}), from a declarative grid; "
        "recipes are those of the released code where the grid says so. Metrics, schedules, odd behaviours of that "
        "code: docs/ of this suite.",
        "### Results",
        *(markdown_text(sentence) for sentence in findings.sentences or ["No verdict could be given."]),
        *(f"- {markdown_text(text)}" for text in findings.surprises()),
        "### What was easy",
        YOURS,
        "### What was difficult",
        YOURS,
        "### Communication with original authors",
        YOURS,
        "## Computational requirements",
        *(markdown_text(sentence) for sentence in work.sentences or ["No session was recorded."]),
        "## Results in full",
        *(f"##{to_markdown(table, context)}" for table in (main, *findings.tables(loaded.claims_notes()))),
        "## From claim to command",
        "| Claim or value | Command | Tolerance | Verdict |\n|---|---|---|---|\n" + "\n".join(rows)
        if rows
        else "No claim and no published value belongs to this grid.",
        "## Results beyond the original paper",
        YOURS,
        "## Discussion",
        YOURS,
    ]
    return "\n\n".join(parts) + "\n"


def _command(loaded: Loaded) -> str:
    """Return the command that makes the results anew; topics of the user's own are the report's alone."""
    grid, scale = shlex.quote(str(loaded.path)), loaded.plan.scale
    if not loaded.more_topics:
        return f"python -m reproduce {grid} --scale {scale}"
    topics = " ".join(f"--topic {name}" for name in loaded.more_topics)
    report = f"python -m analysis report {grid} --scale {scale} {topics}"
    return f"python -m bench run {grid} --scale {scale} && {report}"


def _cell(text: str) -> str:
    return markdown_text(text).replace("|", r"\|")
