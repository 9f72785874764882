"""One pass over an evaluation set: every batch is read once, while the one before it is seen by all tickets."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from bench.data.dataset import at_once
from bench.data.stream import Batches
from bench.evaluation.networks import Network
from bench.store.run_folder import Array


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
    for start, batch in _read_ahead(images):
        between_batches()
        before = time.perf_counter()
        logits = torch.cat([network.logits(batch, name, start) for network in networks])
        parts.append(logits.cpu().numpy())  # waits for the device, so that the clock is right
        forward_seconds += time.perf_counter() - before
    return Predictions(np.concatenate(parts, axis=1), time.perf_counter() - started, forward_seconds)


def _read_ahead(images: Batches) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield batches with the place of their first image, each read while the caller works with the one before it."""
    size = at_once(images.side)
    with ThreadPoolExecutor(1) as reader:
        starts = range(0, len(images), size)
        reads = (reader.submit(images.plain, start, min(start + size, len(images))) for start in starts)
        following = next(reads, None)
        for start in starts:
            assert following is not None
            batch, following = following.result(), next(reads, None)
            yield start, batch
