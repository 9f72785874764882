"""One pass over an evaluation set: every batch is read once and seen by all tickets of a run."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bench.data.stream import Batches
from bench.evaluation.networks import Network
from bench.store.run_folder import Array

BATCH = 500


@dataclass(frozen=True)
class Predictions:
    """Logits float32 [members, images, classes] on the host, and the seconds of the pass and in networks."""

    logits: Array
    seconds: float
    forward_seconds: float


@torch.inference_mode()
def predict_all(
    networks: Sequence[Network], images: Batches, name: str, between_batches: Callable[[], None] = lambda: None
) -> Predictions:
    """Return what all members of all networks, side by side, predict of the images of the set `name`.

    between_batches   is called before each batch, and may raise to end the pass
    """
    started, forward_seconds = time.perf_counter(), 0.0
    parts = []
    for start in range(0, len(images), BATCH):
        between_batches()
        batch = images.plain(start, min(start + BATCH, len(images)))
        before = time.perf_counter()
        logits = torch.cat([network.logits(batch, name, start) for network in networks])
        parts.append(logits.cpu().numpy())  # waits for the device, so that the clock is right
        forward_seconds += time.perf_counter() - before
    return Predictions(np.concatenate(parts, axis=1), time.perf_counter() - started, forward_seconds)
