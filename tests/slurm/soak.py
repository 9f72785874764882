"""Rounds of random accidents on the private cluster: 30 short runs, six workers on two nodes (`tox -e slurm-soak`).

FREETICKETS_SOAK_ROUNDS rounds (20 unless set); each prints its seed, and FREETICKETS_SOAK_SEED=7 repeats from that one.
Accidents and the moments between them are the seed's; what a worker does at such a moment is not.
"""

import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.slurm.cluster import NODES, Cluster
from tests.slurm.faults import STALE, plant
from tests.slurm.work import DENSE, LONG, PF, SLOW, WHOLE, Work, done, recipe, same_as_uninterrupted

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("installed", "cluster")]

FIRST, ROUNDS = (
    int(os.environ.get(f"FREETICKETS_SOAK_{name}", default)) for name, default in (("SEED", 1), ("ROUNDS", 20))
)
RUNS = 30
ACCIDENTS = 6  # of a round
SECONDS_BETWEEN = 6.0  # at most
WORKERS_OF_NODE = 3  # as the partition says, whose jobs those of `urgent` may interrupt on n1
SITE = {"partition": "spare", "gpus": 0, "max_jobs": WORKERS_OF_NODE * len(NODES)}
EDST = {"exploration_epochs": 2, "refinement_epochs": 2, "update_every": 5}
CELLS = (
    {**LONG, **recipe(6), "members": 5},
    {**LONG, "name": "random growth", "recipe": {"epochs": 6, "update_every": 20, "growth": "random"}, "members": 2},
    {**DENSE, "model": SLOW, "members": 1},
    {**PF, "model": SLOW, "members": 1},  # which waits for the dense one
    {"name": "EDST", "method": "edst", "members": 2, "sparsity": 0.8, "model": SLOW, "recipe": EDST},
)
REPLICATES = 3


@dataclass
class Round:
    """What happens to the grid of one store; `interrupted` counts the workers that accidents stopped in their work."""

    work: Work
    cluster: Cluster
    random: random.Random
    happened: list[str] = field(default_factory=list)
    interrupted: int = 0
    submissions: int = 0

    def workers(self) -> list[str]:
        """Return the array tasks that run."""
        return sorted(task for task, state in self.work.tasks(self.cluster).items() if state == "RUNNING")

    def submit(self) -> None:
        self.submissions += 1
        self.work.submit("--checkpoint-seconds", "1")

    def until_done(self) -> None:
        """Do what the last line of `status` says is needed, until nothing is; AssertionError if a run failed."""
        self.cluster.wait(self._looked_after, 300, "done")

    def _looked_after(self) -> bool:
        if done(self.work)():
            return True
        assert not {"failed", "damaged", "blocked"} & set(self.work.states()), self.work.status()
        _, out = self.work.call("status", *self.work.at_store)
        outlook = out.splitlines()[-1]
        if "scontrol release" in outlook:
            held = [task for task, state in self.work.tasks(self.cluster).items() if state == "PENDING"]
            self.happened.append(f"released {len(held)} that SLURM held")
            self.cluster.run("scontrol", "release", *held)
        elif "nothing more happens by itself" in outlook:
            self.submit()
        else:
            assert "goes on by itself" in outlook or done(self.work)(), outlook
        return False


def one(accident: Callable[[Round, str], None]) -> Callable[[Round], None]:
    """Return the accident that happens to one worker, if any runs."""

    def happens(to: Round) -> None:
        if workers := to.workers():
            to.interrupted += 1
            accident(to, to.random.choice(workers))

    happens.__name__ = accident.__name__
    return happens


@one
def killed(to: Round, task: str) -> None:
    to.cluster.attempt("scancel", "--signal=KILL", f"{task}.0")


@one
def near_its_limit(to: Round, task: str) -> None:
    to.cluster.attempt("scancel", "--signal=USR2", f"{task}.0")


@one
def signalled_twice(to: Round, task: str) -> None:
    for name in to.random.sample(("USR2", "TERM"), 2):
        to.cluster.attempt("scancel", f"--signal={name}", f"{task}.0")
        time.sleep(0.08)


@one
def cancelled(to: Round, task: str) -> None:
    to.cluster.attempt("scancel", task)


@one
def requeued(to: Round, task: str) -> None:
    to.cluster.attempt("scontrol", "requeue", task)


def all_cancelled(to: Round) -> None:
    to.interrupted += len(to.workers())
    code, out = to.work.call("cancel", *to.work.at_store, "--yes")
    assert code == 0, out


def preempted(to: Round) -> None:
    urgent = to.cluster.submit("sleep 1", *WHOLE)
    to.cluster.wait(lambda: to.cluster.queue()[urgent] != "PENDING", 60, "urgent")
    to.interrupted += WORKERS_OF_NODE
    to.cluster.wait_for("COMPLETED", urgent, timeout=60)


def node_crashed(to: Round) -> None:
    node = to.random.choice(NODES)
    to.interrupted += WORKERS_OF_NODE
    to.cluster.crash_node(node)
    time.sleep(to.random.uniform(0, 5))
    to.cluster.start_slurmd(node)


def node_drained(to: Round) -> None:
    node = to.random.choice(NODES)
    to.cluster.run("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=soak")
    time.sleep(to.random.uniform(0, 5))
    to.cluster.run("scontrol", "update", f"NodeName={node}", "State=RESUME")


def daemon_of_node_restarted(to: Round) -> None:
    node = to.random.choice(NODES)
    to.cluster.stop_slurmd(node)
    to.cluster.start_slurmd(node)


def controller_away(to: Round) -> None:
    to.cluster.stop_slurmctld()
    time.sleep(to.random.uniform(0, 5))
    to.cluster.start_slurmctld()


def accounts_away(to: Round) -> None:
    to.cluster.stop_slurmdbd()
    time.sleep(to.random.uniform(0, 5))
    to.cluster.start_slurmdbd()


def submitted_again(to: Round) -> None:
    to.submit()


KINDS = (
    *(killed, near_its_limit, signalled_twice, cancelled, requeued, all_cancelled, preempted),
    *(node_crashed, node_drained, daemon_of_node_restarted, controller_away, accounts_away, submitted_again),
)


@pytest.fixture(scope="module")
def lines() -> Iterator[list[Counter[str]]]:
    """What each round counted; the sums are printed at the end."""
    rounds: list[Counter[str]] = []
    yield rounds
    sums: Counter[str] = sum(rounds, Counter())
    print(f"\n{len(rounds)} rounds: " + ", ".join(f"{count:,} {name}" for name, count in sums.items()))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + ROUNDS))
def test_a_round(
    seed: int, work: Work, two_nodes: Cluster, lines: list[Counter[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    plant(work.folder, STALE)
    work.write(*CELLS, replicates=REPLICATES, site=SITE)
    to = Round(work, two_nodes, random.Random(seed))
    to.submit()
    assert len(work.status()) == RUNS
    two_nodes.wait(lambda: "running" in work.states(), 60, "running")
    for accident in to.random.choices(KINDS, k=ACCIDENTS):
        time.sleep(to.random.uniform(0, SECONDS_BETWEEN))
        to.happened.append(accident.__name__)
        accident(to)
    to.until_done()
    counted = checked(to)
    lines.append(counted)
    with capsys.disabled():
        numbers = ", ".join(f"{count} {name}" for name, count in counted.items())
        print(f"\nseed {seed}: {', '.join(to.happened)}: {numbers}; {time.monotonic() - began:.0f} s", flush=True)


def checked(to: Round) -> Counter[str]:
    """Hold a round to the suite's promises, and count."""
    work, cluster = to.work, to.cluster
    sessions = {run["id"]: work.sessions(run["id"]) for run in work.status()}
    for run, of_run in sessions.items():
        for before, after in itertools.pairwise(of_run):
            assert before["ended"] is None or before["ended"] <= after["started"], f"{run} is trained by two at once"
    repeated = sum(map(len, sessions.values())) - RUNS
    stale = sum((work.folder / name).exists() for name in ("read", "checkpoint", "set"))
    assert repeated <= to.interrupted + stale, "more was begun again than was interrupted"
    same_as_uninterrupted(work, cluster, sessions=[len(of_run) for of_run in sessions.values()])
    return Counter(
        {
            "accidents": ACCIDENTS,
            "stale handles": stale,
            "runs": RUNS,
            "sessions": RUNS + repeated,
            "from the start": sum(s["resumed_from"] is None for of in sessions.values() for s in of) - RUNS,
            "submissions": to.submissions,
            "workers": len(work.tasks(cluster)),
        }
    )
