"""What a prediction of finished tickets costs: one after the other or stacked into one call."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from bench.data.catalog import facts_of
from bench.errors import UserError
from bench.evaluation.clock import Predict, compare_times
from bench.evaluation.networks import Network, load_networks
from bench.evaluation.weight_forms import time_sparse_linear, two_to_four, weight_bytes, without_masks
from bench.models.members import MultiMember
from bench.spec.run import RunSpec
from bench.store.latency import MANY, ONE, EnsembleLatency, PredictionTime, Way
from bench.store.run_folder import RunFolder

# Probabilities of stacked networks, whose sums have another order.
CLOSE = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2}


class UnstackedError(Exception):
    """Networks cannot be stacked into one call; the message says why."""


@dataclass(frozen=True)
class FinishedEnsemble:
    """The runs of one replicate, all done, and how many of their members it has."""

    runs: tuple[tuple[RunSpec, RunFolder], ...]
    members: int

    def networks(self, device: torch.device) -> list[Network]:
        """Return its tickets on a device; UserError if a file is damaged, or a network is another by now."""
        networks: list[Network] = []
        for spec, folder in self.runs:
            try:
                networks += load_networks(spec, folder, device, deterministic=False, samples=self.members)
            except (ValueError, TypeError, RuntimeError) as error:
                raise UserError(f"{folder.path}: its network cannot be built: {error}") from error
        return networks


def measure(
    cell: str,
    ensemble: FinishedEnsemble,
    dense: FinishedEnsemble | None,
    device: torch.device,
    taken: str,
    seconds: float,
) -> EnsembleLatency:
    """Return what predictions of an ensemble cost, and what its weights take.

    dense     the single dense network that it is timed in turn with; None: there is none
    seconds   of each way and batch
    """
    spec, _ = ensemble.runs[0]
    execution = spec.execution
    networks = ensemble.networks(device)
    calls: dict[Way, Predict] = {"one after the other": one_after_the_other(networks)}
    reference = calls["one after the other"] if dense is None else one_after_the_other(dense.networks(device))
    unstacked, times = "", []
    with torch.no_grad():
        for batch in (ONE, MANY):
            images = _images(spec, batch, device)
            if batch == ONE:
                try:
                    calls["stacked"] = stacked(networks, images, execution.precision)
                except UnstackedError as why:
                    unstacked = str(why)
            for way, timing in compare_times(calls, reference, images, seconds).items():
                ratio = None if dense is None else timing.over_reference
                times.append(PredictionTime(batch=batch, way=way, seconds=timing.seconds, over_dense=ratio))
        tickets = [folder.ticket(ticket.index) for _, folder in ensemble.runs for ticket in folder.result().tickets]
        weights, masks = without_masks(tickets)
        linear = time_sparse_linear(networks[0].model, masks[0], device, MANY, seconds)
    return EnsembleLatency(
        cell=cell,
        runs=tuple(run.run_id for run, _ in ensemble.runs),
        members=ensemble.members,
        taken=taken,
        precision=execution.precision,
        times=tuple(times),
        unstacked=unstacked,
        weights=weight_bytes(weights, masks),
        two_to_four=two_to_four(masks),
        linear=linear,
    )


def _images(spec: RunSpec, count: int, device: torch.device) -> Tensor:
    """Return images of noise, normalised, float32 [count, 3, H, W] in the memory layout of the run."""
    size = facts_of(spec.data).image_size
    layout = torch.channels_last if spec.execution.channels_last else torch.contiguous_format
    drawn = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return drawn.to(device).to(memory_format=layout)


def one_after_the_other(networks: Sequence[Network]) -> Predict:
    """Return images -> mean probabilities [B, classes] of all members, network by network."""

    def predict(images: Tensor) -> Tensor:
        logits = torch.cat([network.logits(images, "latency") for network in networks])
        return logits.softmax(dim=-1).mean(dim=0)

    return predict


def stacked(networks: Sequence[Network], images: Tensor, precision: str) -> Predict:
    """Return the same function as one call of all networks at once, their weights side by side.

    UnstackedError if there is one network, if they hold several members each, if torch cannot, or if it comes to other
    predictions of `images`.
    """
    models = [network.model for network in networks]
    if any(isinstance(model, MultiMember) for model in models):
        raise UnstackedError("its members are in one network")
    if len(models) < 2:
        raise UnstackedError("a single network")
    try:
        parameters, buffers = stack_module_state(models)
        base = copy.deepcopy(models[0]).to("meta")

        def call(parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
            logits: Tensor = functional_call(base, (parameters, buffers), (images,))
            return logits

        together = torch.vmap(call, in_dims=(0, 0, None))

        def predict(images: Tensor) -> Tensor:
            with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = together(parameters, buffers, images)
            return logits.float().softmax(dim=-1).mean(dim=0)

        difference = (predict(images) - one_after_the_other(networks)(images)).abs().max()
    except (RuntimeError, ValueError, NotImplementedError, TypeError, KeyError) as error:
        raise UnstackedError(f"torch cannot: {str(error).strip().partition(chr(10))[0][:200]}") from error
    if not difference <= CLOSE[precision]:
        raise UnstackedError(f"its predictions would be others, by {float(difference):.1e}")
    return predict
