"""The loop on a GPU: autocast, compilation, topology updates, a checkpoint that continues."""

from pathlib import Path

import pytest

from bench.recipes import RELEASED, STANDARD, Semantics
from bench.spec.run import Execution
from bench.store.logits import StoredLogits
from bench.store.store import Store
from bench.work.options import Options
from bench.work.worker import run_worker
from tests.training.runs import edst_spec, work_of


@pytest.mark.parametrize("semantics", [RELEASED, STANDARD], ids=["released", "standard"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_run_trains_rewires_and_leaves_tickets(
    semantics: Semantics, precision: str, compiled: bool, tmp_path: Path
) -> None:
    execution = Execution.model_validate({"precision": precision, "channels_last": True, "compile": compiled})
    spec = edst_spec(semantics, execution=execution)
    assert run_worker(work_of([spec]), Store(tmp_path), Options(device="cuda", checkpoint_seconds=0.0)) == 0
    folder = Store(tmp_path).run(spec.run_id)
    assert folder.result().device == "cuda"
    for ticket in folder.result().tickets:
        masks, tensors = folder.masks(ticket.index), folder.ticket(ticket.index)
        assert not any(tensors[name][~mask].any() for name, mask in masks.items())


def test_deterministic_algorithms_repeat_the_bits(tmp_path: Path) -> None:
    spec = edst_spec(STANDARD, execution=Execution(channels_last=True))
    logits = []
    for name in ("first", "second"):
        store = Store(tmp_path / name)
        assert run_worker(work_of([spec]), store, Options(device="cuda", deterministic=True)) == 0
        logits.append(StoredLogits.of_run(store.run(spec.run_id)).logits("test")[0])
    assert (logits[0] == logits[1]).all()
