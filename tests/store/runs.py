"""A spec and a finished run, small and complete, for the tests of the store."""

from pathlib import Path
from typing import Any

import numpy as np

from bench.data.catalog import DATASETS
from bench.recipes import METHODS, Setting
from bench.spec.run import DataSpec, Execution, ModelSpec, Optimizer, RunSpec, Topology
from bench.store.files import write_json
from bench.store.folders import RunFolder, Store

LOGITS = np.arange(2 * 5 * 3, dtype=np.float32).reshape(2, 5, 3) / 7
LABELS = np.array([0, 2, 1, 1, 0])
WEIGHT = np.array([[0.0, 1.5], [-2.25, 0.0]], dtype=np.float32)
MASK = np.array([[False, True], [True, False]])
RESULT = {
    "tickets": [{"index": 0}, {"index": 1}],
    "model": {"name": "wide_resnet", "arguments": {"depth": 10, "width": 1}},
    "execution": {"precision": "fp32"},
    "device": "cpu",
    "device_name": "a processor",
    "images_per_second": 123.0,
}


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
    write_json(folder.path / "provenance.json", {"sessions": []})
    folder.write_history([{"epoch": 0, "train_loss": 2.5}, {"epoch": 1, "train_loss": 1.25}])
    for index in range(2):
        folder.write_ticket(index, {"layer.weight": WEIGHT * (index + 1), "mask/layer.weight": MASK}, {"epoch": index})
    for name in ("test", "validation"):
        folder.write_logits(name, LOGITS, LABELS)
    folder.finish(RESULT)
    return folder
