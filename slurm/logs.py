"""Which logs of workers tell of a run: those of the jobs that its provenance names."""

from difflib import get_close_matches
from pathlib import Path

from bench.errors import UserError
from bench.store.store import Store
from slurm.records import require_submissions
from slurm.submit import open_store


def logs_of(store: Path, name: str) -> list[Path]:
    """Return the logs of the workers that trained a run, by the beginning of its id; UserError if there is none."""
    where = open_store(store)
    folders = require_submissions(where)
    ids = dict.fromkeys(run.id for folder in folders for run in folder.work.runs)
    found = [run for run in ids if run.startswith(name)]
    if not found:
        near = get_close_matches(name, [run[: len(name)] for run in ids], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; `status --all` shows the first 8 digits of each"
        raise UserError(f"{name}: no run submitted from this store has an id that begins so{hint}")
    jobs = dict.fromkeys(job for run in found for job in _jobs(where, run))
    paths = [path for folder in folders for path in folder.logs() if path.name.partition("_0_log")[0] in jobs]
    if not paths:
        said = next(filter(None, (folder.last_words() for folder in reversed(folders))), "")
        last = f". The last worker's log {said}" if said else ""
        raise UserError(
            f"{found[0]}: no worker has trained it yet; logs of all workers are in {where.root / 'slurm'}{last}"
        )
    return paths


def _jobs(store: Store, run: str) -> list[str]:
    return [session.job for session in store.run(run).sessions() if session.job is not None]
