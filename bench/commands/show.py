"""`python -m bench show RUN`: one run of a store, all that it says of itself."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from bench.commands.options import AsJson, RunId, StorePath, make_console, print_damage

if TYPE_CHECKING:
    from rich.console import Console

    from bench.store.contents import StoredRun

LAST_EPOCHS = 5
T = TypeVar("T")


def show(run: RunId, store: StorePath = Path("results"), as_json: AsJson = False) -> None:
    """Show a run of a store: sessions of work, last epochs, tickets, evaluated sets, sizes, and its spec.

    Exit code: 1 if something of the run is damaged, which is named; else 0.
    """
    from bench.store.contents import find_run
    from bench.store.store import Store

    found = find_run(Store(store), run)
    about, damage = _read(found)
    if as_json:
        print(json.dumps({**about, "damage": damage}))
        raise typer.Exit(int(bool(damage)))
    _print(about, make_console())
    print_damage(damage)


def _read(run: "StoredRun") -> tuple[dict[str, Any], list[str]]:
    """Return what a run says, each part empty if it cannot be read, and what is damaged of it."""
    from bench.commands.described import described
    from bench.errors import UserError
    from bench.store.logits import StoredLogits

    damage = list(run.damage)

    def read(part: Callable[[], T]) -> T | None:
        try:
            return part()
        except UserError as damaged:
            damage.append(str(damaged))
        except OSError as refused:
            damage.append(f"{refused.filename or run.folder.path}: {refused.strerror}")
        return None

    done = run.state in ("done", "damaged")
    result = read(run.folder.result) if done else None
    failure = read(run.folder.error)
    history = read(run.folder.history) or []
    records = (read(lambda: StoredLogits.of_run(run.folder).records()) if done else None) or {}
    spec = None if run.spec is None else run.spec.model_dump(mode="json")
    about = {
        **described(run),
        "parent": run.spec.parent.run_id if run.spec and run.spec.parent else None,
        "failure": failure and failure.model_dump(mode="json"),
        "sessions": [session.model_dump(mode="json") for session in read(run.folder.sessions) or ()],
        "epochs": {"done": len(history), "of": run.spec.epochs if run.spec else None},
        "history": [line.model_dump(mode="json", exclude={"predictions"}) for line in history[-LAST_EPOCHS:]],
        "tickets": [ticket.model_dump(mode="json") for ticket in result.tickets] if result else [],
        "warnings": result.warnings if result else (),
        "evaluated": {name: record.model_dump(mode="json") for name, record in records.items()},
        "sizes": {kind: {"files": size.files, "bytes": size.bytes} for kind, size in run.sizes.items()},
        "spec": spec,
    }
    return about, list(dict.fromkeys(damage))


def _print(about: dict[str, Any], console: "Console") -> None:
    import yaml

    from bench.store.sizes import readable

    facts = [
        f"{key} {about[key]}" for key in ("method", "network", "data", "sparsity", "seed") if about[key] is not None
    ]
    console.print(f"run {about['id']}: {about['state']}; {', '.join(facts) or 'its spec cannot be read'}")
    if about["parent"]:
        console.print(f"starts from run {about['parent']}")
    if about["failure"]:
        failure = about["failure"]
        console.print(f"failed (attempt {failure['attempt']}): {failure['type']}: {failure['message']}")
    for warning in about["warnings"]:
        console.print(f"warning: {warning}")
    epochs = about["epochs"]
    console.print(f"epochs: {epochs['done']} of {'?' if epochs['of'] is None else epochs['of']}")
    _table(
        console,
        "sessions",
        ("started", ">minutes", ">memory", "host", "device", "commit"),
        map(_session, about["sessions"]),
    )
    lines = (">epoch", "phase", ">lr", ">train loss", ">train acc", ">val loss", ">val acc", ">density")
    _table(console, "last epochs", lines, map(_epoch, about["history"]))
    heads = (">ticket", ">epoch", "phase", ">val acc", ">density")
    _table(console, "tickets", heads, map(_ticket, about["tickets"]))
    families = Counter(name.partition("/")[0] for name in about["evaluated"])
    _table(console, "evaluated on", ("family", ">sets"), ((name, str(count)) for name, count in families.items()))
    sizes = ((kind, f"{size['files']:,}", readable(size["bytes"])) for kind, size in about["sizes"].items())
    _table(console, "size", ("kind", ">files", ">size"), sizes)
    if about["spec"] is not None:
        console.print("spec", style="bold")
        text = yaml.safe_dump(about["spec"], sort_keys=False, default_flow_style=None, width=110)
        console.print(text, soft_wrap=True, end="")


def _table(console: "Console", title: str, columns: Sequence[str], rows: Any) -> None:
    """Print a table under its title; nothing without a row."""
    from bench.plan.show import make_table

    listed = list(rows)
    if listed:
        table = make_table(*columns)
        for row in listed:
            table.add_row(*row)
        console.print(title, style="bold")
        console.print(table)
        console.print("")


def _session(session: dict[str, Any]) -> tuple[str, ...]:
    """Return when a session began, what it used (memory of the host, and of a GPU), where it ran, and which code."""
    from bench.store.sizes import readable

    git = session["git"]
    commit = "-" if git is None else git["commit"][:8] + (" with changes" if git["dirty"] else "")
    used = session["usage"] or {"seconds": None, "host_bytes": None, "device_bytes": None}
    minutes = "-" if used["seconds"] is None else f"{used['seconds'] / 60:.1f}"
    if session["ended"] is None:  # it is at work, or was killed
        minutes += " so far"
    memory = [readable(used[key]) for key in ("host_bytes", "device_bytes") if used[key] is not None]
    started = session["started"][:16].replace("T", " ")
    return started, minutes, " + ".join(memory) or "-", session["host"], session["device_name"], commit


def _epoch(line: dict[str, Any]) -> tuple[str, ...]:
    losses = [_number(line[f"{part}_{score}"]) for part in ("train", "validation") for score in ("loss", "accuracy")]
    return str(line["epoch"]), line["phase"], f"{line['lr']:.4g}", *losses, _number(line["density"])


def _ticket(ticket: dict[str, Any]) -> tuple[str, ...]:
    scores = _number(ticket["validation_accuracy"]), _number(ticket["density"])
    return str(ticket["index"]), str(ticket["epoch"]), ticket["phase"], *scores


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
