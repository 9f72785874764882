"""Which GPUs a process of several leaves visible to itself."""

import os
from types import SimpleNamespace
from typing import cast

import pytest
import submitit

from slurm.array_task import _take_own_gpus


@pytest.mark.parametrize(
    ("visible", "gpus", "own"),
    [
        ("4,5,6,7", 1, ("4", "5", "6")),
        ("0,1,2,3,4,5", 2, ("0,1", "2,3", "4,5")),
        ("3", 1, ("3", "3", "3")),  # SLURM has chosen, by gpus-per-task
        (None, 1, ("0", "1", "2")),  # none was asked for: the node's are all there
        (None, 0, (None, None, None)),
    ],
)
def test_each_process_has_its_own(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, gpus: int, own: tuple[str | None, ...]
) -> None:
    for rank, expected in enumerate(own):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        _take_own_gpus(cast("submitit.JobEnvironment", SimpleNamespace(local_rank=rank)), gpus)
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == expected
