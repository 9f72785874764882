"""A GPU selects weights as sorting does, and draws what a seed says."""

import pytest
from hypothesis import given
from torch import Tensor

from tests.models import test_draws
from tests.sparsity import test_select
from tests.sparsity.test_select import assert_selects_as_sorting, selections


@pytest.mark.parametrize("marked", [0.002, 0.2, 1.0])
def test_a_million_random_entries(marked: float) -> None:
    test_select.test_a_million_random_entries(marked, "cuda")


@given(selection=selections())
def test_ties_go_by_index_in_c_order_whatever_the_memory_format(selection: tuple[Tensor, Tensor, int]) -> None:
    values, among, count = selection
    assert_selects_as_sorting(values.cuda(), among.cuda(), count)


def test_draws_are_what_a_seed_says() -> None:
    test_draws.test_a_block_draws_what_its_seed_says_and_the_draws_around_it_go_on("cuda")
    test_draws.test_a_network_that_draws_predicts_as_the_seed_says("cuda")
