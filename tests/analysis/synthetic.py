"""A store without training: runs of a plan with plausible histories and logits, written by bench.store itself."""

import math
from collections.abc import Collection

import numpy as np

from bench.data.catalog import DATASETS
from bench.files import write_json
from bench.models.catalog import NETWORKS
from bench.plan import Plan
from bench.sparsity.distribution import DISTRIBUTIONS
from bench.spec import RunSpec
from bench.store import Store

CLASSES = 10
# How strongly a network of a method knows the right class: enough to tell cells apart.
STRENGTH = {"dense": 6.2, "static": 5.2, "dst": 6.0, "edst": 5.9}


def labels_of(images: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, CLASSES, images)


def logits_of(method: str, seed: int, tickets: int, images: int) -> np.ndarray:
    """Logits [tickets, images, classes]: noise that all networks share, that a run shares, and of a ticket alone."""
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(11).normal(size=(images, CLASSES)) * 1.9
    run = rng.normal(size=(images, CLASSES)) * (0.9 if tickets > 1 else 0)
    own = rng.normal(size=(tickets, images, CLASSES)) * 0.9
    right = np.eye(CLASSES)[labels_of(images)] * STRENGTH[method] * (1 + 0.02 * rng.normal())
    return (1.4 * (shared + run + own + right)).astype(np.float32)


def history_of(spec: RunSpec) -> list[dict]:
    """One line an epoch, the loss falling with the learning rate."""
    rng = np.random.default_rng(spec.seed)
    lines, loss = [], 2.3
    for phase in spec.phases:
        for epoch in range(phase.epochs):
            rate = phase.lr.at(epoch, 1, phase.epochs)
            loss += (0.02 + 2.5 * rate - loss) * 0.15
            train = loss * math.exp(0.06 * rng.normal())
            validation = (loss + 0.16) * math.exp(0.10 * rng.normal() * (0.3 + 5 * rate))
            lines.append(
                {
                    "epoch": len(lines) + 1,
                    "phase": phase.name,
                    "lr": rate,
                    "train_loss": train,
                    "train_accuracy": math.exp(-train),
                    "validation_loss": validation,
                    "validation_accuracy": math.exp(-0.8 * validation),
                    "density": spec.topology.density if spec.topology else 1.0,
                    "seconds": 1.0,
                    "images_per_second": 1000.0,
                    "updates": [],
                }
            )
    return lines


def tickets_of(spec: RunSpec, history: list[dict]) -> list[dict]:
    """The best validation epoch of each phase that leaves a ticket, as result.json records it."""
    tickets = []
    for index, phase in enumerate(phase for phase in spec.phases if phase.ticket):
        epochs = [line for line in history if line["phase"] == phase.name]
        best = max(epochs, key=lambda line: line["validation_accuracy"])
        ticket = {key: best[key] for key in ("epoch", "phase", "validation_accuracy", "density")}
        tickets.append({"index": index, **ticket, **layer_density(spec)})
    return tickets


def layer_density(spec: RunSpec) -> dict[str, dict[str, float]]:
    if spec.topology is None:
        return {}
    facts = DATASETS[spec.data.name]
    layers = NETWORKS[spec.model.name].layers(facts.classes, facts.image_size, **spec.model.arguments)
    shapes = {layer.name: layer.shape for layer in layers}
    return {"layer_density": DISTRIBUTIONS[spec.topology.distribution](shapes, spec.topology.density)}


def write_run(
    store: Store, spec: RunSpec, logits: np.ndarray, labels: np.ndarray, *, missing: Collection[int] = ()
) -> None:
    """Write a finished run with these logits [tickets, images, classes]; the `missing` tickets were never taken."""
    folder = store.run(spec.run_id)
    history = history_of(spec)
    kept = [index for index in range(spec.tickets) if index not in missing]
    folder.write_spec(spec)
    folder.write_history(history)
    write_json(folder.path / "provenance.json", {})
    folder.write_logits("test", logits[kept], labels)
    result = {
        "tickets": [ticket for ticket in tickets_of(spec, history) if ticket["index"] in kept],
        "images_per_second": 1000.0,
        "device": "cpu",
        "device_name": "none: synthetic",
        "model": spec.model.model_dump(),
        "execution": spec.execution.model_dump(),
    }
    folder.finish(result)


def fill(store: Store, plan: Plan, *, images: int = 300, leave_out: Collection[str] = ()) -> None:
    """Write every run of a plan but those of the ids left out."""
    methods = {run: cell.method for cell in plan.cells for runs in cell.runs for run in runs}
    for run in plan.runs:
        if run.id not in leave_out:
            logits = logits_of(methods[run.id], run.spec.seed, run.spec.tickets, images)
            write_run(store, run.spec, logits, labels_of(images))
