"""Logits of many classes are stored in half precision, unless that would lose them."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from bench.store.logits import MOST_FLOAT32, StoredLogits

LABELS = np.zeros(2, np.int64)


@pytest.mark.parametrize(
    ("classes", "largest", "half", "kind"),
    [
        (MOST_FLOAT32, 1.0, True, np.float32),
        (1000, 1.0, True, np.float16),
        (1000, 1.0, False, np.float32),
        (1000, 65_504.0, True, np.float16),
        (1000, -70_000.0, True, np.float32),
    ],
)
def test_precision_follows_from_classes_and_size(
    classes: int, largest: float, half: bool, kind: type, tmp_path: Path
) -> None:
    logits = np.full((1, 2, classes), largest, np.float32)
    StoredLogits(tmp_path, {}).write("a", logits, LABELS, half=half)
    assert load_file(tmp_path / "logits" / "a.safetensors")["logits"].dtype == kind
    read, labels = StoredLogits(tmp_path, {}).logits("a")
    assert np.array_equal(read, logits)
    assert np.array_equal(labels, LABELS)
