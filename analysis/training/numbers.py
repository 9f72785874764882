"""How the runs got there: epochs, events of their schedules, and the density of each layer of their tickets.

Runs that differ in their seed alone follow one trajectory, whatever cells they serve: a dense single model and the
members of a dense ensemble are drawn once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, assert_never

import pandas as pd

from analysis.reading import StoreView, tidy
from analysis.training.embedding import Prediction
from bench.errors import UserError, counted
from bench.plan import Plan, RunPlan
from bench.spec.phases import Densify, GlobalExploration, Inherit, LearningRate, Phase, Prune, Ramp
from bench.spec.run import RunSpec, canonical_json
from bench.store.records import TicketRecord

EPOCHS = "trajectory run epoch phase lr train_loss train_accuracy validation_loss validation_accuracy density"
EVENTS = "trajectory kind epoch label"
TICKETS = "trajectory run ticket epoch validation_accuracy"
DENSITIES = "trajectory cell sparsity run ticket layer density"
# A trajectory that serves more cells than this is named by the first of them.
MOST_NAMES = 2
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Training:
    """What runs recorded of their training, as tidy DataFrames.

    epochs       one row an epoch of a run that has begun (losses in nats, accuracies as shares, epochs from 1)
    events       one row for what the schedule does before the first step of an epoch: "phase", "lr" or a
                 topology change
    tickets      one row a ticket of a finished run
    densities    one row a layer of a ticket of a finished sparse run; `cell` is the first that the run serves
    predictions  what runs predicted on the same images after each epoch, to be embedded together
    """

    epochs: pd.DataFrame
    events: pd.DataFrame
    tickets: pd.DataFrame
    densities: pd.DataFrame
    predictions: tuple[Prediction, ...]


def load_training(view: StoreView) -> Training:
    """Return the recorded training of all runs of a plan."""
    epochs: Rows = []
    events: Rows = []
    tickets: Rows = []
    densities: Rows = []
    for name, runs in trajectories_of(view.plan).items():
        begun = {}
        for run in runs:
            with view.noting():
                if history := view.history(run.id):
                    begun[run.id] = history
        if not begun:
            continue
        events += [{"trajectory": name, **event} for event in schedule_events(runs[0].spec)]
        for run in runs:
            epochs += [{"trajectory": name, "run": run.id, **epoch.model_dump()} for epoch in begun.get(run.id, ())]
            if run.status == "done":
                with view.noting():
                    for ticket in view.tickets(run.id):
                        tickets.append(_ticket_row(name, run, ticket))
                        densities += _density_rows(name, run, ticket)
    return Training(
        epochs=tidy(epochs, EPOCHS),
        events=tidy(events, EVENTS),
        tickets=tidy(tickets, TICKETS),
        densities=tidy(densities, DENSITIES),
        predictions=load_predictions(view),
    )


def load_predictions(view: StoreView) -> tuple[Prediction, ...]:
    """Return the probe predictions of all runs that recorded any.

    Runs that validate on other images than the first of the plan cannot be compared with it, and are left out.
    """
    predictions: list[Prediction] = []
    compared = None
    for name, runs in trajectories_of(view.plan).items():
        for run in runs:
            images = (run.spec.data.name, run.spec.data.variant, run.spec.data.validation_images)
            if images[2] == 0 or images != (compared or images):
                continue
            with view.noting():
                if found := view.probe_predictions(run):
                    compared = images
                    tickets = _ticket_epochs(view, run)
                    predictions += [
                        Prediction(name, run.id, epoch, phase, epoch in tickets, probabilities)
                        for epoch, phase, probabilities in found
                    ]
    if len({prediction.probabilities.shape for prediction in predictions}) > 1:
        view.note(f"{view.root}: histories record predictions on different numbers of images; none are drawn")
        return ()
    return tuple(predictions)


def _ticket_epochs(view: StoreView, run: RunPlan) -> set[int]:
    """Return the epochs that became tickets; none while the run is not done, or if its result was altered."""
    try:
        return {ticket.epoch for ticket in view.tickets(run.id)}
    except UserError:  # noted where tickets are read
        return set()


def schedule_events(spec: RunSpec) -> Iterator[dict[str, Any]]:
    """Yield what happens before which epoch (from 1): phases, learning rates, topology changes at once."""
    start, rate = 1, _first_rate(spec.phases[0])
    for phase in spec.phases:
        yield {"kind": "phase", "epoch": start, "label": phase.name}
        for action in phase.on_start:
            match action:
                case GlobalExploration():
                    yield {"kind": "exploration", "epoch": start, "label": f"{action.fraction:g}"}
                case Prune():
                    density = 1.0 if spec.topology is None else spec.topology.density
                    yield {"kind": "pruning", "epoch": start, "label": f"{density:g}"}
                case Densify():
                    yield {"kind": "densification", "epoch": start, "label": "1"}
                case Inherit():
                    pass  # the first epoch of a child begins with it
                case _:
                    assert_never(action)
        match phase.lr:
            case LearningRate():
                for value, epoch in zip(phase.lr.values, (0, *phase.lr.boundaries), strict=True):
                    if value != rate:
                        rate = value
                        yield {"kind": "lr", "epoch": start + epoch, "label": f"{rate:g}"}
            case Ramp():  # is seen at its start, and has moved when it ends
                if phase.lr.start != rate:
                    yield {"kind": "lr", "epoch": start, "label": f"{phase.lr.start:g}"}
                rate = phase.lr.end
            case _:
                assert_never(phase.lr)
        start += phase.epochs


def _first_rate(phase: Phase) -> float:
    match phase.lr:
        case LearningRate():
            return phase.lr.values[0]
        case Ramp():
            return phase.lr.start
        case _:
            assert_never(phase.lr)


def trajectories_of(plan: Plan) -> dict[str, list[RunPlan]]:
    """Return the runs of a plan by trajectory: those that differ in their seed alone, named by the cells they serve."""
    groups: dict[str, list[RunPlan]] = {}
    for run in plan.runs:
        groups.setdefault(_without_seeds(run.spec), []).append(run)
    order = {cell.name: index for index, cell in enumerate(plan.cells)}
    named = {}
    for runs in groups.values():
        cells = sorted({name for run in runs for name in run.cells}, key=order.__getitem__)
        more = f" and {counted(len(cells) - MOST_NAMES, 'more cell')}" if len(cells) > MOST_NAMES else ""
        name = ", ".join(cells[:MOST_NAMES]) + more
        # Parents that no cell asks for by itself serve the cells of their children.
        named[f"{name} (parent)" if name in named or _is_parent(runs[0], plan) else name] = runs
    return named


def _is_parent(run: RunPlan, plan: Plan) -> bool:
    """Whether a run only serves as the start of others."""
    return not any(run.id in replicate for cell in plan.cells for replicate in cell.runs)


def _without_seeds(spec: RunSpec) -> str:
    parent = None if spec.parent is None else spec.parent.model_copy(update={"seed": 0})
    return canonical_json(spec.model_copy(update={"seed": 0, "parent": parent}))


def _ticket_row(trajectory: str, run: RunPlan, ticket: TicketRecord) -> dict[str, Any]:
    return {
        "trajectory": trajectory,
        "run": run.id,
        "ticket": ticket.index + 1,
        "epoch": ticket.epoch,
        "validation_accuracy": ticket.validation_accuracy,
    }


def _density_rows(trajectory: str, run: RunPlan, ticket: TicketRecord) -> Rows:
    """Return a row a layer; none for a dense run."""
    if run.spec.topology is None:
        return []
    head = {
        "trajectory": trajectory,
        "cell": run.cells[0],
        "sparsity": round(1 - run.spec.topology.density, 10),
        "run": run.id,
        "ticket": ticket.index + 1,
    }
    return [{**head, "layer": layer, "density": density} for layer, density in (ticket.layer_density or {}).items()]
