"""FLOPs against the protocol's check values, and hours against hand calculation."""

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.grid import load_grid
from bench.models.layers import layers_of
from bench.plan import make_plan
from bench.plan.cost import ASSUMED_TFLOPS, EPOCH_SECONDS, RUN_SECONDS, Speeds, forward_flops, training_flops
from bench.plan.remarks import assumed_references
from bench.recipes import Setting
from bench.recipes.alternating import acdc
from bench.recipes.fixed import step_decay
from bench.recipes.pruning import gradual_pruning
from bench.spec.run import Augmentation, DataSpec, Execution, ModelSpec, Optimizer, RunSpec, Topology
from bench.store.measured import MeasuredStep
from bench.store.store import Throughput
from tests.grid_text import PAPER_CONFIGS, load_text

WRN_28_10 = ModelSpec(name="wide_resnet", arguments={"depth": 28, "width": 10})
WRN_10_1 = ModelSpec(name="wide_resnet", arguments={"depth": 10, "width": 1})
CIFAR10 = DataSpec(name="cifar10", train_images=45_000, validation_images=5_000, test_images=10_000)
CIFAR100 = CIFAR10.model_copy(update={"name": "cifar100"})


def run_spec(model: ModelSpec = WRN_28_10, density: float | None = None, epochs: int = 250) -> RunSpec:
    return RunSpec(
        data=CIFAR10,
        model=model,
        topology=None if density is None else Topology(density=density),
        phases=step_decay(Setting(members=1, learning_rate=0.1), epochs=epochs),
        optimizer=Optimizer(),
        batch_size=128,
        augmentation=Augmentation(padding=4, padding_mode="reflect", flip=True),
        validation_augmented=False,
        execution=Execution(),
        seed=18,
    )


def test_wrn_28_10_is_the_networks_size_the_protocol_gives() -> None:
    assert sum(prod(layer.shape) for layer in layers_of(WRN_28_10, CIFAR10)) == 36_461_232
    assert forward_flops(WRN_28_10, CIFAR10) == pytest.approx(10.49e9, abs=0.005e9)


def test_forward_flops_of_the_smallest_network_by_hand() -> None:
    # WRN-10-1: (positions, weights) of each layer, a multiply-add counted as two.
    convolutions = [
        (32 * 32, 9 * 3 * 16),
        *[(32 * 32, 9 * 16 * 16)] * 2,
        (16 * 16, 9 * 16 * 32 + 9 * 32 * 32 + 16 * 32),
        (8 * 8, 9 * 32 * 64 + 9 * 64 * 64 + 32 * 64),
    ]
    by_hand = 2 * (sum(positions * weights for positions, weights in convolutions) + 64 * 10)
    assert forward_flops(WRN_10_1, CIFAR10) == by_hand


@pytest.mark.parametrize(
    ("data", "density", "fraction"),
    [(CIFAR10, 0.2, 0.3396), (CIFAR10, 0.1, 0.1686), (CIFAR100, 0.2, 0.3374), (CIFAR100, 0.1, 0.1663)],
)
def test_forward_fractions_of_the_protocol(data: DataSpec, density: float, fraction: float) -> None:
    sparse = forward_flops(WRN_28_10, data, Topology(density=density))
    assert sparse / forward_flops(WRN_28_10, data) == pytest.approx(fraction, abs=5e-5)


def test_training_flops_of_a_dense_run() -> None:
    assert training_flops(run_spec()) == pytest.approx(3.54e17, abs=0.005e17)


# WRN-28-10 by hand, in units of a 3x3 convolution from 160 to 160 channels on 32x32 positions (the same FLOPs as 320 to
# 320 on 16x16, and 640 to 640 on 8x8): a block is 2; the first of a group reads fewer channels and has a shortcut.
UNIT = 2 * 9 * 160 * 160 * 32 * 32
FIRST_BLOCKS = [16 / 160 + 1 + 16 / 160 / 9, 1 / 2 + 1 + 1 / 2 / 9, 1 / 2 + 1 + 1 / 2 / 9]
STEM, CLASSIFIER = 2 * 9 * 3 * 16 * 32 * 32 / UNIT, 2 * 640 * 10 / UNIT
WHOLE = STEM + sum(FIRST_BLOCKS) + 9 * 2 + CLASSIFIER
HEAD = 3 * 2 + CLASSIFIER  # the last three blocks and the classifier
TREE = (WHOLE + 2 * HEAD) / WHOLE
# MIMO reads nine channels instead of three and has three classifiers.
MIMO = (WHOLE + 2 * STEM + 2 * CLASSIFIER) / WHOLE
# uncertainty-baselines trains on 50,000 images, a dense run here on 45,000 for 250 epochs.
UB = 50_000 / 45_000


@pytest.mark.parametrize(
    ("name", "training", "prediction", "runs"),
    [
        ("dense", 1.0, 1.0, 1),
        ("MC dropout 1 sample", 200 / 250 * UB, 1.0, 1),
        ("MC dropout 30 samples", 200 / 250 * UB, 30.0, 1),
        ("MIMO M=3", 4 * UB * MIMO, MIMO, 1),
        ("EDST M=3 S=0.8", 450 / 250 * 0.3396, 3 * 0.3396, 1),
        ("EDST M=7 S=0.9", 850 / 250 * 0.1686, 7 * 0.1686, 1),
        ("TreeNet M=3", TREE, TREE, 1),
        ("BatchEnsemble M=4", 4 * UB, 4.0, 1),
        ("LTR M=3 S=0.8", 1 + 3 * 0.25, 3 * 0.25, 4),
        ("static M=3 S=0.8", 3 * 0.3396, 3 * 0.3396, 3),
        ("PF M=3 S=0.8", 3 + 3 * 0.25, 3 * 0.25, 6),
        ("DST M=3 S=0.8", 3 * 0.3396, 3 * 0.3396, 3),
        ("dense ensemble M=4", 4.0, 4.0, 4),
    ],
)
def test_costs_of_the_paper_grid(name: str, training: float, prediction: float, runs: int) -> None:
    plan = make_plan(load_grid(PAPER_CONFIGS / "cifar10.yaml"), "paper", None)
    assert {cell.name for cell in plan.cells} >= {name}
    cell = next(cell for cell in plan.cells if cell.name == name)
    assert cell.train_flops_ratio == pytest.approx(training, abs=5e-4)
    assert cell.inference_flops_ratio == pytest.approx(prediction, abs=5e-4)
    assert len(cell.all_runs(0)) == runs


def test_the_hand_arithmetic_is_about_the_right_network() -> None:
    assert pytest.approx(forward_flops(WRN_28_10, CIFAR10), rel=1e-9) == WHOLE * UNIT
    assert pytest.approx(1.5, abs=0.05) == TREE  # "1.5 forward passes"


@pytest.mark.parametrize(
    ("name", "ratio"), [("EDST M=3 S=0.8", 0.611), ("EDST M=7 S=0.9", 0.573), ("DST M=3 S=0.8", 1.019)]
)
def test_the_ratios_that_the_protocol_states(name: str, ratio: float) -> None:
    plan = make_plan(load_grid(PAPER_CONFIGS / "cifar10.yaml"), "paper", None)
    assert next(c for c in plan.cells if c.name == name).train_flops_ratio == pytest.approx(ratio, abs=5e-4)


def test_imagenet_edst_of_four_is_a_fifth_of_a_dense_ensemble_of_four() -> None:
    plan = make_plan(load_grid(PAPER_CONFIGS / "imagenet.yaml"), "paper", None)
    ratios = {cell.name: cell.train_flops_ratio for cell in plan.cells}
    assert ratios["EDST M=4 S=0.8"] == pytest.approx(310 / 150 * 0.414, abs=1e-3)  # 0.855
    assert ratios["EDST M=4 S=0.8"] / ratios["dense ensemble M=4"] == pytest.approx(1 / 5, abs=0.02)
    # every image is seen by all four members; 10,000 images validate the other rows
    assert ratios["BatchEnsemble M=4"] == pytest.approx(4 * 135 / 150 * 1_281_167 / 1_271_167)


def test_gradual_pruning_costs_the_sum_over_its_steps() -> None:
    phases = gradual_pruning(Setting(members=1, learning_rate=0.1), epochs=250, update_every=1000)
    spec = run_spec().model_copy(update={"phases": phases, "topology": Topology(density=0.2, distribution="uniform")})
    first, last = 50 * 352, 200 * 352

    def sparsity(step: int) -> float:
        """The sparsity of the last update at or before a step."""
        at = last if step >= last else first + (step - first) // 1000 * 1000
        return 0.8 * (1 - (1 - (at - first) / (last - first)) ** 3) if step >= first else 0.0

    # step t computes with the masks after step t - 1
    total = sum(1 - sparsity(step) for step in range(250 * 352)) / 352
    assert training_flops(spec) / training_flops(run_spec()) == pytest.approx(total / 250)


def test_acdc_costs_its_dense_epochs_and_a_share_of_its_sparse_ones() -> None:
    # 10 + 4 x 20 epochs of all weights, 4 x 20 + 30 of a fifth, in layers of one density
    phases = acdc(Setting(members=1, learning_rate=0.1), epochs=200)
    spec = run_spec().model_copy(update={"phases": phases, "topology": Topology(density=0.2, distribution="uniform")})
    assert training_flops(spec) / training_flops(run_spec(epochs=200)) == pytest.approx((90 + 0.2 * 110) / 200)


def test_weights_of_all_members_together() -> None:
    plan = make_plan(load_grid(PAPER_CONFIGS / "cifar10.yaml"), "paper", None)
    ratios = {cell.name: cell.parameters_ratio for cell in plan.cells}
    expected = {
        "MC dropout 30 samples": 1.0,
        "EDST M=7 S=0.9": 0.7,
        "BatchEnsemble M=4": 1.0,
        "PF M=3 S=0.8": 0.6,
        "dense ensemble M=4": 4.0,
        # two more heads: three blocks of 640 channels and the classifier
        "TreeNet M=3": 1 + 2 * (6 * 9 * 640 * 640 + 6400) / 36_461_232,
    }
    for name, ratio in expected.items():
        assert ratios[name] == pytest.approx(ratio, rel=1e-9), name


@given(density=st.floats(0.01, 0.99), epochs=st.integers(4, 1000))
def test_uniform_density_is_the_fraction_of_the_flops(density: float, epochs: int) -> None:
    topology = Topology(density=density, distribution="uniform")
    dense = run_spec(WRN_10_1, epochs=epochs)
    sparse = dense.model_copy(update={"topology": topology})
    assert training_flops(sparse) == pytest.approx(density * training_flops(dense))
    assert training_flops(dense) == pytest.approx(3 * forward_flops(WRN_10_1, CIFAR10) * 45_000 * epochs)


@given(low=st.floats(0.01, 0.99), high=st.floats(0.01, 0.99))
def test_erk_flops_grow_with_density_and_stay_below_dense(low: float, high: float) -> None:
    low, high = sorted((low, high))
    costs = [forward_flops(WRN_28_10, CIFAR10, Topology(density=density)) for density in (low, high)]
    assert 0 < costs[0] <= costs[1] <= forward_flops(WRN_28_10, CIFAR10)


def measured(spec: RunSpec, device: str, images_per_second: float) -> Throughput:
    model, execution = spec.model.model_dump(), spec.execution.model_dump()
    return Throughput(model, execution, device, f"some {device}", images_per_second)


def test_hours_come_from_the_speed_measured_for_the_same_network_and_execution() -> None:
    spec = run_spec(epochs=8)
    other = spec.model_copy(update={"execution": Execution(precision="bf16")})
    throughputs = [measured(spec, "cuda", 50.0), measured(spec, "cuda", 100.0), measured(spec, "cuda", 1e9)]
    estimate = Speeds([*throughputs, measured(other, "cuda", 7.0)], None, None).estimate(spec)
    assert estimate.hours == pytest.approx((RUN_SECONDS + 8 * 45_000 / 100) / 3600)
    assert estimate.basis == ("measured in this store", 100.0, "some cuda")


def test_a_speed_counts_for_its_own_kind_of_device() -> None:
    spec = run_spec()
    on_cpu = [measured(spec, "cpu", 10.0)]
    assert Speeds(on_cpu, None, None).estimate(spec).device == "CPU"
    assert Speeds(on_cpu, "cpu", None).estimate(spec).basis.measured
    on_gpu = Speeds(on_cpu, "cuda", None).estimate(spec)
    assert on_gpu.device == "GPU"
    assert not on_gpu.basis.measured
    both = Speeds([*on_cpu, measured(spec, "cuda", 1000.0)], None, None)
    assert both.estimate(spec).device == "GPU"


def checked(spec: RunSpec, device: str, images_per_second: float, **changes: Any) -> Throughput:
    step = {
        "data": spec.data.name,
        "image_size": 32,
        "method": "dst",
        "model": spec.model,
        "execution": spec.execution,
        "batch_size": spec.batch_size,
        "images_per_second": images_per_second,
        "seconds": spec.batch_size / images_per_second,
        "steps": 2,
        "tflops": 1.0,
    }
    return replace(measured(spec, device, images_per_second), step=MeasuredStep.model_validate(step | changes))


def test_a_check_counts_where_no_run_is_finished_and_validation_is_added() -> None:
    spec = run_spec(epochs=8)
    checks = [checked(spec, "cuda", rate, host_bytes=size) for rate, size in ((50.0, 7), (100.0, 9), (1e9, None))]
    estimate = Speeds(checks, None, None).estimate(spec)
    images = 45_000 + spec.data.validation_images / 3
    assert estimate.hours == pytest.approx((RUN_SECONDS + 8 * (EPOCH_SECONDS + images / 100)) / 3600)
    assert str(estimate.basis) == "measured by `bench check`, 100 images/s on some cuda"
    assert (estimate.host_bytes, estimate.device_bytes) == (9, None)
    with_run = Speeds([*checks, measured(spec, "cuda", 10.0)], None, None).estimate(spec)
    assert with_run.hours == pytest.approx((RUN_SECONDS + 8 * 45_000 / 10) / 3600)
    assert with_run.host_bytes == 9


def test_a_check_on_other_images_of_the_size_counts_where_none_is_on_its_own() -> None:
    spec = run_spec()
    other, own = checked(spec, "cuda", 70.0, data="cifar100"), checked(spec, "cuda", 50.0)
    assert Speeds([other], None, None).estimate(spec).basis.rate == 70
    assert Speeds([other, own], None, None).estimate(spec).basis.rate == 50


@pytest.mark.parametrize("other", [{"image_size": 16}, {"batch_size": 1}])
def test_a_check_of_images_of_another_size_or_another_batch_says_nothing(other: dict[str, Any]) -> None:
    spec = run_spec()
    estimate = Speeds([checked(spec, "cpu", 10.0, **other)], None, None).estimate(spec)
    assert not estimate.basis.measured
    assert estimate.host_bytes is None


def test_without_a_measurement_a_masked_run_takes_the_time_of_a_dense_one() -> None:
    for density in (None, 0.1):
        estimate = Speeds([], "cuda", 10.0).estimate(run_spec(density=density))
        assert estimate.hours == pytest.approx(3.54e17 / 10e12 / 3600, rel=2e-3)
        assert str(estimate.basis) == "assumed, dense FLOPs at 10 TFLOP/s on a GPU"
    default = Speeds([], "cuda", None).estimate(run_spec())
    assert default.hours == pytest.approx(3.54e17 / (ASSUMED_TFLOPS["cuda"] * 1e12) / 3600, rel=2e-3)


def test_costs_that_rest_on_an_assumption_are_marked() -> None:
    plan = make_plan(load_grid(PAPER_CONFIGS / "cifar10.yaml"), "paper", None)
    assert {cell.name for cell in plan.cells if cell.flops_assumed} == {"LTR M=3 S=0.8", "PF M=3 S=0.8"}


def test_cells_without_a_dense_run_of_their_network_say_what_they_are_divided_by(tmp_path: Path) -> None:
    text = """
base: {data: digits, sparsity: 0.8, model: {name: wide_resnet, depth: 10, width: 1}}
cells:
  - {name: beside, method: dst, recipe: {epochs: 8, update_every: 5}}
  - {name: alone, method: dst, recipe: {epochs: 8, update_every: 5}, model: {width: 2}}
  - {name: dense, method: dense, sparsity: 0.0, recipe: {epochs: 8}}
scales: {half: {epochs: 0.5}}
"""
    plan = make_plan(load_text(tmp_path, text), "paper", None)
    assert {cell.name: cell.assumed_epochs for cell in plan.cells} == {"beside": None, "alone": 250, "dense": None}
    (said,) = assumed_references(plan.cells)
    assert said.startswith("training of alone: in dense runs of 250 epochs, as the grid has no dense cell")
    assert assumed_references([cell for cell in plan.cells if cell.name != "alone"]) == []
    half = make_plan(load_text(tmp_path, text), "half", None)
    assert [cell.assumed_epochs for cell in half.cells] == [None, 125, None]
