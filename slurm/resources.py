"""The memory that a worker asks for: from the images, weights and activations of its largest run. Without torch."""

from collections.abc import Sequence
from math import ceil

from bench.data.catalog import facts_of, images_of, is_mapped
from bench.data.dataset import at_once
from bench.data.streamed.tasks import AHEAD, PIECE
from bench.models.catalog import inputs_per_image
from bench.models.layers import layers_of, rest_of
from bench.spec.run import ResizedCrop, RunSpec
from slurm.site import Site

GIGABYTES = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
# The estimate is multiplied by this before it is rounded up to one of GIGABYTES.
MARGIN = 1.5

# Python and torch, by kind of device. Measured on a CPU (torch 2.15, Linux): 0.85e9 bytes after importing it, 1.1e9 at
# the peak of a run of WRN-10-1. What CUDA, cuDNN and pinned memory take of a GPU's host is assumed.
BASE_BYTES = {"cpu": 1.0e9, "cuda": 4.0e9}
# A weight is held as itself, gradient, momentum, best epoch, dense gradient or inherited value, and in a file being
# written; masks and their complements are a byte each.
WEIGHT_COPIES = 7
# The output of each layer: measured 1.7 in the steps of WRN-16-8 and ResNets, 1.5 in an attack on WRN-10-4.
ACTIVATION_COPIES = 2
# The names of ImageNet's files; a process that decodes, of which the first counts for what all of them share.
INDEX_BYTES = int(0.2e9)
DECODER_BYTES = int(0.1e9)


def memory_gb(specs: Sequence[RunSpec], site: Site) -> int | None:
    """Return the host memory, in GB of 1024 MB, of a process that trains and evaluates the largest of these runs.

    None where the site leaves memory to the cluster; at most the site's cap, even where that is too little. Peaks
    measured on a CPU against memory_bytes, both in 1e9 bytes: WRN-10-1 1.12 (estimate 1.27), WRN-10-4 under DST 1.70
    (2.09), FGSM on WRN-10-4 1.84 (2.09), WRN-16-8 2.36 (4.71), ResNet-50 4.71 (11.65), MIMO WRN-10-2 1.68 (1.79),
    BatchEnsemble WRN-10-2 1.57 (1.60); digits, 360 of them tested on, batch 128, float32, one thread.
    """
    if site.memory is None:
        return None
    needed = max(memory_bytes(spec, site) for spec in specs) * MARGIN / 2**30
    rung = next((rung for rung in GIGABYTES if needed <= rung), ceil(needed))
    return rung if site.memory_cap_gb is None else min(rung, site.memory_cap_gb)


def memory_bytes(spec: RunSpec, site: Site) -> float:
    """Return the estimated peak of host memory of a process of a run, without margin."""
    total = BASE_BYTES[site.device] + image_bytes(spec, site.cpus or 1) + weight_bytes(spec)
    return total if site.gpus else total + activation_bytes(spec, site.processes)


def image_bytes(spec: RunSpec, cpus: int = 1) -> int:
    """Return the bytes of images: the whole data set as it is read and joined, and those trained on, padded.

    Of a memory map only those padded count. Of images that stay in their files: those that validate, twice, and the
    processes that decode, one a further core. Evaluation sets are streamed from disk, so they count for nothing.
    """
    facts = facts_of(spec.data)
    if isinstance(spec.augmentation, ResizedCrop):
        ahead = (cpus - 1) * AHEAD * PIECE
        return 3 * (2 * spec.data.validation_images + ahead) * facts.image_size**2 + INDEX_BYTES + cpus * DECODER_BYTES
    padded = spec.data.train_images + spec.data.validation_images
    side = facts.image_size + 2 * spec.augmentation.padding
    read = 0 if is_mapped(spec.data.name) else 2 * images_of(spec.data)
    return 3 * (read * facts.image_size**2 + padded * side**2)


def weight_bytes(spec: RunSpec) -> int:
    """Return the bytes of float32 weights, of the run's own tickets, and of those it inherits from."""
    tickets = spec.tickets + (spec.parent.tickets if spec.parent else 0)
    layers, others = layers_of(spec.model, spec.data), rest_of(spec.model, spec.data).parameters
    weights = sum(layer.size for layer in layers) + sum(other.size for other in others)
    return 4 * (WEIGHT_COPIES + tickets) * weights


def activation_bytes(spec: RunSpec, processes: int = 1) -> int:
    """Return the bytes of activations on a CPU: of a step of each of the processes, or of an attack, the larger."""
    step = ceil(spec.batch_size / processes) * inputs_per_image(spec.model)
    attack = min(at_once(facts_of(spec.data).image_size), max(spec.data.test_images, spec.data.validation_images))
    outputs = sum(layer.shape[0] * layer.positions for layer in layers_of(spec.model, spec.data))
    return 4 * ACTIVATION_COPIES * max(step, attack) * ceil(outputs)
