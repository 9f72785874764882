"""The memory that a worker asks for: from the images, weights and activations of its largest run. Without torch."""

from collections.abc import Mapping, Sequence
from math import ceil

from bench.data.catalog import facts_of, images_of, is_mapped
from bench.data.dataset import at_once
from bench.data.streamed.tasks import AHEAD, PIECE
from bench.models.catalog import inputs_per_image
from bench.models.layers import layers_of, weights_in
from bench.spec.run import ResizedCrop, RunSpec
from bench.work.items import Work
from bench.work.together import MOST_BYTES, bytes_in_pass
from slurm.site import Site

GIGABYTES = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
# The estimate is multiplied by this before it is rounded up to one of GIGABYTES.
MARGIN = 1.5

# Python and torch, by kind of device. Measured on a CPU (torch 2.15, Linux): 0.85e9 bytes after importing it, 1.1e9 at
# the peak of a run of WRN-10-1. What CUDA, cuDNN and pinned memory take of a GPU's host is assumed.
BASE_BYTES = {"cpu": 1.0e9, "cuda": 4.0e9}
# What CUDA takes of a GPU beside the tensors of torch, and what gaps between these lose, is assumed.
GPU_BASE_BYTES = 1.0e9
# A weight is held as itself, gradient, momentum, best epoch, dense gradient or inherited value, and in a file being
# written; masks and their complements are a byte each.
WEIGHT_COPIES = 7
# The output of each layer: measured 1.7 in the steps of WRN-16-8 and ResNets, 1.5 in an attack on WRN-10-4.
ACTIVATION_COPIES = 2
# The names of ImageNet's files; a process that decodes, of which the first counts for what all of them share.
INDEX_BYTES = int(0.2e9)
DECODER_BYTES = int(0.1e9)


def memory_gb(work: Work, site: Site, peaks: Mapping[str, int] | None = None) -> int | None:
    """Return the host memory, in GB of 1024 MB, of a process that trains and evaluates the largest run of this work.

    None where the site leaves memory to the cluster; at most the site's cap, even where that is too little. `peaks` are
    what a check measured on such a device, beside the images, by run; they take the place of the estimate. Peaks
    measured on a CPU against memory_bytes, both in 1e9 bytes. On digits (batch 128, float32): WRN-10-1 1.12 (estimate
    1.11), WRN-10-4 under DST 1.70 (1.42), FGSM on WRN-10-4 1.84 (2.09), WRN-16-8 2.36 (2.56), MIMO WRN-10-2 1.68
    (1.80), BatchEnsemble WRN-10-2 1.57 (1.80). On streamed images of 224 pixels, two decoders and their server
    included: ResNet-18 with batch 64 3.3 (3.2), ResNet-50 with 24 4.0 (4.5), with 32 4.7 (5.2).
    """
    if site.memory is None:
        return None
    attacked = {run for ensemble in work.ensembles if ensemble.attacks for run in ensemble.runs}
    together = evaluated_bytes([run.spec for run in work.runs], site)
    known = peaks or {}
    of_each = (
        memory_bytes(run.spec, site, attacked=run.id in attacked, together=together, peak=known.get(run.id))
        for run in work.runs
    )
    needed = max(of_each, default=BASE_BYTES[site.device]) * MARGIN / 2**30
    rung = next((rung for rung in GIGABYTES if needed <= rung), ceil(needed))
    return rung if site.memory_cap_gb is None else min(rung, site.memory_cap_gb)


def memory_bytes(
    spec: RunSpec, site: Site, *, attacked: bool = False, together: int = 0, peak: int | None = None
) -> float:
    """Return the estimated peak of host memory of a process of a run, which is attacked or not, without margin.

    together   bytes of what it evaluates along with other runs, when it trains none
    peak       what its training took beside images, measured; an attack keeps more, and is estimated
    """
    images = image_bytes(spec, site.cpus_of_process or 1)
    if peak is not None and not attacked and site.processes == 1:
        return images + max(peak, BASE_BYTES[site.device] + together)
    total = BASE_BYTES[site.device] + images + max(weight_bytes(spec), together)
    return total if site.device == "cuda" else total + activation_bytes(spec, site.processes, attacked=attacked)


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
    return 4 * (WEIGHT_COPIES + tickets) * weights_in(spec.model, spec.data)


def evaluated_bytes(specs: Sequence[RunSpec], site: Site) -> int:
    """Return the bytes of the networks and logits of one pass over the test images; of a GPU's host: of the logits."""
    passes = ((bytes_in_pass(spec, spec.data.test_images), bytes_in_pass(spec, 0)) for spec in specs)
    return min(MOST_BYTES, sum(whole - networks if site.device == "cuda" else whole for whole, networks in passes))


def activation_bytes(spec: RunSpec, processes: int = 1, *, attacked: bool = False) -> int:
    """Return the bytes of activations on a CPU: of a step of each of the processes, or of evaluation, the larger.

    A step and an attack keep the outputs of all layers for the gradient, a prediction those of a layer or two.
    """
    step = ceil(spec.batch_size / processes) * inputs_per_image(spec.model)
    images = min(at_once(facts_of(spec.data).image_size), max(spec.data.test_images, spec.data.validation_images))
    outputs = [layer.shape[0] * layer.positions for layer in layers_of(spec.model, spec.data)]
    predicted = images * (sum(outputs) if attacked else max(outputs))
    return 4 * ACTIVATION_COPIES * ceil(max(step * sum(outputs), predicted))
