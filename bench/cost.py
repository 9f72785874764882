"""What a run costs before it is trained: FLOPs from the layer table, hours from measured or stated speed.

Conventions, as in RigL and the paper: a multiply-add is two FLOPs; convolutions and the linear layer
count, batch norm and activations do not; a training step is three forward passes of the batch (forward, gradient of
the activations, gradient of the weights), each at the layer-wise density of the masks. The dense gradient of a mask
update and evaluation are not counted. Masks save these FLOPs on paper only: today's hardware trains a masked network
at dense speed, so hours come from dense FLOPs.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any, Literal

from bench.data.catalog import DATASETS
from bench.models.catalog import NETWORKS, Layer
from bench.sparsity.distribution import DISTRIBUTIONS
from bench.spec import DataSpec, ModelSpec, RunSpec, Topology

PASSES_A_STEP = 3
# Round numbers to plan with until the store has measured its own: one data-centre GPU, two server cores.
ASSUMED_TFLOPS = {"cuda": 20.0, "cpu": 0.1}


def layers_of(model: ModelSpec, data: DataSpec) -> tuple[Layer, ...]:
    """Return the weight layers of a network for the images of a data set; ValueError if there is no such network."""
    return _layers(model.name, tuple(model.arguments.items()), data.name)


def forward_flops(model: ModelSpec, data: DataSpec, topology: Topology | None = None) -> float:
    """Return the FLOPs of a forward pass of one image, at the layer-wise density of a topology (None: dense)."""
    density, distribution = (1.0, "erk") if topology is None else (topology.density, topology.distribution)
    return _forward_flops(model.name, tuple(model.arguments.items()), data.name, density, distribution)


def training_flops(spec: RunSpec) -> float:
    """Return the FLOPs of a run over all its epochs."""
    return _flops_of_epochs(spec, spec.topology, spec.epochs)


def dense_training_flops(spec: RunSpec, epochs: float) -> float:
    """Return the FLOPs of `epochs` epochs of the run's network without masks."""
    return _flops_of_epochs(spec, None, epochs)


def _flops_of_epochs(spec: RunSpec, topology: Topology | None, epochs: float) -> float:
    return PASSES_A_STEP * forward_flops(spec.model, spec.data, topology) * spec.data.train_images * epochs


@cache
def _forward_flops(
    network: str, arguments: tuple[tuple[str, Any], ...], dataset: str, density: float, distribution: str
) -> float:
    layers = _layers(network, arguments, dataset)
    densities = DISTRIBUTIONS[distribution]({layer.name: layer.shape for layer in layers}, density)
    return sum(densities[layer.name] * layer.flops for layer in layers)


@cache
def _layers(network: str, arguments: tuple[tuple[str, Any], ...], dataset: str) -> tuple[Layer, ...]:
    facts = DATASETS[dataset]
    return NETWORKS[network].layers(facts.classes, facts.image_size, **dict(arguments))


_KINDS: dict[str, Literal["GPU", "CPU"]] = {"cuda": "GPU", "cpu": "CPU"}


@dataclass(frozen=True)
class Hours:
    """Hours of training of a run, the kind of device they are spent on, and how they were estimated."""

    hours: float
    device: Literal["GPU", "CPU"]
    basis: str


class Speeds:
    """Speeds measured in a store, by network, execution and kind of device; a stated rate where there is none.

    throughputs   Store.throughputs()
    device        "cpu" or "cuda" counts only what was measured there; None prefers a GPU's speed, but assumes a CPU's
    tflops        the rate to assume; None: ASSUMED_TFLOPS
    """

    def __init__(self, throughputs: Iterable[Mapping[str, Any]], device: str | None, tflops: float | None) -> None:
        self._devices = ("cuda", "cpu") if device is None else (device,)
        self._tflops = ASSUMED_TFLOPS[self._devices[-1]] if tflops is None else tflops
        measured = defaultdict(list)
        for one in throughputs:
            measured[_key(one["device"], one["model"], one["execution"])].append(one)
        self._measured = {
            key: (median(float(one["images_per_second"]) for one in found), str(found[-1]["device_name"]))
            for key, found in measured.items()
        }

    def estimate(self, spec: RunSpec) -> Hours:
        """Return the hours of a run: images over the measured images a second, else dense FLOPs over the rate."""
        for device in self._devices if self._measured else ():
            found = self._measured.get(_key(device, spec.model.model_dump(), spec.execution.model_dump()))
            if found is not None:
                rate, name = found
                hours = spec.epochs * spec.data.train_images / rate / 3600
                return Hours(hours, _KINDS[device], f"measured in this store, {rate:,.0f} images/s on {name}")
        hours = dense_training_flops(spec, spec.epochs) / (self._tflops * 1e12) / 3600
        kind = _KINDS[self._devices[-1]]
        return Hours(hours, kind, f"assumed, dense FLOPs at {self._tflops:g} TFLOP/s on a {kind}")


def _key(device: str, model: Mapping[str, Any], execution: Mapping[str, Any]) -> str:
    return json.dumps([device, model, execution], sort_keys=True)
