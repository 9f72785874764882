"""Evaluating a ticket end to end against the bare forward passes of its network, eager, in the same precision.

End to end is reading from a memory-mapped file, normalising, predicting, logits to the host, and the file of logits
with its record, one set after another. The baseline passes over the same images, in memory and normalised, in batches
of the same size. Sets are timed in turn, so that a drifting machine hits both alike.
"""

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.data.augment import DeviceImages
from bench.data.catalog import DATASETS
from bench.data.dataset import LabelledImages, at_once
from bench.data.stream import StreamedImages
from bench.evaluation.networks import load_networks, normaliser
from bench.evaluation.predict import predict_all
from bench.spec.run import DataSpec, Execution, ModelSpec, RunSpec
from bench.store.logits import StoredLogits
from tests.benchmarks.test_step_speed import fast_bf16
from tests.evaluation.stored import finished_run
from tests.training.runs import dense_spec

IMAGES, SETS = 1_000, 4
ROUNDS = 3
FLOOR = 0.85  # of the bare throughput
FACTS = DATASETS["cifar10"]
CPU = torch.device("cpu")


def spec_of(precision: str) -> RunSpec:
    return dense_spec(
        data=DataSpec(name="cifar10", train_images=100, validation_images=100, test_images=IMAGES),
        model=ModelSpec(name="wide_resnet", arguments={"depth": 16, "width": 2}),
        execution=Execution.model_validate({"precision": precision}),
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_evaluation_of_a_ticket(precision: str, benchmark: Any, tmp_path: Path) -> None:
    if precision == "bf16" and not fast_bf16():
        pytest.skip("this CPU has neither AVX512-BF16 nor AMX: bf16 would be emulated")
    spec = spec_of(precision)
    folder = finished_run(tmp_path, spec)
    networks = load_networks(spec, folder, CPU, deterministic=False)
    evaluated = StoredLogits.of_run(folder)
    random = np.random.default_rng(0)
    labels = random.integers(10, size=IMAGES)
    file = tmp_path / "corrupted.npy"
    np.save(file, random.integers(256, size=(SETS * IMAGES, 32, 32, 3), dtype=np.uint8))
    images = DeviceImages(LabelledImages(np.load(file), labels), FACTS.mean, FACTS.std)
    size = at_once(images.side)
    in_memory = [images.plain(start, start + size) for start in range(0, IMAGES, size)]
    bare: list[float] = []
    ours: list[float] = []

    @torch.inference_mode()
    def forward_alone() -> None:
        for batch in in_memory:
            networks[0].forward(batch)

    def end_to_end(number: int) -> None:
        part = slice(number * IMAGES, (number + 1) * IMAGES)
        opened = LabelledImages(np.load(file, mmap_mode="r")[part], labels)
        made = predict_all(networks, StreamedImages(opened, normaliser(spec, CPU)), f"set/{number}")
        facts = {"images": "random", "seconds": made.seconds, "forward_seconds": made.forward_seconds, "device": "cpu"}
        evaluated.write(f"set/{number}", made.logits, labels, **facts)

    def in_turn() -> None:
        for number in range(SETS):
            started = time.perf_counter()
            forward_alone()
            between = time.perf_counter()
            end_to_end(number)
            bare.append(between - started)
            ours.append(time.perf_counter() - between)

    benchmark.group = "evaluation, WRN-16-2"
    benchmark.pedantic(in_turn, rounds=ROUNDS, warmup_rounds=1)
    # Medians of two interleaved series, the first round left out: one slow pass of either counts for nothing.
    ratio = statistics.median(bare[SETS:]) / statistics.median(ours[SETS:])
    rate = IMAGES / statistics.median(ours[SETS:])
    benchmark.extra_info |= {"ratio": round(ratio, 3), "images_per_second": round(rate), "floor": FLOOR}
    print(f"\n{precision}: {ratio:.3f} of the bare throughput, {rate:.0f} images/s")
    assert evaluated.logits("set/0")[0].shape == (1, IMAGES, 10)
    assert ratio >= FLOOR
