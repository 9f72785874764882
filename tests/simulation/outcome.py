"""What is simulated, and what came of it."""

from dataclasses import dataclass, field

HOUR = 3600.0
DAY = 24 * HOUR


@dataclass(frozen=True)
class Conditions:
    """A cluster and its work.

    seconds             mean of a run's training, which is drawn (log-normal, 30% about it)
    evaluation_seconds  of a run on one set; each run has two, test and validation
    spread              workers begin within so many seconds of each other
    latency             seconds of one operation on a file
    capacity            operations a second that the file server answers
    failures            share of runs that fail
    preempted, killed   seconds until a worker is, on average
    walltime            seconds after which a worker goes back to the queue
    """

    runs: int
    workers: int
    seed: int = 0
    seconds: float = HOUR
    evaluation_seconds: float = 30.0
    spread: float = 60.0
    latency: float = 1e-3
    capacity: float = float("inf")
    failures: float = 0.005
    preempted: float = 2 * DAY
    killed: float = 20 * DAY
    walltime: float = 12 * HOUR
    children: float = 0.0
    checkpoint_seconds: float = 120.0


@dataclass
class Outcome:
    """What came of a simulation.

    finished   when each run was trained, and which
    claims     attempts to take a run's lock to train it, and how many of them another worker was faster at
    calls      of the controller, by program
    repeated   seconds of training that were lost with a worker that was killed
    early      workers that ended by themselves though nobody had begun some run
    """

    conditions: Conditions
    finished: list[tuple[float, str]] = field(default_factory=list)
    claims: int = 0
    lost: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    repeated: float = 0.0
    killed: int = 0
    preempted: int = 0
    early: int = 0
    ended: float = 0.0
    allocated: float = 0.0
    waited: dict[str, float] = field(default_factory=dict)
    by_purpose: dict[str, float] = field(default_factory=dict)
    busiest_minute: float = 0.0
    states: dict[str, int] = field(default_factory=dict)

    @property
    def idle(self) -> float:
        """The share of the workers' time in which they neither trained nor evaluated, or trained in vain."""
        useful = self.waited.get("training", 0.0) + self.waited.get("evaluation", 0.0) - self.repeated
        return 1 - useful / self.allocated

    @property
    def operations(self) -> float:
        """Operations on the store's files."""
        return sum(self.by_purpose.values())

    @property
    def throughput(self) -> float:
        """Runs an hour, once each worker may have done one, and as long as there is another for each."""
        times = [when for when, _ in self.finished]
        first = min(self.conditions.workers, len(times) // 4)
        last = len(times) - 1 - first
        return (last - first) / (times[last] - times[first]) * HOUR

    @property
    def ideal(self) -> float:
        """Runs an hour of workers that only train and evaluate."""
        of_a_run = self.conditions.seconds + 2 * self.conditions.evaluation_seconds
        return self.conditions.workers / of_a_run * HOUR
