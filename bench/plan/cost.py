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
from typing import Any, Literal, NamedTuple, assert_never

from bench.data.catalog import facts_of
from bench.models.catalog import inputs_per_image, passes_per_image
from bench.models.layers import ImageKey, ModelKey, cached_layers, cached_rest
from bench.sparsity.distribution import DISTRIBUTIONS
from bench.spec.phases import Densify, GlobalExploration, GradualPruning, Inherit, Prune
from bench.spec.run import DataSpec, ModelSpec, ResizedCrop, RunSpec, Topology
from bench.store.measured import MeasuredStep
from bench.store.store import Throughput

PASSES_A_STEP = 3
# How the weights that global magnitude leaves divide over the layers is known only when the parent is trained. Planned
# as if their share of the FLOPs were this times their share of the weights, which is what the 1.75 dense runs of LTR at
# S=0.8 amount to (protocol: 1 + 3 x 0.25).
GLOBAL_FLOPS = 1.25
# Of an original file of ImageNet, 115 KB, with its crop: measured on an AMD EPYC core (Zen 5); others take up to twice.
DECODE_SECONDS = 0.002
# Round numbers to plan with until the store has measured its own: one data-centre GPU, two server cores.
ASSUMED_TFLOPS = {"cuda": 20.0, "cpu": 0.1}
# What nothing is faster than, however small: to begin and end a run, an epoch beside its steps, and a training step for
# each layer with weights, since a processor starts the kernels of a GPU one by one too. Measured on a core of a shared
# server (x86-64, torch 2.15, seconds of the processor) and rounded down: 0.3 between the last epoch of a run and the
# first of the next; 0.08 an epoch that validates 32 images; a step on 2 images of 8 pixels 9.3 ms for WRN-10-1, 20 ms
# for WRN-28-1. No GPU was measured.
RUN_SECONDS = 0.3
EPOCH_SECONDS = 0.05
STEP_SECONDS_A_LAYER = 0.0007


def forward_flops(model: ModelSpec, data: DataSpec, topology: Topology | None = None) -> float:
    """Return the FLOPs of a forward pass of one input, at the layer-wise density of a topology (None: dense)."""
    return _forward_flops(ModelKey.of(model), ImageKey.of(data), topology)


def prediction_ratio(spec: RunSpec, members: int) -> float:
    """Return the FLOPs of predicting an image with so many members over those of the plain dense network."""
    ticket = forward_flops(spec.model, spec.data, spec.topology) * passes_per_image(spec.model)
    plain = _forward_flops(ModelKey.plain(spec.model), ImageKey.of(spec.data), None)
    return ticket * members / spec.model.members / plain


def parameters_ratio(spec: RunSpec, members: int) -> float:
    """Return the active weights of so many members over those of the plain dense network; samples share theirs."""
    tickets = 1.0 if spec.model.samples_members else members / spec.model.members
    images = ImageKey.of(spec.data)
    whole = _size(ModelKey.of(spec.model), images) / _size(ModelKey.plain(spec.model), images)
    return tickets * _active_share(ModelKey.of(spec.model), images, spec.topology) * whole


def training_flops(spec: RunSpec) -> float:
    """Return the FLOPs of a run over all its epochs, those of its parent not included."""
    if spec.topology is None or not spec.starts_dense:
        epochs = forward_flops(spec.model, spec.data, spec.topology) * spec.epochs
    else:
        epochs = forward_flops(spec.model, spec.data) * _dense_epochs(spec, spec.topology)
    return PASSES_A_STEP * epochs * spec.data.train_images * inputs_per_image(spec.model)


def dense_training_flops(spec: RunSpec, epochs: float) -> float:
    """Return the FLOPs of `epochs` epochs of the run's network, several members and all, without masks."""
    images = spec.data.train_images * inputs_per_image(spec.model)
    return PASSES_A_STEP * forward_flops(spec.model, spec.data) * images * epochs


def reference_flops(model: ModelSpec, data: DataSpec, epochs: float) -> float:
    """Return the FLOPs of `epochs` epochs of the plain, dense, single network behind a model."""
    return PASSES_A_STEP * _forward_flops(ModelKey.plain(model), ImageKey.of(data), None) * data.train_images * epochs


def decoding_hours(spec: RunSpec) -> float:
    """Return the hours that one core decodes for a run; 0 where images are in memory."""
    if not isinstance(spec.augmentation, ResizedCrop):
        return 0.0
    return spec.epochs * spec.data.train_images * DECODE_SECONDS / 3600


def _dense_epochs(spec: RunSpec, topology: Topology) -> float:
    """Return how many epochs of the dense network a run that prunes costs."""
    target = forward_flops(spec.model, spec.data, topology) / forward_flops(spec.model, spec.data)
    current, total = 1.0, 0.0
    for phase in spec.phases:
        for action in phase.on_start:
            match action:
                case Prune():
                    current = target
                case Densify():
                    current = 1.0
                case GlobalExploration() | Inherit():
                    pass  # as many weights as before
                case _:
                    assert_never(action)
        if phase.pruning is not None:
            total += _pruned_epochs(phase.pruning, phase.epochs, spec.steps_per_epoch, target)
            current = target
        else:
            total += phase.epochs * current
    return total


def _pruned_epochs(pruning: GradualPruning, epochs: int, steps_per_epoch: int, target: float) -> float:
    """Return the share of dense FLOPs summed over a phase, in epochs; layers are pruned in proportion."""
    first, last = pruning.begin * steps_per_epoch, pruning.end * steps_per_epoch
    updates = [*range(first + pruning.every, last, pruning.every), last]
    share, begun, total = 1.0, 0, 0.0
    for step in updates:
        total += share * (step - begun)
        share, begun = 1 - (pruning.progress(step, steps_per_epoch) or 0.0) * (1 - target), step
    return (total + share * (epochs * steps_per_epoch - begun)) / steps_per_epoch


@cache
def _forward_flops(key: ModelKey, images: ImageKey, topology: Topology | None) -> float:
    layers, rest = cached_layers(key, images), cached_rest(key, images).flops
    if topology is None:
        return float(sum(layer.flops for layer in layers) + rest)
    masked = [layer for layer in layers if topology.masks(layer.name)]
    rest += sum(layer.flops for layer in layers if not topology.masks(layer.name))
    if topology.distribution == "global":
        return min(1.0, GLOBAL_FLOPS * topology.density) * float(sum(layer.flops for layer in masked)) + rest
    densities = DISTRIBUTIONS[topology.distribution]({layer.name: layer.shape for layer in masked}, topology.density)
    return sum(densities[layer.name] * layer.flops for layer in masked) + rest


@cache
def _layers(key: ModelKey, images: ImageKey) -> int:
    """Return how many layers with weights a network has."""
    return len(cached_layers(key, images))


@cache
def _size(key: ModelKey, images: ImageKey) -> int:
    """Return the weights of a network, those that cannot be masked included."""
    layers, others = cached_layers(key, images), cached_rest(key, images).parameters
    return sum(layer.size for layer in layers) + sum(other.size for other in others)


def _active_share(key: ModelKey, images: ImageKey, topology: Topology | None) -> float:
    """Return the share of those weights that a topology leaves active."""
    if topology is None:
        return 1.0
    total = _size(key, images)
    masked = sum(layer.size for layer in cached_layers(key, images) if topology.masks(layer.name))
    dense = total - masked
    return (topology.density * masked + dense) / total if dense else topology.density


_KINDS: dict[str, Literal["GPU", "CPU"]] = {"cuda": "GPU", "cpu": "CPU"}


class Basis(NamedTuple):
    """How hours were estimated: from what, and at which rate, images/s on a device or TFLOP/s on a kind of device."""

    how: Literal["measured in this store", "measured by `bench check`", "assumed"]
    rate: float
    device: str

    @property
    def measured(self) -> bool:
        """Whether they were measured."""
        return self.how != "assumed"

    def __str__(self) -> str:
        if self.measured:
            return f"{self.how}, {self.rate:,.0f} images/s on {self.device}"
        return f"{self.how}, dense FLOPs at {self.rate:g} TFLOP/s on a {self.device}"


@dataclass(frozen=True)
class Hours:
    """Hours of training of a run, the kind of device they are spent on, and how they were estimated.

    host_bytes, device_bytes   the most memory of its process beside its images, and of its GPU, where a check says so
    """

    hours: float
    device: Literal["GPU", "CPU"]
    basis: Basis
    host_bytes: int | None = None
    device_bytes: int | None = None


class Speeds:
    """Speeds measured in a store, by network, execution and kind of device; a stated rate where there is none.

    Finished runs say it best; without one, a check that took the same steps does.

    throughputs   Store.throughputs()
    device        "cpu" or "cuda" counts only what was measured there; None prefers a GPU's speed, but assumes a CPU's
    tflops        the rate to assume; None: ASSUMED_TFLOPS
    """

    def __init__(self, throughputs: Iterable[Throughput], device: str | None, tflops: float | None) -> None:
        self._devices = ("cuda", "cpu") if device is None else (device,)
        self._tflops = ASSUMED_TFLOPS[self._devices[-1]] if tflops is None else tflops
        self._runs: defaultdict[str, list[Throughput]] = defaultdict(list)
        self._checks: defaultdict[str, list[tuple[str, MeasuredStep]]] = defaultdict(list)
        for speed in throughputs:
            key = _key(speed.device, speed.model, speed.execution)
            if speed.step is None:
                self._runs[key].append(speed)
            else:
                self._checks[key].append((speed.device_name, speed.step))

    def estimate(self, spec: RunSpec) -> Hours:
        """Return the hours of a run: images over the measured images a second, else dense FLOPs over the rate.

        No run is faster than its start, its epochs and its steps are at least (RUN_SECONDS and the constants below it).
        """
        for device in self._devices if self._runs or self._checks else ():
            key = _key(device, spec.model.model_dump(), spec.execution.model_dump())
            steps = self._steps(key, spec)
            if not steps and key not in self._runs:
                continue
            host, of_device = (
                max((size for _, step in steps if (size := getattr(step, name)) is not None), default=None)
                for name in ("host_bytes", "device_bytes")
            )
            if key in self._runs:
                rate, name = median(run.images_per_second for run in self._runs[key]), self._runs[key][-1].device_name
                epoch, basis = spec.data.train_images / rate, Basis("measured in this store", rate, name)
            else:
                rate, name = median(step.images_per_second for _, step in steps), steps[-1][0]
                # A check times training alone.
                images = spec.data.train_images + spec.data.validation_images / PASSES_A_STEP
                epoch, basis = EPOCH_SECONDS + images / rate, Basis("measured by `bench check`", rate, name)
            return Hours((RUN_SECONDS + spec.epochs * epoch) / 3600, _KINDS[device], basis, host, of_device)
        counted = dense_training_flops(spec, 1) / (self._tflops * 1e12)
        least = spec.steps_per_epoch * STEP_SECONDS_A_LAYER * _layers(ModelKey.of(spec.model), ImageKey.of(spec.data))
        kind = _KINDS[self._devices[-1]]
        seconds = RUN_SECONDS + spec.epochs * (EPOCH_SECONDS + max(counted, least))
        return Hours(seconds / 3600, kind, Basis("assumed", self._tflops, kind))

    def _steps(self, key: str, spec: RunSpec) -> list[tuple[str, MeasuredStep]]:
        """Return the steps of a run as checks measured them, whatever the method: masks save no time.

        Without any on its images, those on others of their size: only the last layer knows how many classes there are.
        """
        images = facts_of(spec.data).image_size, spec.batch_size
        steps = [named for named in self._checks.get(key, ()) if (named[1].image_size, named[1].batch_size) == images]
        return [named for named in steps if named[1].data == spec.data.name] or steps


def _key(device: str, model: Mapping[str, Any], execution: Mapping[str, Any]) -> str:
    return json.dumps([device, model, execution], sort_keys=True)
