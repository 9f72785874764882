"""One run on two processes (Gloo) is the run of one: the same batches, gradients, batch norm and masks.

Compared in float64, where what is left of rounding decides no mask; in float32 rounding grows from step to step, as it
does between two numbers of threads.
"""

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.spec.run import MASK_PREFIX
from bench.store.store import Store
from bench.training.optimizer import NORMS
from bench.training.ranks import ALONE, Ranks
from bench.training.sync_norm import synchronise
from bench.work import provenance
from bench.work.attempts import was_begun
from tests.training.runs import CPU, dense_spec, do, with_parent
from tests.training.runs import outcome as stored_outcome
from tests.training.together import (
    HOPELESS,
    INTERRUPTED_AT,
    NORM_INPUTS,
    ROWS_OF_FIRST,
    SPECS,
    STORED,
    VALIDATED,
    NormResult,
    begin,
    double_precision,
    first_step,
    make_trainer,
    normalise,
    outcome,
    proceed,
    start,
)

TOLERANCE = 1e-11  # of weights relative to the largest of their tensor, of losses absolute; measured: 8e-14
LOST = "rank 0 of 2 lost another, which failed, was killed, or is on a node that died: "
SECONDS_TO_NOTICE = 120.0  # at once where it was measured; without notice, the 600 of `together.join`


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which two processes have left all their results."""
    folder = tmp_path_factory.mktemp("together")
    with double_precision():
        begin(SPECS["dst"](), ALONE, folder / "of one.pt")
    assert wait(start("work and fail", folder)) == [1, 1]
    return folder


def wait(processes: list[subprocess.Popen[bytes]]) -> list[int]:
    """Return the exit codes; the first rank has to notice the end of the second."""
    second = processes[1].wait(600)
    return [processes[0].wait(SECONDS_TO_NOTICE), second]


def of_ranks(folder: Path, name: str) -> list[Any]:
    return [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in range(2)]


def error(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest magnitude."""
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


def assert_same(found: dict[str, Any], expected: dict[str, Any], *, variance: float = TOLERANCE) -> None:
    """Masks and counts are to be equal, numbers within TOLERANCE; `variance`: that of running variances."""
    assert found["tensors"].keys() == expected["tensors"].keys()
    for name, tensor in expected["tensors"].items():
        if name.startswith(MASK_PREFIX) or not tensor.is_floating_point():
            assert found["tensors"][name].equal(tensor), name
        else:
            allowed = variance if name.endswith("running_var") else TOLERANCE
            assert error(found["tensors"][name], tensor) <= allowed, name
    assert len(found["history"]) == len(expected["history"])
    for line, other in zip(found["history"], expected["history"], strict=True):
        for key in ("epoch", "lr", "train_accuracy", "validation_accuracy", "density", "updates"):
            assert line[key] == other[key], key
        assert line["train_loss"] == pytest.approx(other["train_loss"], abs=TOLERANCE)
        assert line["validation_loss"] == pytest.approx(other["validation_loss"], abs=max(TOLERANCE, variance))


# -- one process and two -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
def test_two_processes_train_as_one(name: str, together: Path) -> None:
    with double_precision():
        alone = outcome(make_trainer(SPECS[name](), ALONE))
    first, second = of_ranks(together, name)
    assert first["history"] == second["history"]
    assert all(first["tensors"][key].equal(tensor) for key, tensor in second["tensors"].items())
    # Both take a last batch of one image, and each counts it in the correction n / (n - 1) of the running variance.
    assert_same(first, alone, variance=5e-3 if name == "one image left" else TOLERANCE)
    if name not in ("dense", "gradual pruning"):
        assert any(update["grown"] for line in alone["history"] for update in line["updates"])


def test_a_step_in_float32_is_that_of_one_process_up_to_rounding(together: Path) -> None:
    alone = first_step(SPECS["dense"](), ALONE)
    for tensors in of_ranks(together, "first step"):
        assert all(error(tensors[key], tensor) < 1e-5 for key, tensor in alone.items() if tensor.is_floating_point())


def test_a_checkpoint_continues_with_another_number_of_processes(together: Path) -> None:
    with double_precision():
        alone = outcome(make_trainer(SPECS["dst"](), ALONE))
        assert_same(proceed(SPECS["dst"](), ALONE, together / "of two.pt"), alone)
    for proceeded in of_ranks(together, "proceeded"):
        assert_same(proceeded, alone)


@pytest.mark.parametrize("name", INTERRUPTED_AT)
def test_an_interruption_of_two_processes_costs_no_bit(name: str, together: Path) -> None:
    spec = STORED[name]()
    assert stored_outcome(together / "resumed", spec) == stored_outcome(together / "two", spec)
    sessions = json.loads((Store(together / "resumed").run(spec.run_id).path / "provenance.json").read_text())
    assert [session["processes"] for session in sessions["sessions"]] == [2, 2]
    epoch, step = divmod(INTERRUPTED_AT[name], spec.steps_per_epoch)
    assert sessions["sessions"][1]["resumed_from"] == {"epoch": epoch + 1, "step": step}


def test_a_store_of_two_processes_is_that_of_one(together: Path, tmp_path: Path) -> None:
    for name in ("edst", "rewinding"):
        spec = STORED[name]()
        assert do(with_parent(spec), Store(tmp_path)) == 0
        one, two = (Store(root).run(spec.run_id) for root in (tmp_path, together / "two"))
        ours, theirs = one.result(), two.result()
        assert (ours.processes, theirs.processes) == (1, 2)
        for key in ("run", "parent", "tickets_expected", "checks", "model", "execution", "batch_size", "device"):
            assert getattr(theirs, key) == getattr(ours, key)
        assert theirs.files.keys() == ours.files.keys()
        assert theirs.files["spec.yaml"] == ours.files["spec.yaml"]
        assert {file.name for file in two.path.iterdir()} == {file.name for file in one.path.iterdir()}
        for line, other in zip(two.history(), one.history(), strict=True):
            assert line.train_loss == pytest.approx(other.train_loss, rel=0.01)


def test_a_signal_to_one_rank_ends_all_with_75(together: Path) -> None:
    expected = [0] * len(STORED) + [75, 0] * len(INTERRUPTED_AT)
    assert of_ranks(together, "codes") == [expected, expected]


@pytest.mark.parametrize("name", VALIDATED)
def test_ranks_share_validation_and_find_what_the_first_finds_alone(name: str, together: Path) -> None:
    first, second = (found[name] for found in of_ranks(together, "validate"))
    assert first["line"] == second["line"] == first["alone"]
    # 30 images in batches of 7. Released code validates on augmented ones: rank 0 alone predicts all as they are, too.
    others = {"one batch": [0, 30], "edst released": [14 + 30, 16], "batch ensemble": [2 * 14, 2 * 16]}
    assert [first["seen"], second["seen"]] == others.get(name, [14, 16])
    for before, after in zip(second["before"], second["after"], strict=True):
        assert before.equal(after)
    differ = any(not mine.equal(other) for mine, other in zip(first["before"], second["before"], strict=True))
    assert differ == (name == "ghosts")  # whose running statistics are of a rank's own first images


def test_shares_of_batches_are_all_images_once() -> None:
    for size, images in ((1, 30), (2, 30), (3, 30), (8, 30), (4, 10_000), (2, 1)):
        shares = [Ranks(rank, size).share_of_batches(images, 7) for rank in range(size)]
        assert [place for share in shares for place in range(share.start, share.stop)] == list(range(images))
        assert all(share.start % 7 == 0 for share in shares if share.start < images)
        counts = [share.stop - share.start for share in shares]
        assert max(counts) - min(counts) <= 2 * 7


def test_masks_that_differ_end_the_run_and_say_where(together: Path) -> None:
    for messages in of_ranks(together, "differ"):
        assert messages == [
            "masks after step 3 (rewire): rank 1 of 2 differs from rank 0",
            "masks of the checkpoint: rank 1 of 2 differs from rank 0",
        ]


def test_ranks_learn_what_the_first_finds_and_what_any_has_met(together: Path) -> None:
    common = [{"of": 0}, (True, True, False), 3, "RanksDifferError: ours"]
    first, second = of_ranks(together, "decide")
    assert first == [*common, "KeyError: 'not ours'"]
    assert second == [*common, "RankFailedError: rank 0: KeyError: 'not ours'"]


# -- batch norm --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NORM_INPUTS)
def test_batch_norm_is_that_of_the_whole_batch(name: str, together: Path) -> None:
    shape = NORM_INPUTS[name]
    whole = normalise(shape, slice(None), synchronised=False)
    first, second = (NormResult(**values) for values in of_ranks(together, f"norm {name}"))
    assert (len(first.output), len(second.output)) == (ROWS_OF_FIRST, shape[0] - ROWS_OF_FIRST)
    for field in fields(NormResult):
        parts = [getattr(one, field.name) for one in (first, second)]
        expected = getattr(whole, field.name)
        if field.name == "state":
            assert parts[0].keys() == parts[1].keys() == expected.keys()
            assert all(error(part[key], tensor) < 1e-6 for part in parts for key, tensor in expected.items())
        elif field.name in ("output", "input_gradient"):
            assert error(torch.cat(parts), expected) < 1e-5
        else:  # what data parallelism adds up
            assert error(parts[0] + parts[1], expected) < 1e-5


def test_synchronised_norms_keep_their_place_their_tensors_and_their_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, eps=0.1, momentum=0.3))
    before = dict(model.named_parameters()) | dict(model.named_buffers())
    norm = synchronise(model, CPU).get_submodule("1")
    after = dict(model.named_parameters()) | dict(model.named_buffers())
    assert list(before) == list(after)
    assert all(before[name] is after[name] for name in before)
    assert isinstance(norm, NORMS)
    images, reference = torch.randn(2, 4, 3, 3), nn.BatchNorm2d(4, eps=0.1).eval()
    assert norm.eval()(images).equal(reference(images))


# -- shares ------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 8), st.integers(0, 100), st.integers(1, 50))
def test_shares_are_the_batch_in_order_and_weigh_as_much_as_they_hold(size: int, begin: int, images: int) -> None:
    shares = [Ranks(rank, size).share(begin, begin + images) for rank in range(size)]
    indices = [list(range(share.part.start, share.part.stop)) for share in shares]
    batch = list(range(begin, begin + images))
    if images < size:
        assert indices == [batch] * size
        assert [share.counted for share in shares] == [True] + [False] * (size - 1)
    else:
        assert [index for own in indices for index in own] == batch
        assert max(map(len, indices)) - min(map(len, indices)) <= 1
        assert all(share.counted for share in shares)
    # The mean over ranks of weighted means is the mean of the batch.
    means = [sum(own) / len(own) * share.weight for own, share in zip(indices, shares, strict=True)]
    assert sum(means) / size == pytest.approx(sum(batch) / images)


def test_a_process_alone_takes_everything_and_draws_as_ever() -> None:
    share = ALONE.share(3, 8)
    assert (share.part, share.weight, share.counted) == (slice(3, 8), 1.0, True)
    assert ALONE.own_draws == ()


def test_a_group_of_one_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    with Ranks.join("cpu") as ranks:
        assert ranks is ALONE
        assert not torch.distributed.is_initialized()


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_rank_that_fails_takes_the_other_along_and_says_why(together: Path) -> None:
    folder = Store(together / "failed").run(dense_spec().run_id)
    failure = folder.error()
    assert failure is not None
    assert failure.traceback[-1] == "ArithmeticError: of rank 1 alone"
    assert (failure.rank, failure.attempt) == (1, 1)
    assert folder.status() == "failed"


def test_a_group_goes_on_after_a_run_that_others_failed_in_and_one_whose_lock_it_lost(together: Path) -> None:
    assert of_ranks(together, "on") == [[0, 0], [0, 0]]  # exit codes, and trainers that hold memory yet
    store, failed, lost = Store(together / "on"), SPECS["dst"](), SPECS["dense"]()
    assert (store.run(failed.run_id).status(), store.run(failed.run_id).sessions()) == ("failed", ())
    assert store.run(lost.run_id).status() == "done"
    assert [session.processes for session in store.run(lost.run_id).sessions()] == [2, 2]


def test_ranks_that_fail_alike_are_one_failure_and_a_killed_one_is_an_attempt(tmp_path: Path) -> None:
    assert wait(start("diverge and die", tmp_path)) == [1, -signal.SIGKILL]
    assert of_ranks(tmp_path, "diverged") == [1, 1]
    diverged = Store(tmp_path / "diverged").run(HOPELESS.run_id).error()
    assert diverged is not None
    assert (diverged.type, diverged.attempt) == ("DivergedError", 1)
    killed = Store(tmp_path / "killed").run(dense_spec().run_id)
    assert killed.error() is None
    assert was_begun(killed.path, "train")  # after three without progress it is given up
    assert LOST in (tmp_path / "killed.log").read_text()


def test_a_rank_killed_between_two_runs_ends_the_other_without_a_traceback(tmp_path: Path) -> None:
    processes = start("die in between", tmp_path, stderr=subprocess.PIPE)
    assert wait(processes) == [1, -signal.SIGKILL]
    assert processes[0].stderr is not None
    assert b"Traceback" not in processes[0].stderr.read()
    assert LOST in (tmp_path / "between.log").read_text()
    assert Store(tmp_path / "between").run(dense_spec().run_id).status() == "missing"


# -- provenance --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "17"}, "17"),
        ({"SLURM_JOB_ID": "19", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "2"}, "17_2"),
    ],
)
def test_a_session_names_its_job_and_how_many_processes_share_it(
    environment: dict[str, str], job: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    session = provenance.session(CPU, deterministic=False, processes=4)
    assert (session.job, session.processes) == (job, 4)
