"""The memory that a worker asks for, by hand and against a real run."""

import subprocess
import sys
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.evaluation.sets import AttackSet
from bench.grid import load_grid
from bench.plan import make_plan
from bench.recipes import Setting
from bench.recipes.fixed import step_decay
from bench.spec.phases import Inherit
from bench.spec.run import Augmentation, BatchEnsemble, DataSpec, Execution, Mimo, ModelSpec, Optimizer, RunSpec
from bench.work.items import EnsembleWork, RunWork, Work
from bench.work.together import MOST_BYTES, bytes_in_pass
from slurm import resources
from slurm.resources import (
    GIGABYTES,
    activation_bytes,
    evaluated_bytes,
    image_bytes,
    memory_bytes,
    memory_gb,
    weight_bytes,
)
from slurm.site import Site
from tests.grid_text import PAPER_CONFIGS, REPOSITORY, write_grid

CPU = Site(gpus=0)
# WRN-10-1: weights of its convolutions and its linear layer; outputs of each convolution, shortcuts included.
WEIGHTS = (
    9 * 3 * 16 + 2 * 9 * 16 * 16 + (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32) + (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64) + 640
)
OUTPUTS = 3 * 16 * 32 * 32 + 3 * 32 * 16 * 16 + 3 * 64 * 8 * 8 + 10


def run_spec(width: int = 1, batch_size: int = 32, ensemble: Mimo | BatchEnsemble | None = None) -> RunSpec:
    return RunSpec(
        data=DataSpec(name="digits", train_images=1000, validation_images=180, test_images=360),
        model=ModelSpec(name="wide_resnet", arguments={"depth": 10, "width": width}, ensemble=ensemble),
        topology=None,
        phases=step_decay(Setting(members=1, learning_rate=0.1), epochs=8),
        optimizer=Optimizer(),
        batch_size=batch_size,
        augmentation=Augmentation(padding=4, padding_mode="zero", flip=False),
        validation_augmented=False,
        execution=Execution(),
        seed=18,
    )


def work(*specs: RunSpec) -> Work:
    return Work(runs=tuple(RunWork(spec=spec, cell="a") for spec in specs))


# -- memory ------------------------------------------------------------------------------------------------------------


def test_images_by_hand() -> None:
    # All 1,797 digits of 32 x 32, as read and as joined; 1,180 of them padded to 40 x 40.
    assert image_bytes(run_spec()) == 2 * 1797 * 32 * 32 * 3 + 1180 * 40 * 40 * 3


def test_weights_by_hand() -> None:
    assert weight_bytes(run_spec()) == 8 * 4 * WEIGHTS
    child = run_spec().phases[0].model_copy(update={"on_start": (Inherit(weights="ticket"),)})
    inherits = run_spec().model_copy(update={"parent": run_spec(), "phases": (child, *run_spec().phases[1:])})
    assert weight_bytes(inherits) == 9 * 4 * WEIGHTS


def test_activations_by_hand() -> None:
    # Few images a step: an attack on all 360 test images is larger, and so is their prediction, of the widest layer.
    assert activation_bytes(run_spec(batch_size=32), attacked=True) == 2 * 4 * 360 * OUTPUTS
    assert activation_bytes(run_spec(batch_size=32)) == 2 * 4 * 360 * 16 * 32 * 32
    assert activation_bytes(run_spec(batch_size=512)) == 2 * 4 * 512 * OUTPUTS
    assert activation_bytes(run_spec(batch_size=1025), processes=2) == 2 * 4 * 513 * OUTPUTS
    cifar10 = DataSpec(name="cifar10", train_images=45_000, validation_images=5_000, test_images=10_000)
    many = run_spec().model_copy(update={"data": cifar10})
    assert activation_bytes(many, attacked=True) == 2 * 4 * 500 * OUTPUTS


def test_activations_count_every_input_of_a_network_with_several_members() -> None:
    assert activation_bytes(run_spec(batch_size=128, ensemble=BatchEnsemble(members=4))) == 2 * 4 * 512 * OUTPUTS
    # The classifier of MIMO has ten outputs a member.
    mimo = run_spec(batch_size=128, ensemble=Mimo(members=3, batch_repetitions=4))
    assert activation_bytes(mimo) == 2 * 4 * 512 * (OUTPUTS + 20)


def test_a_host_keeps_no_activations_of_a_gpu() -> None:
    spec = run_spec(batch_size=512)
    cpu, gpu = memory_bytes(spec, CPU), memory_bytes(spec, Site(gpus=1))
    assert cpu == 1e9 + image_bytes(spec) + weight_bytes(spec) + activation_bytes(spec)
    assert gpu == 4e9 + image_bytes(spec) + weight_bytes(spec)


def test_the_largest_run_counts_with_the_margin_and_up_to_the_next_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = run_spec(), run_spec(width=4, batch_size=512)
    needed = memory_bytes(large, CPU) / 2**30
    for margin, asked in ((1.0, 4), (3.99 / needed, 4), (4.01 / needed, 8), (1100.5 / needed, 1101)):
        monkeypatch.setattr(resources, "MARGIN", margin)
        assert memory_gb(work(small, large, small), CPU) == memory_gb(work(large), CPU) == asked


def test_an_attack_keeps_the_activations_of_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = run_spec(width=4)
    monkeypatch.setattr(resources, "GIGABYTES", ())
    monkeypatch.setattr(resources, "MARGIN", 2**30)  # then it says bytes
    attack = AttackSet(steps=0, budget=8, images=100)
    ensemble = EnsembleWork(runs=(spec.run_id,), members=1, cell="a", attacks=(attack,))
    attacked = work(spec).model_copy(update={"ensembles": (ensemble,)})
    assert memory_gb(attacked, CPU) == ceil(memory_bytes(spec, CPU, attacked=True))
    assert memory_gb(work(spec), CPU) == ceil(memory_bytes(spec, CPU)) < ceil(memory_bytes(spec, CPU, attacked=True))


def test_a_measured_peak_takes_the_place_of_the_estimate_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "GIGABYTES", ())
    monkeypatch.setattr(resources, "MARGIN", 2**30)  # then it says bytes
    spec, peak = run_spec(width=4, batch_size=512), 3_000_000_000
    assert memory_gb(work(spec), CPU, {spec.run_id: peak}) == image_bytes(spec) + peak
    assert memory_gb(work(spec), CPU, {"another": peak}) == ceil(memory_bytes(spec, CPU))
    # What it does not say: the networks of one pass, an attack, a share of the batch.
    assert memory_bytes(spec, CPU, together=MOST_BYTES, peak=peak) == image_bytes(spec) + 1e9 + MOST_BYTES
    assert memory_bytes(spec, CPU, attacked=True, peak=peak) == memory_bytes(spec, CPU, attacked=True)
    divided = Site(gpus=0, processes=2)
    assert memory_bytes(spec, divided, peak=peak) == memory_bytes(spec, divided)


def test_what_is_evaluated_in_one_pass_counts_where_it_is_more_than_a_run_trained() -> None:
    spec, gpu = run_spec(), Site(gpus=1)
    of_one, logits = bytes_in_pass(spec, spec.data.test_images), 4 * 10 * spec.data.test_images
    assert evaluated_bytes([spec] * 3, CPU) == 3 * of_one
    assert evaluated_bytes([spec] * 3, gpu) == 3 * logits
    assert evaluated_bytes([spec] * 100_000, CPU) == MOST_BYTES
    assert memory_bytes(spec, CPU, together=of_one) == memory_bytes(spec, CPU)
    assert memory_bytes(spec, CPU, together=MOST_BYTES) == memory_bytes(spec, CPU) - weight_bytes(spec) + MOST_BYTES


@pytest.mark.parametrize(("memory", "asked"), [("3GB", 3), ("3999MB", 3), ("auto", 4), (None, None)])
def test_the_most_memory_of_a_site_is_a_rung(memory: str | None, asked: int | None) -> None:
    site = Site(gpus=0, memory=memory)
    found = memory_gb(work(run_spec(width=4, batch_size=512)), site)
    assert found == asked


@given(width=st.integers(1, 12), batch_size=st.integers(1, 4096), processes=st.integers(1, 8))
def test_memory_grows_with_the_network_and_the_batch_and_shrinks_with_processes(
    width: int, batch_size: int, processes: int
) -> None:
    def needed(width: int, batch_size: int, processes: int) -> int:
        return memory_gb(work(run_spec(width, batch_size)), Site(gpus=0, processes=processes)) or 0

    asked = needed(width, batch_size, processes)
    assert asked in GIGABYTES
    assert asked <= needed(width + 1, batch_size, processes)
    assert asked <= needed(width, 2 * batch_size, processes)
    assert asked >= needed(width, batch_size, processes + 1)


def test_memory_of_the_papers_networks_fits_ordinary_nodes() -> None:
    plan = make_plan(load_grid(PAPER_CONFIGS / "cifar10.yaml"), "paper", None)
    asked = {memory_gb(work(run.spec), Site()) for run in plan.runs}
    assert asked == {12}


def test_a_memory_map_counts_as_the_padded_images_that_are_trained_on() -> None:
    data = DataSpec(name="imagenet64", train_images=1_271_167, validation_images=10_000, test_images=50_000)
    padded = Augmentation(padding=8, padding_mode="zero", flip=True)
    spec = run_spec().model_copy(update={"data": data, "augmentation": padded})
    assert image_bytes(spec) == 1_281_167 * 80 * 80 * 3


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
def test_the_estimate_covers_a_real_run_and_not_four_times_as_much(tmp_path: Path) -> None:
    path = write_grid(
        tmp_path,
        """
        replicates: 1
        cells:
          - name: a
            method: dense
            data: {name: digits, train_images: 128}
            model: {name: wide_resnet, depth: 10, width: 1}
            recipe: {epochs: 3}
        """,
    )
    program = """
import sys
from bench.__main__ import main
try:
    main(["run", *sys.argv[1:]])
finally:
    print(open("/proc/self/status").read())
"""
    arguments = [sys.executable, "-c", program, str(path), "--store", str(tmp_path / "store"), "--device", "cpu"]
    status = subprocess.run(arguments, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    (run,) = make_plan(load_grid(path), "paper", None).runs
    assert peak <= resources.MARGIN * memory_bytes(run.spec, CPU)
    assert memory_bytes(run.spec, CPU) <= 4 * peak


def test_tasks_are_priced_without_torch() -> None:
    program = "import sys, slurm.resources, slurm.site; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)
