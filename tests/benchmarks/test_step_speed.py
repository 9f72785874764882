"""A training step against a plain one: eager, NCHW, float32, dense, torch.optim.SGD, its batch already in memory.

Ours is everything the training loop does for a step: batch cut and augmented, forward, backward, optimiser, masks. The
baseline is timed before each of our rounds, in the same process, so that a drifting machine hits both alike.
"""

import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from bench.data.augment import DeviceImages, draw_epoch
from bench.data.catalog import DATASETS
from bench.data.dataset import LabelledImages
from bench.models.build import build_model
from bench.models.catalog import network_layers
from bench.recipes import METHODS, RELEASED, RecipeWithParent, Setting
from bench.spec.run import (
    BatchEnsemble,
    DataSpec,
    Execution,
    McDropout,
    Mimo,
    ModelSpec,
    MultiMemberSpec,
    Optimizer,
    RunSpec,
    Topology,
    TreeNet,
)
from bench.training.trainer import Trainer
from tests.benchmarks.promises import promised

BATCH = 128
ROUNDS = 11
FACTS = DATASETS["cifar10"]
WRN_16_2 = ModelSpec(name="wide_resnet", arguments={"depth": 16, "width": 2})
Step = Callable[[], None]


def flops_ratio(ensemble: MultiMemberSpec) -> float:
    """Return the FLOPs of a network of several members over those of the plain one."""
    several = network_layers(WRN_16_2.model_copy(update={"ensemble": ensemble}), 10, 32)
    return sum(layer.flops for layer in several) / sum(layer.flops for layer in network_layers(WRN_16_2, 10, 32))


@dataclass(frozen=True)
class Row:
    """A line of docs/benchmarks.md: our step over the baseline, or over our own dense step of the same network.

    limits     the promise by kind of processor; empty where none is made
    ensemble   the network holds several members; `images` of a batch make as many inputs as the dense step has
    """

    method: str
    execution: Execution
    limits: Mapping[str, float]
    over: str = "plain"
    ensemble: MultiMemberSpec | None = None
    images: int = BATCH


FP32 = Execution(precision="fp32", channels_last=True)
BF16 = Execution(precision="bf16", channels_last=True)


def anywhere(limit: float) -> dict[str, float]:
    """Return a limit for both kinds: such a ratio compares two steps of ours, and did not differ between them."""
    return {"AVX512": limit, "AVX2": limit}


TREE = TreeNet(members=3, head_blocks=2)  # of six, as eight of twelve
ROWS = {
    "dense fp32": Row("dense", FP32, {}),
    "dst fp32": Row("dst", FP32, {"AVX512": 0.87, "AVX2": 0.93}),
    "dst bf16": Row("dst", BF16, {"AVX512": 0.48}),  # AVX512-BF16 or AMX, else it is emulated and skipped
    "dst fp32 compiled": Row("dst", Execution(compile=True), {}),
    **{
        f"{method} over our dense": Row(method, FP32, anywhere(1.03), over="dense")
        for method in ("dst", "static", "prune_finetune", "lottery_rewinding", "gradual_pruning", "snapshot")
    },
    "mc_dropout over our dense": Row("dense", FP32, {}, "dense", McDropout()),
    "mimo over our dense": Row("dense", FP32, anywhere(1.1), "dense", Mimo(members=3, batch_repetitions=4), BATCH // 4),
    "batch_ensemble over our dense": Row("dense", FP32, anywhere(1.25), "dense", BatchEnsemble(members=4), BATCH // 4),
    "tree_net over our dense": Row("dense", FP32, anywhere(1.15 * flops_ratio(TREE)), "dense", TREE),
}


class NoWriter:
    """Writes nothing: no phase ends here."""

    def write_ticket(self, *_: Any) -> str:
        raise AssertionError("a phase ended")

    write_rewind_checkpoint = write_ticket


def fast_bf16() -> bool:
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))


def our_step(row: Row, execution: Execution) -> Step:
    setting = Setting(members=1, learning_rate=0.01, semantics=RELEASED)
    phases = METHODS[row.method].recipe(setting)
    if isinstance(phases, RecipeWithParent):  # where the weights come from costs a step nothing
        phases = tuple(phase.model_copy(update={"on_start": ()}) for phase in phases.phases)
    spec = RunSpec(
        data=DataSpec(name="cifar10", train_images=8 * BATCH, validation_images=BATCH, test_images=BATCH),
        model=WRN_16_2.model_copy(update={"ensemble": row.ensemble}),
        topology=None if METHODS[row.method].sparse == "never" else Topology(density=0.2),
        phases=phases,
        optimizer=Optimizer(),
        batch_size=row.images,
        augmentation=FACTS.augmentation,
        validation_augmented=False,
        execution=execution,
        seed=0,
    )
    random = np.random.default_rng(0)
    images = LabelledImages(
        random.integers(256, size=(8 * BATCH, 32, 32, 3), dtype=np.uint8), random.integers(10, size=8 * BATCH)
    )
    train = DeviceImages(images, FACTS.mean, FACTS.std, augmentation=spec.augmentation)
    trainer = Trainer(spec, train, train, torch.device("cpu"), NoWriter(), classes=10)
    trainer.model.train()
    draws = draw_epoch(8 * BATCH, spec.augmentation, 0, "train", 0)
    index, offsets, flips = (drawn[: row.images] for drawn in (draws.order, draws.offsets, draws.flips))

    def step() -> None:
        trainer.at.step = 0  # the mask update, every 1,000 steps, has a benchmark of its own
        trainer._optimizer.set_rate(trainer.phase.lr.at(trainer.at.steps, spec.steps_per_epoch, trainer.phase.epochs))
        trainer._step(train.batch(index, offsets, flips), train.labels[index])

    return step


def plain_step(model: ModelSpec = WRN_16_2) -> Step:
    network = build_model(model, 10, seed=0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return step


@pytest.mark.parametrize("name", ROWS)
def test_training_step(name: str, benchmark: Any) -> None:
    row = ROWS[name]
    if row.execution.precision == "bf16" and not fast_bf16():
        pytest.skip("this CPU has neither AVX512-BF16 nor AMX: bf16 would be emulated")
    if row.execution.compile and shutil.which("c++") is None:
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    ours = our_step(row, row.execution)
    other = plain_step() if row.over == "plain" else our_step(Row("dense", row.execution, {}), row.execution)
    seconds: list[float] = []

    def baseline() -> None:
        started = time.perf_counter()
        other()
        seconds.append(time.perf_counter() - started)

    benchmark.group = "training step, WRN-16-2, batch 128"
    benchmark.pedantic(ours, setup=baseline, rounds=ROUNDS, warmup_rounds=3)
    # The medians of two interleaved series: one slow round of either counts for nothing.
    ratio = benchmark.stats.stats.median / statistics.median(seconds[-ROUNDS:])
    benchmark.extra_info |= {"baseline": row.over, "ratio": round(ratio, 3)}
    print(f"\n{name}: {ratio:.3f} of the {row.over} step")
    limit = promised(row.limits) if row.limits else None
    benchmark.extra_info |= {"limit": limit, "processor": torch.backends.cpu.get_cpu_capability()}
    if limit is not None:
        assert ratio <= limit
