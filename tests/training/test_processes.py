"""What runs on image files leave behind: no file descriptor, and no process once theirs has ended."""

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.training.test_streamed import GRID, ROOT, arguments, grid, photographs

__all__ = ["grid", "photographs"]  # fixtures

# Three runs in one process: after each, how many descriptors are open and what the processes below it are.
THREE_RUNS = """
import gc, os, sys
from pathlib import Path
from bench.__main__ import main
from tests.training.test_processes import below
from tests.training.test_streamed import arguments
grid, images, stores = map(Path, sys.argv[1:])
for number in range(3):
    try:
        main(arguments(grid, stores / str(number), images, decoders=2))
    except SystemExit as ended:
        assert not ended.code, ended.code
    gc.collect()
    print(len(os.listdir("/proc/self/fd")), *sorted(below(os.getpid()).elements()))
"""
KINDS = ("resource_tracker", "forkserver", "spawn")

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are read from /proc")


class Process(NamedTuple):
    """A living process: its parent, its session, and which of KINDS it is, or "other"."""

    parent: int
    session: int
    kind: str


def processes() -> dict[int, Process]:
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, parent, _, session, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:  # it has ended
                continue
            if state not in "ZX":
                kind = next((kind for kind in KINDS if kind in command), "other")
                found[int(folder.name)] = Process(int(parent), int(session), kind)
    return found


def below(pid: int) -> Counter[str]:
    """Return how many descendants of a process there are of each kind; what a forkserver forked is a "decoder"."""
    living, found = processes(), {pid}
    while more := {child for child, process in living.items() if process.parent in found} - found:
        found |= more

    def kind(child: int) -> str:
        parent = living.get(living[child].parent)
        of_forkserver = parent is not None and parent.kind == "forkserver"
        return "decoder" if of_forkserver else living[child].kind

    return Counter(map(kind, found - {pid}))


def test_a_third_run_in_a_process_has_no_more_descriptors_and_processes_than_the_first(
    grid: Path, photographs: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", THREE_RUNS, str(grid), str(photographs), str(tmp_path)]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    first, _, third = [line for line in said.splitlines() if line and line[0].isdigit()]
    assert third == first
    # Both wait for more to do, and end with the process.
    assert first.split()[1:] == ["forkserver", "resource_tracker"]


@pytest.mark.long
def test_parallel_workers_have_a_forkserver_each_and_all_processes_end(
    photographs: Path, tmp_path: Path, slower: Path
) -> None:
    """While two train two runs of one grid, and evaluate them."""
    two = tmp_path / "grid.yaml"
    two.write_text(GRID.replace("replicates: 1", "replicates: 2"))
    command = [sys.executable, "-m", "bench", *arguments(two, tmp_path / "store", photographs, 1), "--parallel", "2"]
    most: Counter[str] = Counter()
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    while process.poll() is None:
        most |= below(process.pid)
        if most["decoder"] == 2:
            slower.unlink(missing_ok=True)
        time.sleep(0.05)
    assert process.returncode == 0
    assert (most["forkserver"], most["decoder"]) == (2, 2)
    deadline = time.monotonic() + 120
    while left := [one for one in processes().values() if one.session == process.pid]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
