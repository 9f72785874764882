"""A spec and a finished run, small and complete, for the tests of the store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.catalog import DATASETS
from bench.recipes import METHODS, Setting
from bench.spec.run import DataSpec, Execution, ModelSpec, Optimizer, RunSpec, Topology
from bench.store.logits import StoredLogits
from bench.store.run_folder import RunFolder
from bench.store.store import Store

LOGITS = np.arange(2 * 5 * 3, dtype=np.float32).reshape(2, 5, 3) / 7
LABELS = np.array([0, 2, 1, 1, 0])
WEIGHT = np.array([[0.0, 1.5], [-2.25, 0.0]], dtype=np.float32)
MASK = np.array([[False, True], [True, False]])


def epoch(number: int, **changes: Any) -> dict[str, Any]:
    """Return a whole line of a history."""
    line = {
        "epoch": number,
        "phase": "train",
        "lr": 0.1,
        "train_loss": 2.5,
        "train_accuracy": 0.25,
        "validation_loss": None,
        "validation_accuracy": None,
        "predictions": None,
        "density": 1.0,
        "seconds": 1.0,
        "images_per_second": 100.0,
        "updates": [],
    }
    return {**line, **changes}


def ticket(index: int, **changes: Any) -> dict[str, Any]:
    """Return how a result describes a ticket."""
    facts = {"index": index, "sha256": "0" * 64, "epoch": 1, "phase": "train", "validation_accuracy": None}
    return {**facts, "density": 1.0, "layer_density": None, **changes}


def result_facts(tickets: Sequence[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """Return what a run says of itself when it finishes."""
    facts: dict[str, Any] = {
        "run": "0123456789abcdef",
        "parent": None,
        "inherited": {},
        "tickets": tuple(tickets),
        "tickets_expected": len(tickets),
        "members_a_ticket": 1,
        "kept": (),
        "checks": {"density": 1.0, "density_wanted": 1.0, "nonzeros": None},
        "seconds": 1.0,
        "images_per_second": 123.0,
        "model": ModelSpec(name="wide_resnet", arguments={"depth": 10, "width": 1}),
        "execution": Execution(),
        "batch_size": 128,
        "processes": 1,
        "device": "cpu",
        "device_name": "a processor",
    }
    return {**facts, **changes}


RESULT = result_facts([ticket(0), ticket(1)])


def run_spec(**changes: Any) -> RunSpec:
    """Return the spec of an EDST run of two tickets on digits."""
    facts = DATASETS["digits"]
    fields: dict[str, Any] = {
        "data": DataSpec(name="digits", train_images=1000, validation_images=100, test_images=100),
        "model": ModelSpec(name="wide_resnet", arguments={"depth": 10, "width": 1}),
        "topology": Topology(density=0.2),
        "phases": METHODS["edst"].recipe(Setting(members=2, learning_rate=0.1)),
        "optimizer": Optimizer(),
        "batch_size": 128,
        "augmentation": facts.augmentation,
        "validation_augmented": False,
        "execution": Execution(),
        "seed": 18,
    }
    return RunSpec(**{**fields, **changes})


def finished_run(root: Path, **changes: Any) -> RunFolder:
    """Write all that a run leaves, result.json last."""
    spec = run_spec(**changes)
    folder = Store(root).run(spec.run_id)
    folder.write_spec(spec)
    folder.write_provenance(())
    folder.write_history([epoch(1), epoch(2, train_loss=1.25)])
    for index in range(2):
        folder.write_ticket(
            index, {"layer.weight": WEIGHT * (index + 1), "mask/layer.weight": MASK}, {"epoch": index + 1}
        )
    folder.finish(**RESULT)
    for name in ("test", "validation"):
        StoredLogits.of_run(folder).write(name, LOGITS, LABELS, images="the test's own")
    return folder
