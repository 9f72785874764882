"""Selection without sorting equals selection by sorting, ties included, for any data and memory format."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.sparsity import select
from bench.sparsity.select import exceeding, largest

MILLION = 1_000_000


def assert_selects_as_sorting(values: Tensor, among: Tensor, *counts: int) -> None:
    """Hold both functions against full stable sorts: largest first, of equal ones by C-order index, up or down."""
    magnitude, marked = values.abs().cpu().numpy().ravel(), among.cpu().numpy().ravel()
    index_up = np.flatnonzero(marked)
    for ties, index in (("first", index_up), ("last", index_up[::-1])):
        order = index[np.argsort(-magnitude[index], kind="stable")]
        for count in counts:
            chosen = np.zeros(magnitude.size, dtype=bool)
            chosen[order[:count]] = True
            assert np.array_equal(largest(values, among, count, ties).cpu().numpy().ravel(), chosen), (ties, count)
            if count:
                above = marked & (magnitude > magnitude[order[count - 1]])
                assert np.array_equal(exceeding(values, among, count).cpu().numpy().ravel(), above), count


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def everywhere(values: Tensor) -> Tensor:
    return torch.ones_like(values, dtype=torch.bool)


@pytest.mark.parametrize("device", ["cpu"])
@pytest.mark.parametrize("marked", [0.002, 0.2, 1.0])
def test_a_million_random_entries(marked: float, device: str) -> None:
    values = random(1, MILLION).to(device)
    among = torch.rand(MILLION, generator=torch.Generator().manual_seed(2)).to(device) <= marked
    total = int(among.count_nonzero())
    assert_selects_as_sorting(values, among, 0, 1, total // 10, total // 2, total - total // 1000, total - 1, total)


def alternating(small: float, large: float) -> Tensor:
    return torch.where(torch.arange(MILLION) % 2 == 0, small, large)


PATHOLOGICAL: dict[str, Callable[[], Tensor]] = {
    "99% zeros": lambda: random(3, MILLION) * (random(4, MILLION) > 2.33),
    "all zeros": lambda: torch.zeros(MILLION),
    "constant": lambda: torch.full((MILLION,), -0.25),
    "two values": lambda: alternating(1.0, -2.0),
    "two values of one magnitude": lambda: alternating(0.5, -0.5),
    "ascending": lambda: torch.arange(MILLION, dtype=torch.float32),
    "descending": lambda: torch.arange(MILLION, 0, -1, dtype=torch.float32),
    "a few integers": lambda: random(5, MILLION).round(),
    "a heavy tail": lambda: random(6, MILLION) ** 9,
    "the largest at the end": lambda: torch.cat([torch.full((MILLION - 9,), 1e-3), torch.full((9,), 1e3)]),
    "subnormal": lambda: random(7, MILLION) * 1e-40,
}


@pytest.mark.parametrize("data", PATHOLOGICAL)
def test_pathological_data(data: str) -> None:
    values = PATHOLOGICAL[data]()
    assert_selects_as_sorting(values, everywhere(values), 1, 7_000, MILLION // 2, MILLION - 1)


@pytest.mark.parametrize("large_are_sampled", [True, False], ids=["too large", "too small"])
def test_a_sample_whose_values_are_misleading_changes_nothing(large_are_sampled: bool) -> None:
    sampled = torch.arange(MILLION) % (MILLION // select.SAMPLE | 1) == 0
    values = random(10, MILLION) + torch.where(sampled == large_are_sampled, 100.0, 0.0)
    assert_selects_as_sorting(values, everywhere(values), MILLION // 1000, MILLION // 3)
    assert_selects_as_sorting(values, ~sampled, MILLION // 1000, MILLION // 3)


@st.composite
def selections(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    """Return (values, among, count) of small integers: ties and zeros everywhere; either memory format."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=4, max_size=4)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    values = torch.randint(-2, 3, shape, generator=generator).float()
    among = torch.rand(shape, generator=generator) < draw(st.sampled_from((0.1, 0.5, 1.0)))
    layout = draw(st.sampled_from((torch.contiguous_format, torch.channels_last)))
    count = draw(st.integers(0, int(among.count_nonzero())))
    return values.contiguous(memory_format=layout), among.contiguous(memory_format=layout), count


@given(selection=selections())
def test_ties_go_by_index_in_c_order_whatever_the_memory_format(selection: tuple[Tensor, Tensor, int]) -> None:
    assert_selects_as_sorting(*selection)


def test_ties_by_hand() -> None:
    values = torch.tensor([[3.0, -1.0, 1.0], [1.0, -3.0, 0.0]])
    among = torch.tensor([[True, True, True], [True, False, True]])
    assert largest(values, among, 2, ties="first").tolist() == [[True, True, False], [False, False, False]]
    assert largest(values, among, 2, ties="last").tolist() == [[True, False, False], [True, False, False]]
    assert largest(values, among, 5).equal(among)
    assert not largest(values, among, 0).any()


def test_a_large_channels_last_layer_is_selected_in_c_order() -> None:
    values = random(11, 128, 128, 3, 3).mul(4).round().contiguous(memory_format=torch.channels_last)
    among = (random(12, 128, 128, 3, 3) > 0.8).contiguous(memory_format=torch.channels_last)
    assert_selects_as_sorting(values, among, 100, 5_000, int(among.count_nonzero()) - 3)


def test_nothing_is_written_to_the_arguments() -> None:
    values, among = random(13, 50, 50), random(14, 50, 50) > 0
    before = values.clone(), among.clone()
    largest(values, among, 100)
    assert values.equal(before[0])
    assert among.equal(before[1])


def test_a_view_into_a_larger_storage_is_selected_from_alone() -> None:
    part = torch.arange(100.0)[10:30]  # its neighbours are larger
    assert largest(part, everywhere(part), 3).nonzero().flatten().tolist() == [17, 18, 19]
