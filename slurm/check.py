"""`slurm check`: one small job of a site says whether the site file works; this side submits it, waits and tells."""

import platform
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from bench.check.table import findings_table, in_words
from bench.errors import UserError
from bench.grid import grid_files, load_grid
from bench.plan import make_plan, variants_of, work_of
from bench.store.files import regular_bytes, write_text
from bench.store.lock import ABSENT
from bench.store.measured import Finding, measured_file
from bench.store.records import read_record
from bench.store.store import Store
from bench.work.items import RunWork, Work
from slurm.check_task import SCONTROL, Answer, Asked, CheckTask, versions_here
from slurm.checks import refusals
from slurm.dispatch import ROOT, asks, launch, make_submission
from slurm.queue import queued_workers
from slurm.records import SubmissionFolder, writing
from slurm.site import SHORTEST_MINUTES, Site, load_site, site_path

if TYPE_CHECKING:
    from rich.console import Console

# Beside what was given for the steps of a grid: the device, and the start of Python from a slow file system.
EXTRA_MINUTES = 10
MEMORY_GB = 8
# How often the answer is looked for and the queue is asked, and how long an answer may take to show after its job.
LOOK_SECONDS, ASK_SECONDS, LATE_SECONDS = 1.0, 10.0, 15.0
# A clock that is off by more confuses the times of logs and records; authentication of SLURM ends at 300.
CLOCK_SECONDS = 60.0
LOG_LINES = 20


@dataclass(frozen=True)
class CheckRequest:
    """What to check beside the site: the steps and images of grids, for so many minutes."""

    grids: Sequence[Path]
    scale: str
    data: Path | None
    minutes: float
    wait: bool = True


def check_site(site_name: str, store: Store, request: CheckRequest, *, console: "Console") -> bool:
    """Submit a check and, if asked to wait, print what it found; return whether nothing is wrong, as far as is known.

    UserError, before anything is submitted, for what cannot be. Ctrl-C leaves the job, which goes on.
    """
    site = load_site(site_name)
    if refused := list(refusals(store, site)):
        raise UserError(refused[0])
    folder, single = _write_down(site, site_name, store, request)
    launch(folder, single, [CheckTask(folder.path)])
    console.print(f"submitted {folder.submission.name}, one job of {asks(folder.submission, single)}", soft_wrap=True)
    answer_in = f"the answer will be in {folder.path / 'answer.json'}, and as a table at the end of the log beside it"
    if not request.wait:
        console.print(answer_in, soft_wrap=True)
        return True
    try:
        answer, clock = _follow(folder, console)
    except KeyboardInterrupt:
        console.print(f"the job goes on; {answer_in}", soft_wrap=True)
        raise
    if answer is None or answer.progress is not None:
        _print_end_of_log(folder, answer, console)
        return False
    answer = answer.model_copy(update={"findings": (*answer.findings, *clock)})
    print_answer(answer, console)
    if answer.measured is not None:
        console.print(f"written to {measured_file(store.root, answer.measured.device_name)}", soft_wrap=True)
    return not answer.wrong


def print_answer(answer: Answer, console: "Console") -> None:
    """Print what a check found on a node and its device, the worst first."""
    device = "" if answer.measured is None else f", {answer.measured.device_name} ({answer.measured.device})"
    console.print(f"{answer.host}{device}", "", findings_table(answer.all_findings), "", sep="\n")
    console.print(in_words(answer.all_findings))


def _write_down(site: Site, site_name: str, store: Store, request: CheckRequest) -> tuple[SubmissionFolder, Site]:
    """Write a check into the store, and return its folder and the site of its job, which is one process."""
    minutes = max(SHORTEST_MINUTES, min(ceil(request.minutes) + EXTRA_MINUTES, site.walltime_minutes))
    # Not what the job sees, which may be in a container, but the shell that would put workers back into the queue.
    told = [f'export {SCONTROL}="$(command -v scontrol)"'] if site.scheduler == "slurm" and site.requeue else []
    single = site.model_copy(update={"requeue": False, "walltime": f"{minutes}min", "setup": [*site.setup, *told]})
    paths = grid_files(request.grids) if request.grids else []
    submission = make_submission(
        single,
        site_path(site_name),
        (f"check {request.scale}",),
        _work(paths, store, request),
        1,
        data=request.data,
        deterministic=False,
        checkpoint_seconds=0.0,
    )
    memory = submission.memory_gb
    if memory is not None:
        memory = min(max(memory, MEMORY_GB), site.memory_cap_gb or max(memory, MEMORY_GB))
    submission = submission.model_copy(update={"memory_gb": memory})
    folder = SubmissionFolder(store.root / "slurm" / "checks" / submission.name)
    asked = Asked(
        grids=tuple(str(path.resolve()) for path in paths),
        scale=request.scale,
        minutes=request.minutes,
        root=str(ROOT),
        python=platform.python_version(),
        versions=versions_here(),
        own_python=site.python is not None,
        cpus=submission.cpus,
        gpus=site.gpus_of_process,
    )
    with writing(folder.path):
        write_text(folder.path / "check.json", asked.model_dump_json(indent=2) + "\n")
        write_text(folder.path / "submission.json", submission.model_dump_json(indent=2) + "\n")
    return folder, single


def _work(paths: Sequence[Path], store: Store, request: CheckRequest) -> Work:
    """Return the runs of grids, which say how much memory the job needs."""
    runs: dict[str, RunWork] = {}
    for path in paths:
        grid = load_grid(path)
        plan = make_plan(grid, request.scale, store, variants_of(grid, request.scale, store, request.data))
        runs |= {run.id: run for run in work_of(plan, plan.runs).runs}
    return Work(runs=tuple(runs.values()))


def _follow(folder: SubmissionFolder, console: "Console") -> tuple[Answer | None, list[Finding]]:
    """Wait for the end of a check, saying how it stands; return its last answer and what the clocks say."""
    said, asked, gone = "", 0.0, None
    clock: list[Finding] = []
    absent, state = time.time(), "queued"
    while True:
        looked = time.time()
        answer = _read(folder.path / "answer.json")
        if answer is None:
            absent = looked
        elif not clock:
            clock.append(clock_finding(answer.started, absent, looked))
        if answer is not None and answer.progress is None:
            return answer, clock
        now = time.monotonic()
        if now - asked > ASK_SECONDS:
            asked = now
            workers = queued_workers([folder])
            if not workers:
                gone = gone or now
                if now - gone > LATE_SECONDS:
                    return answer, clock
            for worker in workers:
                where = f" on {worker.node}" if worker.node else ""
                why = f" ({worker.reason})" if worker.reason not in ("", "None") else ""
                state = f"queued{why}" if worker.waits else f"{worker.state.lower()}{where}"
        # The queue is asked less often than the answer is looked for, and may still have it waiting.
        line = f"running on {answer.host}: {answer.progress}" if answer is not None else state
        if line != said and gone is None:
            said = line
            console.print(f"{time.strftime('%H:%M:%S')} {line}", soft_wrap=True)
        time.sleep(LOOK_SECONDS)


def clock_finding(started: float, absent: float, seen: float) -> Finding:
    """Compare the clocks of node and submitting machine: the node wrote a file between two looks at the store.

    started        when it wrote, by its clock
    absent, seen   when the file was last not there and first there, by this machine's
    """
    ahead, behind = started - seen, absent - started
    if max(ahead, behind) > CLOCK_SECONDS:
        way = "ahead of" if ahead > 0 else "behind"
        detail = f"the node's is {max(ahead, behind):,.0f} s or more {way} this machine's; tell the administrators"
        return Finding(name="clocks", state="wrong", detail=detail)
    detail = f"the node's agrees with this machine's within {max(seen - started, started - absent, 1.0):,.0f} s"
    return Finding(name="clocks", state="ok", detail=detail)


def _read(path: Path) -> Answer | None:
    try:
        regular_bytes(path)
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise UserError(f"{path}: {error.strerror}") from None
    return read_record(Answer, path, "what a check found")


def _print_end_of_log(folder: SubmissionFolder, answer: Answer | None, console: "Console") -> None:
    """Say that a job ended before its answer, and what its log ends with."""
    at = "before it wrote anything to the store" if answer is None else f"while it checked: {answer.progress}"
    console.print(f"the job has ended {at}")
    if answer is not None and answer.findings:
        console.print(findings_table(answer.all_findings))
    logs = sorted(path for path in folder.path.glob("*.out"))
    for path in logs:
        lines = regular_bytes(path).decode(errors="replace").splitlines()[-LOG_LINES:]
        console.print(f"{path}:", *lines, sep="\n", soft_wrap=True)
    if not logs:
        look = f"sacct -X --name {shlex.quote(folder.submission.name)} --format=State,ExitCode,NodeList"
        console.print(
            f"it left no log in {folder.path}: the node does not see that folder, or may not write there; `{look}` "
            "says which node",
            soft_wrap=True,
        )
