"""Random numbers that belong to an image: their distributions, and that they depend on nothing else."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from bench.data.corruptions.draws import NORMAL_STEP, Draws
from bench.data.corruptions.noise import shot_noise

MASK = 2**64 - 1
# A test of a true hypothesis falls below this once in a thousand keys; the key is fixed.
P_VALUE = 1e-3


def splitmix64(state: int) -> tuple[int, int]:
    """The published algorithm, with Python's integers: the next state and the output."""
    state = state + 0x9E3779B97F4A7C15 & MASK
    z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return state, z ^ z >> 31


def test_the_bits_are_those_of_splitmix64() -> None:
    # The first output of seed 0 in the published test vectors.
    assert splitmix64(0)[1] == 0xE220A8397B1DCDAF
    key, index = 2**62 + 12345, 7
    # An image's stream starts where the stream of the key has its index-th output.
    state = key
    for _ in range(index):
        state, start = splitmix64(state)
    words = []
    for _ in range(5):
        start, word = splitmix64(start)
        words.append(word)
    expected = [half for word in words for half in (word & 0xFFFFFFFF, word >> 32)]
    signed = [(half ^ 0x80000000) / 2**32 for half in expected]
    draws = Draws(key, torch.tensor([index]))
    assert torch.cat([draws.uniform(4), draws.uniform(3, 2)[0].view(1, 6)], 1)[0].tolist() == signed


def test_uniform_numbers_are_uniform() -> None:
    values = Draws(1, torch.arange(500)).uniform(20, 20).numpy()
    assert values.shape == (500, 20, 20)
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values.ravel(), "uniform").pvalue > P_VALUE
    # Neighbours in a stream, and the same place of neighbouring images, are unrelated.
    flat = values.reshape(500, -1)
    for one, other in ((flat[:, :-1], flat[:, 1:]), (flat[:-1], flat[1:])):
        correlation = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert abs(correlation) * math.sqrt(one.size) < 4


def test_normal_numbers_are_normal() -> None:
    values = Draws(2, torch.arange(500)).normal(400).numpy()
    assert stats.kstest(values.ravel(), "norm").pvalue > P_VALUE
    assert stats.kurtosis(values.ravel()) == pytest.approx(0, abs=0.04)
    assert np.array_equal(values / NORMAL_STEP, np.round(values / NORMAL_STEP))
    assert 4 < abs(values).max() < 4.4


@pytest.mark.parametrize("photons", [500.0, 50.0])
@pytest.mark.parametrize("level", [0, 1, 100, 255])
def test_shot_noise_is_poisson(level: int, photons: float) -> None:
    levels = torch.full((100, 3, 20, 20), float(level), dtype=torch.float64)
    counts = shot_noise(levels, Draws(level, torch.arange(100)), photons).numpy().ravel() / 255 * photons
    counts, mean = np.round(counts).astype(int), level / 255 * photons
    if level == 0:
        assert not counts.any()
        return
    error = math.sqrt(mean / counts.size)
    assert abs(counts.mean() - mean) < 4 * error
    # The variance of a Poisson variable's variance is (mean + 2 mean^2) / n.
    assert abs(counts.var() - mean) < 4 * math.sqrt((mean + 2 * mean**2) / counts.size)
    share = np.mean(counts == int(mean))
    expected = stats.poisson.pmf(int(mean), mean)
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / counts.size)


def test_draws_depend_on_key_and_index_and_differ_from_call_to_call() -> None:
    together = Draws(3, torch.tensor([5, 0, 10**9]))
    alone = Draws(3, torch.tensor([10**9]))
    first = together.uniform(3)
    assert torch.equal(first[2:], alone.uniform(3))
    assert torch.equal(together.normal(5)[2:], alone.normal(5))
    assert len({*first.flatten().tolist(), *together.uniform(3).flatten().tolist()}) == 18
    assert not (Draws(4, torch.tensor([5, 0, 10**9])).uniform(3) == first).any()


def test_a_draw_without_shape_is_a_number_per_image() -> None:
    assert Draws(3, torch.arange(4)).uniform().shape == (4,)
