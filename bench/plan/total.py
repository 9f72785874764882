"""What is left of one or several plans, in hours of training and of evaluation: the total that every command shows."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.errors import counted
from bench.evaluation.sets import AttackSet, TicketSet
from bench.models.catalog import inputs_per_image, passes_per_image
from bench.plan.cost import PASSES_A_STEP, RUN_SECONDS
from bench.plan.evaluations import ensembles_of
from bench.plan.records import EnsemblePlan, Plan, RunPlan

# What no set of a run or an ensemble is faster than: to open it, and to write its logits and its record. Measured
# as bench.plan.cost says: 95 sets of 32 images took 0.036 s each, a prediction of WRN-10-1 included.
SET_SECONDS = 0.02


@dataclass(frozen=True)
class Left:
    """What is left to do on one kind of device: runs to train, sets to make, and the hours of one worker for each."""

    device: Literal["GPU", "CPU"]
    runs: int
    sets: int
    training: float
    evaluation: float

    @property
    def hours(self) -> float:
        """Training and evaluation together."""
        return self.training + self.evaluation

    def __str__(self) -> str:
        parts = [
            part
            for count, part in (
                (self.runs, f"{duration(self.training)} to train {counted(self.runs, 'run')}"),
                (self.sets, f"{duration(self.evaluation)} for {counted(self.sets, 'set')}"),
            )
            if count
        ]
        return f"about {self.amount} ({', '.join(parts)})"

    @property
    def amount(self) -> str:
        """The total in the unit that reads best."""
        if self.device == "GPU" and self.hours >= 1.5:
            return f"{self.hours:,.1f} GPU-hours"
        return f"{duration(self.hours)} on a {self.device}"


def left_of(plans: Sequence[Plan], chosen: Collection[str] | None = None) -> tuple[Left, ...]:
    """Return what is left of plans, each run and each set once, by kind of device.

    chosen   ids of the runs that count, and with them the ensembles made of these alone; None: all
    """
    runs: dict[str, RunPlan] = {}
    sets: dict[tuple[str, str], tuple[RunPlan, float]] = {}
    for plan in plans:
        of_plan = {run.id: run for run in plan.runs if chosen is None or run.id in chosen}
        runs |= of_plan
        for run in of_plan.values():
            sets |= {(run.id, asked.name): (run, set_hours(run, asked)) for asked in run.lacking}
        for attacked in ensembles_of(plan, of_plan.values()):
            first = of_plan[attacked.ensemble.runs[0]]
            hours = _attack_hours(of_plan, attacked)
            sets |= {(attacked.ensemble.id, attack.name): (first, hours(attack)) for attack in attacked.lacking}
    missing = [run for run in runs.values() if run.status != "done"]
    devices = dict.fromkeys(run.hours_device for run in (*missing, *(run for run, _ in sets.values())))
    return tuple(
        Left(
            device,
            runs=sum(run.hours_device == device for run in missing),
            sets=sum(run.hours_device == device for run, _ in sets.values()),
            training=sum(run.hours for run in missing if run.hours_device == device),
            evaluation=sum(hours for run, hours in sets.values() if run.hours_device == device),
        )
        for device in devices
    )


def say_left(plans: Sequence[Plan], chosen: Collection[str], workers: int = 1) -> str:
    """Return how long the rest of some runs takes these workers, "about 3.2 h on a CPU"; "" if nothing is left."""
    left = left_of(plans, chosen)
    together = f", {duration(sum(part.hours for part in left) / workers)} with {workers} workers" if workers > 1 else ""
    return f"about {' and '.join(part.amount for part in left)}{together}" if left else ""


def set_hours(run: RunPlan, asked: TicketSet) -> float:
    """Return the estimated hours to make a set of a run: a prediction takes a third of a training step."""
    predictions = asked.count(run.spec.data) * run.spec.tickets * run.spec.model.members
    return SET_SECONDS / 3600 + predictions * _pass_hours(run)


def _attack_hours(runs: Mapping[str, RunPlan], plan: EnsemblePlan) -> Callable[[AttackSet], float]:
    """Return what says the estimated hours of an attack on an ensemble of these runs."""
    cost = sum(_pass_hours(runs[run]) for run in plan.ensemble.runs) / len(plan.ensemble.runs)
    data, members = plan.specs[0].data, plan.ensemble.members
    return lambda attack: SET_SECONDS / 3600 + attack.count(data) * attack.passes(members) * cost


def _pass_hours(run: RunPlan) -> float:
    """Return the hours of one member's prediction of one image."""
    spec = run.spec
    trained = spec.epochs * spec.data.train_images * inputs_per_image(spec.model)
    steps = run.hours - RUN_SECONDS / 3600
    return steps / trained / PASSES_A_STEP * passes_per_image(spec.model) / spec.model.members


def duration(hours: float) -> str:
    """Return a length of time in the unit that reads best: 40 s, 25 min, 3.2 h."""
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 1.5 else f"{hours:,.1f} h"
