"""A store without training: runs of a plan with plausible histories and logits, written by bench.store itself."""

import math
from collections.abc import Collection

import numpy as np
from safetensors.numpy import save_file

from bench.data.catalog import DATASETS
from bench.evaluation.sets import CorruptedSet, OwnSet
from bench.models.catalog import NETWORKS
from bench.plan import Plan
from bench.plan.records import EnsemblePlan, RunPlan
from bench.sparsity.distribution import DISTRIBUTIONS
from bench.spec.run import MASK_PREFIX, McDropout, RunSpec
from bench.store.files import atomic_path
from bench.store.logits import StoredLogits, ensemble_logits
from bench.store.probe import encode
from bench.store.samples import samples_file
from bench.store.store import Store
from tests.store.runs import result_facts

CLASSES = 10
# How strongly a network of a method knows the right class: enough to tell cells apart.
STRENGTH = {"dense": 6.2, "static": 5.2, "dst": 6.0, "edst": 5.9, "mc_dropout": 5.6}
VALIDATION_IMAGES = 90
FACTS = {"images": "synthetic", "seconds": 1.0, "forward_seconds": 0.9, "device": "none: synthetic"}


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


def noise_of(name: str, seed: int, members: int, images: int, strength: float) -> np.ndarray:
    """Logits [members, images, classes] on a set of this name, the right class raised by `strength`."""
    rng = np.random.default_rng([seed, *name.encode()])
    noise = rng.normal(size=(members, images, CLASSES)) * 2
    return (noise + np.eye(CLASSES)[labels_of(images)] * strength).astype(np.float32)


def history_of(spec: RunSpec, probe_images: int = 0) -> list[dict]:
    """One line an epoch, the loss falling with the learning rate; with predictions on so many `probe_images` images."""
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
            if probe_images:
                lines[-1]["predictions"] = encode(probe_of(spec.seed, len(lines), probe_images))
    return lines


def probe_of(seed: int, epoch: int, images: int) -> np.ndarray:
    """Probabilities [images, classes] that walk from chance towards the labels, each run on a way of its own."""
    aim = np.eye(CLASSES)[labels_of(images)] + np.random.default_rng(seed).uniform(0, 0.3, (images, CLASSES))
    share = epoch / (epoch + 4)
    mixed = share * aim + (1 - share)
    return mixed / mixed.sum(axis=1, keepdims=True)


def tickets_of(spec: RunSpec, history: list[dict]) -> list[dict]:
    """The best validation epoch of each phase that leaves a ticket, as result.json records it."""
    tickets = []
    for index, phase in enumerate(phase for phase in spec.phases if phase.ticket):
        epochs = [line for line in history if line["phase"] == phase.name]
        best = max(epochs, key=lambda line: line["validation_accuracy"])
        ticket = {key: best[key] for key in ("epoch", "phase", "validation_accuracy", "density")}
        tickets.append({"index": index, "sha256": "0" * 64, **ticket, **layer_density(spec)})
    return tickets


def layer_density(spec: RunSpec) -> dict[str, dict[str, float]]:
    if spec.topology is None:
        return {}
    return {"layer_density": DISTRIBUTIONS[spec.topology.distribution](shapes_of(spec), spec.topology.density)}


def shapes_of(spec: RunSpec) -> dict[str, tuple[int, ...]]:
    """The shapes of the layers that are masked, in the order of the network."""
    facts = DATASETS[spec.data.name]
    layers = NETWORKS[spec.model.name].layers(facts.classes, facts.image_size, **spec.model.arguments)
    return {layer.name: layer.shape for layer in layers}


def tensors_of(spec: RunSpec, index: int) -> dict[str, np.ndarray]:
    """A ticket: weights, of a sparse spec under masks, drawn anew for every ticket."""
    rng = np.random.default_rng([spec.seed, index])
    tensors = {"bias": rng.normal(size=CLASSES).astype(np.float32)}
    densities = layer_density(spec).get("layer_density", {})
    for name, shape in shapes_of(spec).items():
        mask = rng.random(shape) < densities.get(name, 1)
        tensors[name] = rng.normal(size=shape).astype(np.float32) * mask
        if densities:
            tensors[f"{MASK_PREFIX}{name}"] = mask
    return tensors


def write_run(
    store: Store,
    spec: RunSpec,
    logits: np.ndarray,
    labels: np.ndarray,
    *,
    missing: Collection[int] = (),
    probe_images: int = 0,
) -> None:
    """Write a finished run with these logits [members, images, classes]; the `missing` tickets were never taken.

    probe_images   the number of images on which its history records predictions
    """
    folder = store.run(spec.run_id)
    history = history_of(spec, probe_images)
    kept = [index for index in range(spec.tickets) if index not in missing]
    members = [index * spec.model.members + own for index in kept for own in range(spec.model.members)]
    folder.write_spec(spec)
    folder.write_history(history)
    folder.write_provenance(())
    for index in kept:
        folder.write_ticket(index, tensors_of(spec, index), {})
    tickets = [ticket for ticket in tickets_of(spec, history) if ticket["index"] in kept]
    facts = {"images_per_second": 1000.0, "device_name": "none: synthetic"}
    folder.finish(**result_facts(tickets, run=spec.run_id, model=spec.model, execution=spec.execution, **facts))
    stored = StoredLogits.of_run(folder)
    stored.write("test", logits[members], labels, half=False, images="test images")
    if spec.data.validation_images:
        held_out = noise_of("validation", spec.seed, len(logits), VALIDATION_IMAGES, 5.0)
        stored.write("validation", held_out[members], labels_of(VALIDATION_IMAGES), half=False, images="validation")


def members_of(spec: RunSpec) -> int:
    """The number of predictions that a run's tickets make of an image."""
    return spec.tickets * spec.model.members


def fill(
    store: Store,
    plan: Plan,
    *,
    images: int = 300,
    leave_out: Collection[str] = (),
    probe_images: int = 0,
) -> None:
    """Write every run of a plan but those of the ids left out."""
    methods = {run: cell.method for cell in plan.cells for runs in cell.runs for run in runs}
    for run in plan.runs:
        if run.id not in leave_out:
            logits = logits_of(methods[run.id], run.spec.seed, members_of(run.spec), images)
            write_run(store, run.spec, logits, labels_of(images), probe_images=probe_images)


def evaluate(store: Store, plan: Plan, *, images: int = 60, leave_out: Collection[str] = ()) -> None:
    """Write every set that a plan asks for, of runs and ensembles that are done, but those of the names left out.

    And an image under each corruption, as if all could be had.
    """
    for run in plan.runs:
        if store.run(run.id).status() == "done":
            evaluated = StoredLogits.of_run(store.run(run.id))
            for one in run.evaluations:
                if one.name not in leave_out and not isinstance(one, OwnSet):
                    evaluated.write(one.name, set_logits(run, one.name, images), labels_of(images), **FACTS)
    for ensemble in plan.ensembles:
        if all(store.run(run).status() == "done" for run in ensemble.ensemble.runs):
            evaluated = ensemble_logits(store, ensemble.ensemble)
            for one in ensemble.evaluations:
                if one.name not in leave_out:
                    evaluated.write(
                        one.name, attack_logits(ensemble, one.name), labels_of(one.images or images), **FACTS
                    )
    for dataset in {cell.data.name for cell in plan.cells}:
        asked = [one for run in plan.runs if run.spec.data.name == dataset for one in run.evaluations]
        write_samples(store, dataset, [one for one in asked if isinstance(one, CorruptedSet)])


def write_samples(store: Store, dataset: str, sets: Collection[CorruptedSet]) -> None:
    """Write noise as the samples of each family, a tensor a type: the clean one, and one a severity."""
    rng = np.random.default_rng(3)
    for family in {one.family for one in sets}:
        severities = sorted({one.severity for one in sets if one.family == family})
        types = sorted({one.type for one in sets if one.family == family})
        images = {kind: rng.integers(0, 256, (1 + len(severities), 32, 32, 3), np.uint8) for kind in types}
        with atomic_path(samples_file(store, dataset, family)) as temporary:
            save_file({**images, "severities": np.array(severities)}, temporary)


def set_logits(run: RunPlan, name: str, images: int) -> np.ndarray:
    """Logits [members, images, classes] of a run on a set; what is more severe is recognised less, the outside not."""
    (one,) = (one for one in run.evaluations if one.name == name)
    strength = 7.0 - one.severity if isinstance(one, CorruptedSet) else 0.0
    return noise_of(name, run.spec.seed, members_of(run.spec), images, strength)


def attack_logits(plan: EnsemblePlan, name: str, images: int = 60) -> np.ndarray:
    """Logits [crafted on, members, images, classes]: pgd and larger budgets leave less, an attack on oneself least."""
    (one,) = (one for one in plan.evaluations if one.name == name)
    members = plan.ensemble.members
    drawn = isinstance(plan.specs[0].model.ensemble, McDropout)
    crafted = 1 if drawn or members == 1 else members + 1
    strength = (0.0 if one.steps else 6.0) - one.budget / 4
    own = [
        noise_of(f"crafted on {index}", plan.specs[0].seed, members, one.images or images, strength)
        for index in range(crafted)
    ]
    logits = np.stack(own)
    if crafted > 1:
        for index in range(members):
            logits[index, index] -= np.eye(CLASSES)[labels_of(one.images or images)] * 2
    return logits
