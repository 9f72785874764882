"""Near misses: which stored runs a plan names although no cell asks for them, and with which values."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.__main__ import main
from bench.grid import load_grid
from bench.plan import Plan, make_plan, near_misses, print_plan
from bench.store.store import Store
from tests.grid_text import PAPER_CONFIGS, load_text, write_grid
from tests.plan.test_plan import finish

DST = "name: DST, method: dst, sparsity: 0.8, members: 2, recipe: {epochs: 8, update_every: 4}"
EDST = (
    "name: EDST, method: edst, sparsity: 0.8, members: 2, recipe: {exploration_epochs: 4, refinement_epochs: 2, "
    "update_every: 4}"
)
PF = "name: PF, method: prune_finetune, sparsity: 0.8, members: 2, recipe: {epochs: 4, dense_epochs: 6}"


def plan_of(folder: Path, *cells: str, base: str = "", replicates: int = 2, store: Store | None = None) -> Plan:
    written = ", ".join(f"{{{cell}}}" for cell in cells)
    text = f"replicates: {replicates}\nbase: {{data: digits, model: {{depth: 10, width: 1}}{base}}}\ncells: [{written}]"
    return make_plan(load_text(folder, text), "paper", store)


def stored(folder: Path, plan: Plan) -> Store:
    """Return a store that has the runs of a plan."""
    store = Store(folder / "results")
    for run in plan.runs:
        store.run(run.id).write_spec(run.spec)
    return store


def test_a_switch_that_was_another_is_named_with_both_values(tmp_path: Path) -> None:
    before = plan_of(tmp_path, DST, EDST)
    now = plan_of(tmp_path, DST, EDST, base=", optimizer: {nesterov: true}")
    found = near_misses([now], stored(tmp_path, before))
    (group,) = found.groups
    assert set(group.runs) == {run.id for run in before.runs}
    assert list(found.lines()) == [
        "6 runs in this store differ from this grid's only in optimizer.nesterov (theirs false, this grid's true)"
    ]


def test_a_key_counts_once_in_phases_and_parents(tmp_path: Path) -> None:
    now = plan_of(tmp_path, EDST.replace("update_every: 4", "update_every: 4, drop_fraction: 0.3"))
    (line,) = near_misses([now], stored(tmp_path, plan_of(tmp_path, EDST))).lines()
    assert line.endswith("only in phases.rewire.drop_fraction (theirs 0.5, this grid's 0.3)")
    now = plan_of(tmp_path, PF, base=", batch_size: 64")
    before = plan_of(tmp_path, PF, base=", batch_size: 32")
    found = near_misses([now], stored(tmp_path / "pruned", before))
    assert list(found.lines()) == [
        "8 runs in this store differ from this grid's only in batch_size (theirs 32, this grid's 64)"
    ]


def test_values_of_an_axis_are_listed_and_groups_are_by_keys(tmp_path: Path) -> None:
    before = [
        plan_of(tmp_path, DST, base=", optimizer: {weight_decay: 0.001}", replicates=1),
        plan_of(tmp_path, DST, base=", optimizer: {weight_decay: 0.002}", replicates=1),
        plan_of(tmp_path, DST, base=", batch_size: 64, augmentation: {flip: true}", replicates=1),
    ]
    for plan in before:
        store = stored(tmp_path, plan)
    now = plan_of(tmp_path, DST, replicates=1)
    lines = list(near_misses([now], store).lines())
    decays, *others = lines
    assert decays.startswith("4 runs in this store differ from this grid's only in optimizer.weight_decay (theirs 0.00")
    assert "0.001" in decays
    assert "0.002" in decays
    assert decays.endswith(", this grid's 0.0005)")
    assert others == [
        "2 runs in this store differ from this grid's only in augmentation.flip (theirs true, this grid's false) and "
        "batch_size (theirs 64, this grid's 128)"
    ]


def test_another_seed_is_a_replicate_beyond_the_grids(tmp_path: Path) -> None:
    more, fewer = plan_of(tmp_path, DST, replicates=5), plan_of(tmp_path, DST, replicates=2)
    store = stored(tmp_path, more)
    found = near_misses([fewer], store)
    assert list(found.lines()) == [
        "6 runs in this store differ from this grid's in seed alone: replicates beyond this grid's"
    ]
    (difference,) = found.groups[0].differences
    assert sorted(difference.theirs) == [218, 219, 318, 319, 418, 419]
    assert difference.grids == (18, 19, 118, 119)


def test_a_switch_and_a_seed_are_both_named(tmp_path: Path) -> None:
    other = DST.replace("members: 2", "members: 1, seed: 7")
    now = plan_of(tmp_path, DST.replace("members: 2", "members: 1"), base=", batch_size: 64", replicates=1)
    (line,) = near_misses([now], stored(tmp_path, plan_of(tmp_path, other, replicates=1))).lines()
    assert line == (
        "1 run in this store differs from this grid's only in batch_size (theirs 128, this grid's 64) and seed "
        "(theirs 7, this grid's 18)"
    )


@pytest.mark.parametrize(
    ("then", "base"),
    [
        ("name: dense, method: dense, recipe: {epochs: 8}", ""),  # another method
        (DST, ", batch_size: 64, optimizer: {learning_rate: 0.2, momentum: 0.8, nesterov: true}"),  # four keys
    ],
)
def test_other_experiments_are_no_near_misses(tmp_path: Path, then: str, base: str) -> None:
    store = stored(tmp_path, plan_of(tmp_path, then, base=base))
    assert list(near_misses([plan_of(tmp_path, DST)], store).lines()) == []


def test_runs_on_other_images_are_no_near_misses_but_substitutes_are(tmp_path: Path) -> None:
    cifar10, cifar100 = (f"cells: [{{name: dense, method: dense, data: {name}}}]" for name in ("cifar10", "cifar100"))
    store = stored(tmp_path, make_plan(load_text(tmp_path, cifar100), "paper", None))
    assert list(near_misses([make_plan(load_text(tmp_path, cifar10), "paper", None)], store).lines()) == []
    substitutes = make_plan(load_text(tmp_path, cifar100), "paper", None, {"cifar100": "images-1234"})
    assert list(near_misses([substitutes], store).lines()) == [
        "3 runs in this store differ from this grid's only in data.variant (theirs official, this grid's images-1234)"
    ]


def test_a_run_nearer_to_a_finished_run_of_the_grid_misses_nothing(tmp_path: Path) -> None:
    old = plan_of(tmp_path, DST, base=", optimizer: {nesterov: true}")
    store = stored(tmp_path, old)
    other = DST.replace("name: DST", "name: small batches, batch_size: 64")
    for run in plan_of(tmp_path, DST).runs:
        finish(store, run.spec, images_per_second=100.0)
    now = plan_of(tmp_path, DST, other, store=store)
    assert {run.status for run in now.runs} == {"done", "missing"}
    assert near_misses([now], store).groups == ()


def test_nothing_is_read_where_nothing_is_missing(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, DST)
    store = stored(tmp_path, plan_of(tmp_path, EDST))
    for run in plan.runs:
        finish(store, run.spec, images_per_second=100.0)
    (store.run("0" * 16).path).mkdir()
    (store.run("0" * 16).path / "spec.yaml").write_text("cut")
    assert list(near_misses([plan_of(tmp_path, DST, store=store)], store).lines()) == []


def test_a_spec_that_cannot_be_read_is_named_and_the_others_are_compared(tmp_path: Path) -> None:
    before, now = plan_of(tmp_path, DST), plan_of(tmp_path, DST, base=", batch_size: 64")
    store = stored(tmp_path, before)
    damaged = [run.id for run in before.runs[:3]]
    for run, content in zip(damaged, (b"", b"\xff\xfe", b"[" * 100_000), strict=True):
        (store.run(run).path / "spec.yaml").write_bytes(content)
    (store.run(now.runs[0].id).path).mkdir()
    (store.run(now.runs[0].id).path / "spec.yaml").write_text("cut")  # its state says so
    found = near_misses([now], store)
    assert set(found.unreadable) == set(damaged)
    assert [group.runs for group in found.groups] == [(before.runs[3].id,)]
    assert list(found.lines())[1].startswith("not compared with this grid, since spec.yaml cannot be read: ")


def test_a_plan_prints_near_misses(tmp_path: Path) -> None:
    now, before = plan_of(tmp_path, DST, base=", execution: {precision: tf32}"), plan_of(tmp_path, DST)
    output = io.StringIO()
    print_plan(now, Console(file=output, width=200), near_misses([now], stored(tmp_path, before)))
    assert (
        output.getvalue()
        .rstrip()
        .endswith(
            "4 runs in this store differ from this grid's only in execution.precision (theirs fp32, this grid's tf32)"
        )
    )


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    assert not ended.value.code
    return json.loads(capsys.readouterr().out)


def test_the_command_looks_for_near_misses_of_all_its_grids(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    digits = make_plan(load_grid(PAPER_CONFIGS / "digits.yaml"), "tiny", None)
    edst = next(run for run in digits.runs if "EDST M=3 S=0.8" in run.cells)
    store = Store(tmp_path / "results")
    store.run(edst.id).write_spec(edst.spec)
    other = write_grid(
        tmp_path,
        f"extends: {PAPER_CONFIGS}/digits.yaml\nbase: {{optimizer: {{nesterov: true}}}}",
    )
    document = printed(capsys, "plan", other, "--scale", "tiny", "--store", store.root, "--json")
    assert document["near_misses"] == [
        {"runs": [edst.id], "differences": {"optimizer.nesterov": {"theirs": [False], "this_grid": [True]}}}
    ]
    assert document["unreadable_runs"] == []
    both = ("plan", other, PAPER_CONFIGS / "digits.yaml", "--scale", "tiny", "--store", store.root, "--json")
    assert printed(capsys, *both)["near_misses"] == []  # the other grid asks for it
