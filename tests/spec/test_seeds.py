"""Seeds that depend on what they are for and on nothing else, in any process."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from bench.spec.seeds import derived_seed

ROOT = Path(__file__).resolve().parents[2]


def test_the_seed_is_the_first_63_bits_of_a_sha256() -> None:
    # printf 18/order/3 | sha256sum begins 0df7c98e3afb3587; halved.
    assert derived_seed(18, "order", 3) == 0x0DF7C98E3AFB3587 >> 1


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_another_process_derives_the_same(hash_seed: str) -> None:
    code = "from bench.spec.seeds import derived_seed; print(derived_seed(7, 'mask', 'conv1.weight'))"
    environment = {"PYTHONHASHSEED": hash_seed}
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert int(printed.stdout) == derived_seed(7, "mask", "conv1.weight")


def test_no_two_purposes_share_a_seed() -> None:
    purposes = [*itertools.product(range(20), ("order", "crop", "flip", "mask"), range(50))]
    purposes += [(seed, "mask", f"block{i}.conv.weight") for seed in range(20) for i in range(50)]
    seeds = {derived_seed(*purpose) for purpose in purposes}
    assert len(seeds) == len(purposes)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(1, 23) != derived_seed(12, 3)
    assert derived_seed(1, 2) != derived_seed(2, 1)


def test_seeds_fill_their_range() -> None:
    seeds = [derived_seed(seed) for seed in range(2000)]
    assert abs(sum(seeds) / len(seeds) / 2**62 - 1) < 0.05
    assert sum(seed & 1 for seed in seeds) == pytest.approx(1000, abs=110)
