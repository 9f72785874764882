"""An evaluation beside the bare forward passes of its network."""

import time

import numpy as np
import torch
from torch import Tensor

from bench.data.catalog import facts_of
from bench.data.dataset import LabelledImages, at_once
from bench.data.stream import StreamedImages
from bench.evaluation.clock import wait
from bench.evaluation.networks import Network, normaliser
from bench.evaluation.predict import predict_all
from bench.models.arithmetic import forward_function
from bench.training.trainer import Trainer

# Batches of images that are evaluated: enough that the next is read while one is predicted. Fewer images where a
# prediction takes long, but so many at least.
EVALUATED, FEWEST = 2, 16
# How many images fit into the time is told by ever larger predictions, since on a GPU a few take as long as many do.
GROWTH, PROBED_SHARE = 4, 0.05
ROUNDS = 2


def evaluation(trainer: Trainer, seconds: float) -> tuple[float, float | None]:
    """Return the images a second of an evaluation of the trainer's network, and that over its bare forward passes.

    Both take about so many seconds, over all rounds; in too few for a whole batch they are not compared.
    """
    spec, device = trainer.spec, trainer.device
    execution = spec.execution.model_copy(update={"compile": False})
    model = trainer.model.eval()
    network = Network(model, forward_function(model, execution, device), spec.model.members, spec.stream, 0)
    side = facts_of(spec.data).image_size
    size = at_once(side)
    pixels = np.random.default_rng(0).integers(256, size=(EVALUATED * size, side, side, 3), dtype=np.uint8)
    source = StreamedImages(LabelledImages(pixels, np.zeros(len(pixels), np.int64)), normaliser(spec, device))
    count = _fitting(network, source, len(pixels), size, seconds / 2 / ROUNDS, device)
    images = StreamedImages(LabelledImages(pixels[:count], np.zeros(count, np.int64)), normaliser(spec, device))
    held = [images.plain(start, min(start + size, count)) for start in range(0, count, size)]
    bare = min(sum(_predict(network, batch, device) for batch in held) for _ in range(ROUNDS))
    whole = min(predict_all([network], images, "check").seconds for _ in range(ROUNDS))
    return count / whole, bare / whole if count >= size else None


def _fitting(
    network: Network, source: StreamedImages, most: int, size: int, seconds: float, device: torch.device
) -> int:
    """Return how many images are predicted in some seconds, in batches of `size`: FEWEST at least, `most` at most."""
    probed = FEWEST
    while True:
        images = source.plain(0, probed)
        _predict(network, images, device)  # sets libraries up
        taken = _predict(network, images, device)
        if probed == size or taken > PROBED_SHARE * seconds:
            return int(min(max(FEWEST, probed / taken * seconds), most))
        probed = min(GROWTH * probed, size)


@torch.inference_mode()
def _predict(network: Network, batch: Tensor, device: torch.device) -> float:
    """Return the seconds of predicting a batch that is on the device."""
    wait(device)
    started = time.perf_counter()
    network.logits(batch, "check", 0)
    wait(device)
    return time.perf_counter() - started
