"""What a prediction costs: ways that predict the same, times that are compared fairly, bytes counted by hand."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.errors import UserError
from bench.evaluation.clock import ROUNDS, compare_times
from bench.evaluation.latency import FinishedEnsemble, UnstackedError, measure, one_after_the_other, stacked
from bench.evaluation.weight_forms import two_to_four, weight_bytes, without_masks
from bench.spec.run import MASK_PREFIX
from bench.store.latency import MANY, ONE
from bench.store.store import Store
from tests.evaluation.stored import SPECS, finished_run, networks_of, normalised, random_images
from tests.training.runs import CPU, dense_spec

IMAGES = normalised(random_images(6))


@pytest.mark.parametrize("kind", ["two tickets", "channels last", "bf16"])
def test_stacked_networks_predict_what_they_do_one_after_the_other(tmp_path: Path, kind: str) -> None:
    networks = networks_of(tmp_path, SPECS[kind])
    together = stacked(networks, IMAGES, SPECS[kind].execution.precision)
    with torch.no_grad():
        found, expected = together(IMAGES), one_after_the_other(networks)(IMAGES)
        mean = torch.stack([network.logits(IMAGES, "x")[0].softmax(dim=-1) for network in networks]).mean(dim=0)
    torch.testing.assert_close(expected, mean)
    tolerance = 3e-2 if kind == "bf16" else 1e-5
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    assert found.dtype == torch.float32


@pytest.mark.parametrize("kind", ["mc dropout", "mimo", "batch ensemble", "tree net"])
def test_members_in_one_network_are_not_stacked(tmp_path: Path, kind: str) -> None:
    networks = networks_of(tmp_path, SPECS[kind])
    with pytest.raises(UnstackedError, match="its members are in one network"):
        stacked(networks, IMAGES, "fp32")
    assert one_after_the_other(networks)(IMAGES).shape == (len(IMAGES), 10)


def test_networks_that_come_to_something_else_together_are_not_stacked(tmp_path: Path) -> None:
    networks = networks_of(tmp_path, SPECS["two tickets"])
    network = networks[1].model
    forward = network.forward
    # What a module has besides parameters and buffers is that of the first one in a stack.
    network.forward = lambda images: -forward(images)  # type: ignore[method-assign]
    with pytest.raises(UnstackedError, match=r"its predictions would be others, by \d"):
        stacked(networks, IMAGES, "fp32")


def test_a_network_that_torch_cannot_stack_says_why(tmp_path: Path) -> None:
    networks = networks_of(tmp_path, SPECS["two tickets"])
    plain = type(networks[0].model)

    class Looking(plain):  # type: ignore[misc, valid-type]
        """A network that looks at a number."""

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = super().forward(images)
            return logits * float(logits.sum())

    for network in networks:
        network.model.__class__ = Looking
    with pytest.raises(UnstackedError, match=r"torch cannot: .*item"):
        stacked(networks, IMAGES, "fp32")


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that goes on when told: what another process does in between takes no time."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("bench.evaluation.clock.time", SimpleNamespace(perf_counter=lambda: clock.now))

    def go_on(seconds: float) -> None:
        clock.now += seconds

    return go_on


def test_every_round_times_all_calls_in_turn(passes: Callable[[float], None]) -> None:
    order: list[str] = []

    def call(name: str, seconds: float) -> Tensor:
        order.append(name)
        passes(seconds)
        return IMAGES

    calls = {name: (lambda _, n=name, s=seconds: call(n, s)) for name, seconds in (("a", 0.004), ("b", 0.008))}
    found = compare_times(calls, lambda _: call("reference", 0.002), IMAGES, 0.0)
    assert order[-3 * ROUNDS :] == ["reference", "a", "b"] * ROUNDS  # after two calls each that warm up
    assert (found["a"].seconds, found["b"].seconds) == pytest.approx((0.004, 0.008))
    assert (found["a"].over_reference, found["b"].over_reference) == pytest.approx((2, 4))


def test_calls_repeat_until_they_fill_their_time(passes: Callable[[float], None]) -> None:
    counts = {"quick": 0, "reference": 0}

    def call(name: str) -> Tensor:
        counts[name] += 1
        passes(0.001)
        return IMAGES

    compare_times({"quick": lambda _: call("quick")}, lambda _: call("reference"), IMAGES, 0.0505 * ROUNDS)
    assert counts == dict.fromkeys(counts, 2 + 50 * ROUNDS)  # after two that warm up


def test_bytes_of_weights_are_those_counted_by_hand() -> None:
    mask = np.zeros((3, 2, 1, 5), bool)
    mask[0, 0, 0, :4] = True  # 4 of 30 weights in 3 rows
    ticket = {
        "conv.weight": np.ones((3, 2, 1, 5), np.float32),
        "norm.running_mean": np.ones(7, np.float32),
        MASK_PREFIX + "conv.weight": mask,
    }
    tensors, masks = without_masks([ticket, ticket])
    found = weight_bytes(tensors, masks)
    assert found.dense == 2 * (30 * 4 + 28)
    assert found.bits == 2 * (4 * 4 + 4 + 28)  # 30 bits are 4 bytes
    assert found.csr == 2 * (4 * 4 + 4 * 4 + 4 * 4 + 28)


@pytest.mark.parametrize(
    ("row", "holds"),
    [([1, 1, 0, 0, 0, 1, 0, 1], True), ([1, 1, 1, 0, 0, 0, 0, 0], False), ([0, 1, 1, 0, 1, 1], True)],
)
def test_two_of_four_is_looked_for_along_rows(row: list[int], holds: bool) -> None:
    assert two_to_four([{"weight": np.array([row, row], bool)}]) is holds


def test_nothing_masked_has_no_pattern() -> None:
    assert two_to_four([{}]) is None


def test_an_ensemble_is_measured_beside_the_dense_network(tmp_path: Path) -> None:
    def finished(*specs_and_members):
        *specs, members = specs_and_members
        return FinishedEnsemble(tuple((spec, finished_run(tmp_path, spec)) for spec in specs), members)

    dense = finished(dense_spec(), 1)
    found = measure("EDST", finished(SPECS["two tickets"], 2), dense, CPU, "now", 0.0)
    assert [(time.batch, time.way) for time in found.times] == [
        (ONE, "one after the other"),
        (ONE, "stacked"),
        (MANY, "one after the other"),
        (MANY, "stacked"),
    ]
    assert all(time.over_dense is not None and time.over_dense > 0 for time in found.times)
    assert found.fastest(MANY).seconds == min(time.seconds for time in found.times if time.batch == MANY)
    assert found.two_to_four is False
    assert found.weights.bits < found.weights.dense  # of random tickets half is kept, for which CSR is larger
    assert found.linear is not None
    alone = measure("dense", dense, None, CPU, "now", 0.0)
    assert alone.unstacked == "a single network"
    assert [time.over_dense for time in alone.times] == [None, None]
    assert (alone.two_to_four, alone.linear) == (None, None)
    assert alone.weights.dense == alone.weights.bits == alone.weights.csr


def test_a_ticket_of_another_network_is_named(tmp_path: Path) -> None:
    spec = dense_spec()
    finished_run(tmp_path, spec)
    other = spec.model_copy(update={"model": spec.model.model_copy(update={"arguments": {"depth": 16, "width": 1}})})
    ensemble = FinishedEnsemble(((other, Store(tmp_path).run(spec.run_id)),), 1)
    with pytest.raises(UserError, match="its network cannot be built: "):
        ensemble.networks(CPU)
