"""What a report opens with: how much reproduces, how far the grid is, and what was run, on what, for how long."""

import html
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from analysis.formats import SIGNS
from analysis.links import Links
from analysis.loading import Loaded
from analysis.page import Item, box, bullets, paragraphs
from analysis.paper.findings import Findings
from bench.errors import counted
from bench.grid.text import read_yaml
from bench.work.code import suite_version

PLURALS = {"agrees": "agree", "differs": "differ", "holds": "hold", "fails": "fail"}
NOTHING_JUDGED = "This grid names no claims, and no published value belongs to its cells: nothing is judged here."


def lead(loaded: Loaded, findings: Findings, links: Links) -> list[Item]:
    """Return the first sections of a page; `grid/` beside it has the texts of the grid."""
    return [
        Item("at-answer", "Does it reproduce?", _answer(loaded, findings)),
        Item("at-run", "What was run", _run(loaded, links)),
    ]


def _answer(loaded: Loaded, findings: Findings) -> str:
    context = loaded.results.context
    judged = ""
    if findings.values:
        judged += _counts("Published values", f"{context.grid}_values", findings.value_counts)
    if findings.verdicts:
        judged += _counts("Claims", f"{context.grid}_claims", findings.claim_counts)
    surprises = findings.surprises()
    return (
        box("", (judged + paragraphs(findings.sentences)) or paragraphs([NOTHING_JUDGED]))
        + _progress(loaded)
        + box("caveats", bullets(context.caveats))
        + (box("", f"<p>Most surprising:</p>{bullets(surprises)}") if surprises else "")
        + box("problems", f"<p>Left out:</p>{bullets(loaded.problems)}" if loaded.problems else "")
        + paragraphs(loaded.not_exported)
    )


def _counts(what: str, table: str, counts: Mapping[Any, int]) -> str:
    marks = "".join(
        f'<span class="count {word.replace(" ", "-")}"><span aria-hidden="true">{SIGNS[word]}</span> '
        f"<b>{count}</b> {word if count == 1 else PLURALS.get(word, word)}</span>"
        for word, count in counts.items()
    )
    return f'<div class="judged"><a class="what" href="#{quote(table)}">{what}</a>{marks}</div>'


def _progress(loaded: Loaded) -> str:
    """Return how far a grid is that is not finished, nothing for one that is."""
    plan = loaded.plan
    done = plan.counts().get("done", 0)
    if done == len(plan.runs) and not plan.sets_left:
        return ""
    sets = f", {plan.sets - plan.sets_left:,} of {counted(plan.sets, 'evaluation set')}" if plan.sets else ""
    return box(
        "",
        f"<p>Not finished: {done:,} of {counted(len(plan.runs), 'run')} are done{sets}. The page shows what is there; "
        f'made again later, it shows more.</p><progress aria-label="Runs that are done" max="{len(plan.runs)}" '
        f'value="{done}"></progress>',
    )


def _run(loaded: Loaded, links: Links) -> str:
    grids = grid_texts(loaded.path)
    files = ", ".join(links.link(name, f"grid/{name}") for name in grids)
    plan, context, work = loaded.plan, loaded.results.context, loaded.work
    states = ", ".join(f"{count:,} {status}" for status, count in plan.counts().items())
    made = f"{plan.sets - plan.sets_left:,} of {plan.sets:,} made" if plan.sets else "none but the test images"
    facts = {
        "Grid": f"{html.escape(context.grid)}, scale {html.escape(context.scale)}: {files}",
        "Cells and runs": html.escape(
            f"{counted(len(plan.cells), 'cell')}, {counted(len(plan.runs), 'distinct run')}: {states}"
        ),
        "Evaluation sets": html.escape(made),
        "Replicates": html.escape(context.replicates),
        "Suite": html.escape(f"freetickets-bench {suite_version()} made this page"),
        "Code": html.escape(", ".join(f"commit {commit}" for commit in work.commits)),
        "Software": _joined(work.versions),
        "Devices": _joined(work.devices),
        "Time": html.escape(work.spent),
        "Dates": html.escape(f"{work.began} to {work.ended or 'now'} (UTC)" if work.began else ""),
        "Attempts": html.escape(work.attempts),
    }
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items() if value)
    texts = "".join(
        f'<details><summary>Text of {html.escape(name)}</summary><pre tabindex="0">{html.escape(text)}</pre></details>'
        for name, text in grids.items()
    )
    return box("", f'<dl class="facts">{rows}</dl>{texts}')


def _joined(texts: Iterable[str]) -> str:
    return "<br>".join(map(html.escape, texts))


def grid_texts(grid: Path) -> dict[str, str]:
    """Return the text of a grid file, and of the one that it extends, by a name to write it under."""
    texts = {grid.name: grid.read_text(encoding="utf-8")}
    content = read_yaml(grid)
    if isinstance(content, dict) and content.get("extends"):
        below = grid.parent / str(content["extends"])
        name = below.name if below.name not in texts else f"extended-{below.name}"
        texts[name] = below.read_text(encoding="utf-8")
    return texts
